"""Sets of heads: thresholds, agreement, distances, and changes over training."""
