"""Sets of heads: thresholds, agreement, distances, changes over training."""
