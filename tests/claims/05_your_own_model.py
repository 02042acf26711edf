"""What the notebook says of its results; its last cell when it is tested."""

import numpy as np

alike = scores.sel(score="AHON (LN)")
assert 0.5 < float(alike.min()) < float(alike.max()) < 1.5  # random weights: of one size
assert small.shape.n_heads == 8
assert len(texts) == 4
ours = ih.score_heads(mine, samples)
np.testing.assert_allclose(by_bridge, ours, rtol=1e-3, atol=1e-5)  # the same numbers
cached = ih.score_cache(cache, scores=["AWFT", "AHON (LN)"])
np.testing.assert_allclose(
    cached, ours.sel(score=["AWFT", "AHON (LN)"]).isel(sample=[0]), rtol=1e-3, atol=1e-5
)
real, random = found[demo.name].sel(score="AHON (LN)"), found[mine.name].sel(score="AHON (LN)")
assert float(real.min()) < 0.5  # far below their layer's mean;
assert float(random.min()) > 0.5  # random weights have none
