"""What own_score.md says of its code's results; runs after it, in its namespace."""

import numpy as np

assert ih.get_score(SinkOnToken(3)).name == "SinkOnToken(position=3)"
assert ih.get_score("SINK3").inactive == "above"
assert ih.get_score(steady).inactive == "below"
assert scores["score"].values.tolist() == ["steady", "steady (LN)", "MAXZ (LN)"]
own, normalized = scores.sel(score="steady"), scores.sel(score="steady (LN)")
np.testing.assert_allclose(normalized, own / own.mean("head"), rtol=1e-5)
for name in ("MAXZ", "MAXZ (LN)", "SINK3", "SINK3 (LN)"):
    assert ih.get_score(name).name == name
sinks = ih.score_heads(model, samples, scores=[SinkOnToken(0), "AWFT"])
np.testing.assert_allclose(sinks[0], sinks[1], rtol=1e-4)
# Normalized AUC minus the unablated accuracy: (60.1 + 58.9) / 2 - 60.1, (60.1 + 48.2) / 2 - 60.1.
published = ih.rank_scores(ih.read_curves("mmlu_curves.csv")).set_index("score")
gains = published["normalized_auc"] - 60.1
np.testing.assert_allclose(gains[["AHON (LN)", "AWFT"]], [-0.6, -5.95])
# The published score's rank by its own gain, among two, is known.
row = found.standing.set_index("score").loc["AHON (LN)"]
assert row["published_rank"] == 1
