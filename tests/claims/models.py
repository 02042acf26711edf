"""What models.md says of its code's results; runs after it, in its namespace."""

assert model.provenance["dtype"] == "float32"
assert ih.score_heads(model, [[1, 2, 3]]).sizes["head"] == model.shape.n_heads
