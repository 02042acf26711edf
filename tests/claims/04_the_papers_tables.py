"""What the notebook says of its results; its last cell when it is tested."""

mean = gains[["reference", "best", "gain"]].mean()
assert abs(mean["best"] - mean["reference"] - mean["gain"]) < 1e-9
counts = ih.count_ranks(ranking).set_index("score")
if path.exists():
    assert (len(gains), metric) == (14, "accuracy")
    assert abs(mean["reference"] - 4.61) < 0.01
    assert abs(mean["best"] - 12.28) < 0.01
    assert counts.loc["AHON (LN)", ["first", "top_3"]].tolist() == [8, 13]
else:
    assert (len(gains), metric) == (2, "loss")
    assert counts["first"].sum() >= 2
overlap = ih.analysis.top_overlap(ranking)
assert bool(((overlap >= 0) & (overlap <= 1)).all(axis=None))
