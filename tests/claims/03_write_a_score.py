"""What the notebook says of its results; its last cell when it is tested."""

import numpy as np

failed = {one.clause for one in ih.check_score(steadiness).failed}
assert "padding" in failed  # which counts as tokens,
assert "one token" in failed  # and with a single one a spread divides by zero
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
