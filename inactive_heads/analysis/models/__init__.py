"""Comparisons of models by their scores: distances, families, and checkpoints of one model."""
