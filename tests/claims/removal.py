"""What removal.md says of its code's results; runs after it, in its namespace."""

import numpy as np

assert bool((removed.logits - zeroed.logits).abs().max() < 1e-4)
assert float((removed.logits - ih.ablate(model, samples, None).logits).abs().max()) > 1e-4
count = int(np.asarray(idle).sum())
assert 0 < count == small.provenance["heads_removed"] < model.shape.total_heads
assert small.shape.total_heads == model.shape.total_heads - count
n_weights, n_left, n_with_means = (
    sum(one.numel() for one in found.engine.network.parameters())
    for found in (model, small, with_means)
)
assert n_left < n_with_means < n_weights
