"""Ablations, which choose the heads to silence, and runs of the model with these heads silenced."""
