"""What the notebook says of its results; its last cell when it is tested."""

standing = explorer.standings.sel(layer=18, head=8)
for name in ("AHON (LN)", "AWFT"):  # the most inactive head by both
    assert int(standing["rank"].sel(score=name)) == 1, name
# The first token's value vector is its layer's smallest, the others are as long as anyone's.
assert int(standing["rank_in_layer"].sel(score="FTVVN")) == 1
assert int(standing["rank"].sel(score="AVVN")) > 135
assert len(explorer.selection) == 26  # of 270, strictly below a tenth
assert lost["mean_after"] > lost["mean_before"]
assert ih.Fixed.load("my_heads.json").heads == sorted(explorer.selection)
effect = after.effect(before)
assert effect["change_low"] < effect["change"] < effect["change_high"]
assert abs(after.percent_zeroed - 100 * len(explorer.selection) / 270) < 1e-6
assert curves["percent_zeroed"].max() < 30
