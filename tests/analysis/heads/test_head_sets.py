"""How scores' head sets agree, against sets of Python and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih
from inactive_heads.analysis import fixed_agreement, inactive_at, score_agreement
from inactive_heads.analysis.heads.head_sets import head_ranks


@pytest.fixture
def scores() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 6, 4, 5)) + 2 * rng.normal(size=(3, 1, 4, 5))
    values[1] = values[0] + 0.5 * values[1]  # two that agree more than the third does
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["A", "B", "C"], "inactive": ("score", ["below", "below", "above"])},
    )


def test_agreement_is_that_of_sets(scores):
    cuts = ih.choose_thresholds(scores, [20])
    inactive = inactive_at(scores, cuts, 20)
    found = score_agreement(inactive)
    sets = {
        name: set(map(tuple, np.argwhere(inactive.sel(score=name).to_numpy()))) for name in "ABC"
    }
    for one in "ABC":
        for other in "ABC":
            both = len(sets[one] & sets[other])
            place = {"score": one, "other": other}
            assert float(found["iou"].sel(place)) == both / len(sets[one] | sets[other])
            assert float(found["precision"].sel(place)) == both / len(sets[one])
    a, b = inactive.sel(score="A"), inactive.sel(score="B")
    assert float(found["iou"].sel(score="A", other="B")) == ih.head_set_iou(a, b)
    assert float(found["precision"].sel(score="A", other="B")) == ih.head_set_precision(a, of=b)
    assert float(found["iou"].sel(score="A", other="B")) > float(
        found["iou"].sel(score="A", other="C")
    )


def test_empty_sets_have_no_agreement(scores):
    found = score_agreement(inactive_at(scores, ih.choose_thresholds(scores, [0]), 0))
    assert found["iou"].isnull().all()
    assert found["precision"].isnull().all()


def test_fixed_against_per_input_by_hand():
    # Means 1.5, 2, 5, 9; at 50% the fixed set is the first head (strictly below the median 2) …
    values = np.array([[[[1.0, 2, 5, 8]], [[2.0, 2, 5, 10]]]])
    scores = xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["S"], "inactive": ("score", ["below"])},
    )
    fixed = ih.select_heads(scores, "S", 50)
    assert fixed.to_numpy().tolist() == [[True, False, False, False]]
    # … and heads below 3 are {0, 1} on both inputs.
    cuts = xr.DataArray(
        [[3.0]], dims=("score", "percent"), coords={"score": ["S"], "percent": [50.0]}
    )
    row = fixed_agreement(scores, 50, thresholds=cuts).iloc[0]
    assert row[["iou", "recall", "precision"]].tolist() == [0.5, 0.5, 1.0]


def test_undefined_agreement_stays_unknown(scores):
    row = fixed_agreement(scores, 0).iloc[0]
    assert np.isnan(row[["iou", "recall", "precision"]].astype(float)).all()


def test_rank_1_is_furthest_on_the_inactive_side():
    values = np.array([[3.0, 1.0, np.nan], [1.0, 5.0, 2.0]])
    np.testing.assert_array_equal(head_ranks(values, "below"), [[4, 1, np.nan], [1, 5, 3]])
    np.testing.assert_array_equal(head_ranks(values, "above"), [[2, 4, np.nan], [4, 1, 3]])


def test_an_input_without_inactive_heads_does_not_count_for_what_is_found():
    # Below 3: head 0 on the first input, no head on the second. The fixed set is head 0.
    scores = xr.DataArray(
        np.array([[[[1.0, 5, 6, 7]], [[4.0, 5, 6, 7]]]]),
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["S"], "inactive": ("score", ["below"])},
    )
    cuts = xr.DataArray(
        [[3.0]], dims=("score", "percent"), coords={"score": ["S"], "percent": [50.0]}
    )
    row = fixed_agreement(scores, 50, thresholds=cuts).iloc[0]
    assert row[["iou", "recall", "precision"]].tolist() == [0.5, 1.0, 0.5]
