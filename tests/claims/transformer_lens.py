"""What transformer_lens.md says of its code's results; runs after it, in its namespace."""

assert scores.attrs["weight_processing"] == "none: raw Hugging Face weights"
assert again.attrs["weight_processing"] != scores.attrs["weight_processing"]
moved = abs(again - scores).max(["sample", "layer", "head"])
assert float(moved.sel(score="AHRN")) > 1e-3  # what a head writes loses its mean over d_model
for name in ("AWFT", "AEQD"):  # attention weights stay the same
    assert float(moved.sel(score=name)) < 1e-4
assert run.zeroed.dims == ("sample", "layer", "head")
