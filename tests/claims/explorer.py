"""What explorer.md says of its code's results; runs after it, in its namespace."""

import numpy as np

assert ih.Fixed.load("my_heads.json").heads == [(18, 7), (18, 8)]
assert np.argwhere(explorer.head_set().values).tolist() == [[18, 7], [18, 8]]
inside = [bool(found.sel(layer=layer, head=head)) for layer, head in explorer.selection]
assert ih.head_set_precision(explorer.head_set(), of=found) == sum(inside) / 2
effect = after.effect(before)
assert np.isnan([effect["change_low"], effect["change_high"]]).all()
losses = [one.items["loss"].to_numpy() for one in (before, after)]
tokens = before.items["n_tokens"].to_numpy()
assert abs(effect["change"] - np.average(losses[1] - losses[0], weights=tokens)) < 1e-6
# A head that does nothing attends almost only to the first token, and has a small z.
np.testing.assert_allclose(np.asarray(view.pattern).sum(axis=1), 1, rtol=1e-4)
assert np.asarray(view.pattern)[:, 0].mean() > 0.9
assert np.asarray(view.entropy).mean() < 0.5
