"""What transformer_lens.md says of its code's results; runs after it, in its namespace."""

assert scores.attrs["weight_processing"] == "none: raw Hugging Face weights"
assert again.attrs["weight_processing"] != scores.attrs["weight_processing"]
moved = abs(again - scores).max(["sample", "layer", "head"])
others = moved.drop_sel(score=["AHRN", "AHRN (LN)"])
# What a head writes loses its mean over d_model; nothing else moves.
assert float(moved.sel(score="AHRN")) > 10 * float(others.max())
assert run.zeroed.dims == ("sample", "layer", "head")
