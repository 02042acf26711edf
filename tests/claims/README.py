"""What README.md says of its code's results; runs after it, in its namespace."""

assert scores.dims == ("score", "sample", "layer", "head")
assert scores.sizes == {"score": 15, "sample": 4, "layer": 30, "head": 9}
assert max(len(text) for text in texts) <= 128
below = scores.sel(score="AHON (LN)") < threshold
assert int(below.sum()) == 4 * 270 // 10 - 1  # strictly below the value that a tenth reaches
assert 0.05 < float(run.zeroed.mean()) < 0.15  # near a tenth: what is zeroed changes later scores
assert heads.dims == ("layer", "head")
assert int(heads.sum()) == 26  # of 270, strictly below the 27th
assert sorted(set(curves["score"])) == ["AHON (LN)", "MAXZ (LN)", "Random"]
assert sorted(set(curves["percent"])) == [0, 10, 20]
for name in ("MAXZ (LN)", "AHON (LN)", "Random"):
    shares = curves[curves["score"] == name]["percent_zeroed"].tolist()
    assert shares[0] == 0
    assert all(abs(share - asked) < 5 for share, asked in zip(shares, (0, 10, 20), strict=True))
assert float(abs(same - scores.isel(sample=[0])).max()) < 1e-3  # another engine, the same scores
