"""Many ablations: a grid of scores and percents, resumable, on one machine or many."""
