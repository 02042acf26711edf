"""What the notebook says of its results; its last cell when it is tested."""

import numpy as np

assert len(plain.items) == 20
assert abs(plain.summary()["accuracy"] - 100 * plain.items["correct"].mean()) < 1e-9
assert 0 < per_input.percent_zeroed != 10  # what was really zeroed
assert abs(ways["fixed"].percent_zeroed - 100 * float(heads.mean())) < 1e-9
assert abs(ways["random"].percent_zeroed - 10) < 1
for name, way in ways.items():
    effect = effects.loc[name]
    changed = 100 * (way.items["correct"].mean() - plain.items["correct"].mean())
    assert abs(effect["change"] - changed) < 1e-9
    assert effect["change_low"] <= effect["change"] <= effect["change_high"]
    assert effect["kl"] > 0
assert set(curves["mode"]) == {"per-input", "fixed"}
unablated = curves[curves["percent"] == 0]["loss"]
np.testing.assert_allclose(unablated, unablated.iloc[0], rtol=1e-5)
