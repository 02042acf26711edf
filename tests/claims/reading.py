"""What reading.md says of its code's results; runs after it, in its namespace."""

import numpy as np
from scipy.stats import wasserstein_distance

distances = ih.analysis.model_distances(both).sel(score="AHON (LN)").values
one, other = (found.sel(score="AHON (LN)").values.ravel() for found in both.values())
expected = wasserstein_distance(one, other)
np.testing.assert_allclose(distances, [[0, expected], [expected, 0]], rtol=1e-6)
assert html.startswith("<!")
assert "llama-style-tiny" in html
assert "gpt2-style-tiny" in html
