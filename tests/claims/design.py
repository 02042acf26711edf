"""What design.md says of its code's results; runs after it, in its namespace."""

import numpy as np

quiet = []


def look(heads):
    """Which heads are silenced: the one with the smallest output in every layer."""
    silence = silence_the_quietest(heads)
    quiet.append((silence.mask.numpy(), heads.mean_over_tokens(heads.z_norm).numpy()))
    return silence


again = model.engine.run(batch, look)
np.testing.assert_allclose(again, silenced, rtol=1e-5, atol=1e-5)
assert float((silenced - plain).abs().max()) > 1e-3
for mask, size in quiet:
    assert mask.sum(axis=1).tolist() == [1, 1]
    np.testing.assert_array_equal(mask.argmax(axis=1), size.argmin(axis=1))
cells = np.asarray(figure.data[0].z, float)
np.testing.assert_allclose(cells, scores.sel(score="AHON").mean("sample"), rtol=1e-5)
