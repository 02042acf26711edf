import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import inactive_heads as ih


def scores_of(values, inactive):
    values = np.asarray(values, dtype=np.float32)[None]
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": ["S"],
            "inactive": ("score", [inactive]),
            "layer": range(values.shape[2]),
        },
    )


def test_a_quantile_by_hand():
    # Ten values 1 … 10: the interpolated inverted CDF at p is 10 p, so 20% lies at 2.
    scores = scores_of(np.arange(1, 11).reshape(1, 2, 5), "below")
    cuts = ih.choose_thresholds(scores, [0, 20, 25, 100])
    np.testing.assert_allclose(cuts.sel(score="S"), [1, 2, 2.5, 10])
    above = ih.choose_thresholds(scores_of(np.arange(1, 11).reshape(1, 2, 5), "above"), [0, 20])
    np.testing.assert_allclose(above.sel(score="S"), [10, 8])


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=60, unique=True),
    st.integers(0, 100),
    st.sampled_from(["below", "above"]),
)
def test_the_share_taken_is_the_share_asked_to_within_a_head(values, percent, side):
    n = len(values) // 2 * 2
    scores = scores_of(np.array(values[:n]).reshape(1, 2, -1), side)
    taken = ih.inactive_heads(scores, ih.choose_thresholds(scores, [0, percent or 1]))
    assert not taken.sel(percent=0).any()
    share = float(taken.sel(percent=percent or 1).mean())
    assert abs(share - (percent or 1) / 100) <= 1 / n + 1e-9
    chosen = scores.values[0][taken.isel(score=0).sel(percent=percent or 1).values]
    rest = scores.values[0][~taken.isel(score=0).sel(percent=percent or 1).values]
    if len(chosen) and len(rest):
        assert chosen.max() < rest.min() if side == "below" else chosen.min() > rest.max()


def test_nan_is_left_out_of_thresholds_and_never_inactive():
    values = np.array([[[np.nan, 1, 2, 3, 4]]])
    scores = scores_of(values, "below")
    cuts = ih.choose_thresholds(scores, [50])
    np.testing.assert_allclose(cuts, [[2]])
    assert ih.inactive_heads(scores, cuts).squeeze().values.tolist() == [0, 1, 0, 0, 0]
    with pytest.raises(ih.UserError, match="'S' has no finite value"):
        ih.choose_thresholds(scores_of(np.full((1, 1, 3), np.nan), "below"))


def test_one_set_for_all_inputs_is_chosen_from_the_means():
    values = np.array([[[0.0, 10, 4]], [[6.0, 0, 4]]])  # means 3, 5, 4
    mask = ih.select_heads(scores_of(values, "below"), "S", 100 * 2 / 3)
    assert mask.dims == ("layer", "head")
    assert mask.values.tolist() == [[True, False, False]]
    assert ih.select_heads(scores_of(values, "above"), "S", 100 / 3).values.tolist() == [[0, 1, 0]]


def test_agreement_of_head_sets():
    a = xr.DataArray([[True, True, False, False]])
    b = xr.DataArray([[True, False, True, True]])
    assert ih.head_set_iou(a, b) == 1 / 4
    assert ih.head_set_precision(a, of=b) == 1 / 2
    assert ih.head_set_precision(b, of=a) == 1 / 3
    empty = xr.zeros_like(a)
    assert np.isnan(ih.head_set_iou(empty, empty))
    assert np.isnan(ih.head_set_precision(empty, of=a))


@pytest.mark.parametrize(
    ("percents", "message"),
    [([101], "not 101"), ([-1], "not -1"), ([], "no percent"), ([5, 5], "twice")],
)
def test_percents_outside_of_0_to_100_are_refused(percents, message):
    with pytest.raises(ih.UserError, match=message):
        ih.choose_thresholds(scores_of(np.ones((1, 1, 3)), "below"), percents)
