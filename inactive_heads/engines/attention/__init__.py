"""A layer's attention, computed exactly and without holding the pattern."""
