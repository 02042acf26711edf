"""Sweeps: a grid of ablations by score and percent of heads, resumable, on one machine or many."""
