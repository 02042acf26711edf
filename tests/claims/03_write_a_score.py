"""What the notebook says of its results; its last cell when it is tested."""

import numpy as np

said = str(ih.check_score(steadiness))
assert not ih.check_score(steadiness).passed
assert "padding" in said  # which counts as tokens,
assert "one token" in said  # and with a single one a spread divides by zero
assert ih.check_score("SPREAD").passed
own, normalized = (
    ih.score_heads(model, texts, scores=["SPREAD", "SPREAD (LN)"]).sel(score=name)
    for name in ("SPREAD", "SPREAD (LN)")
)
np.testing.assert_allclose(normalized, own / own.mean("head"), rtol=1e-5)
change = found.table.groupby("score")["change"].mean()
assert change["SPREAD (LN)"] > change["Random"]  # it costs more than heads chosen at random
np.testing.assert_allclose(
    sinks.sel(score="SinkOnToken(position=0)"), sinks.sel(score="AWFT"), rtol=1e-3, atol=1e-4
)
assert ih.check_score(SinkOnToken(0)).passed
