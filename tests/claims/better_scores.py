"""What better_scores.md says of its code's results; runs after it, in its namespace."""

import numpy as np

lengths = {}


def look(heads):
    """RON by its formula: the root mean square over tokens, without the first."""
    lengths[heads.layer] = heads.read_norm[0, 1:].square().mean(dim=0).sqrt().numpy()


model.engine.run(ih.TokenBatch.of([[1, 2, 3, 4, 5]]), look)
np.testing.assert_allclose(
    scores.sel(score="RON", sample=0), np.stack(list(lengths.values())), rtol=1e-5
)
assert rod.inactive == ih.get_score("RON").inactive == "below"
assert curves["score"].unique().tolist() == ["ROD", "AHON (LN)"]
