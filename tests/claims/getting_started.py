"""What getting_started.md says of its code's results; runs after it, in its namespace."""

assert scores.sizes == {"score": 15, "sample": 4, "layer": 30, "head": 9}
below = scores.sel(score="AHON (LN)") < threshold
assert int(below.sum()) == 4 * 270 // 10 - 1  # a tenth of all values, strictly below its last
assert int(heads.sum()) == 26  # the lowest tenth of 270, strictly below its last
by_layer = scores.sel(score="AHON (LN)").mean("head")
assert float(abs(by_layer - 1).max()) < 1e-4  # normalized by the layer's mean
marks = [trace for trace in figure.data if trace.type == "scatter"]
assert sum(len(trace.x) for trace in marks) == 26  # dots mark them
assert not bool(plain.zeroed.any())
assert 0.05 < float(run.zeroed.mean()) < 0.15
assert 0.01 < float(change.abs().mean()) < 2
baseline = curves[curves["percent"] == 0]["loss"]
assert len(set(baseline)) == 1
assert bool((curves[curves["percent"] > 0]["loss"] > baseline.iloc[0]).all())  # what zeroing costs
ranking = ih.rank_scores(curves, metric="loss").set_index("score")
assert ranking.loc["Random", "rank"] == 3  # compared with heads chosen at random
