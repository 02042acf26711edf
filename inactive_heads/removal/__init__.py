"""Heads removed from a model's weights: a smaller model that computes what zeroing computes."""
