"""Thresholds and sets of heads where a mean is no median, and percents come in any order."""

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih

PERCENTS = [0, 5, 10, 15, 20, 25, 30]


def scores_of(values, *sides):
    """Scores named S0, S1, … of ``(score, sample, layer, head)``."""
    values = np.asarray(values, dtype=np.float32)
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": [f"S{i}" for i in range(len(values))],
            "inactive": ("score", list(sides)),
            "layer": range(values.shape[2]),
            "head": range(values.shape[3]),
        },
        attrs={"model": "m"},
    )


def test_heads_are_selected_by_their_means_over_samples():
    # Of three samples: means 4, 3, 5, 6; medians 0, 3, 6, 9; smallest 0, 3, 3, 0.
    values = [[[[0, 3, 6, 9]], [[0, 3, 6, 9]], [[12, 3, 3, 0]]]]
    for percent, below, above in [
        (50, [False, True, False, False], [False, False, True, True]),
        (75, [True, True, False, False], [True, False, True, True]),
    ]:
        mask = ih.select_heads(scores_of(values, "below"), "S0", percent)
        assert mask.values.tolist() == [below]
        assert mask.dims == ("layer", "head")
        assert set(mask.coords) == {"layer", "head"}
        assert ih.select_heads(scores_of(values, "above"), "S0", percent).values.tolist() == [above]


def test_the_score_asked_for_is_the_one_selected_by():
    values = np.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    scores = scores_of(np.stack([values[0], -values[1]]), "below", "below")
    first, second = (ih.select_heads(scores, name, 25) for name in ("S0", "S1"))
    assert np.argwhere(first.values).tolist() == [[0, 0]]
    assert np.argwhere(second.values).tolist() == [[1, 3]]


def test_the_percents_are_the_papers_unless_others_are_given():
    rng = np.random.default_rng(0)
    scores = scores_of(rng.random((2, 4, 3, 5)), "below", "above")
    cuts = ih.choose_thresholds(scores)
    assert cuts["percent"].values.tolist() == PERCENTS
    assert cuts.attrs == {"model": "m"}
    assert cuts["inactive"].values.tolist() == ["below", "above"]
    for row in range(2):
        p = np.array(PERCENTS) / 100
        expected = np.quantile(
            scores.values[row].astype(float),
            1 - p if row else p,
            method="interpolated_inverted_cdf",
        )
        np.testing.assert_allclose(cuts.values[row], expected, rtol=1e-12)


@pytest.mark.parametrize("given", [[30, 0, 10], (10, 30, 0), [30.0, 10.0, 0.0]])
def test_percents_come_out_ascending_each_with_its_threshold(given):
    scores = scores_of(np.random.default_rng(1).random((1, 2, 5, 10)), "below")
    cuts = ih.choose_thresholds(scores, given)
    assert cuts["percent"].values.tolist() == [0, 10, 30]
    for percent in (0, 10, 30):
        alone = float(ih.choose_thresholds(scores, [percent]).squeeze())
        assert float(cuts.sel(score="S0", percent=percent)) == alone


def test_both_ends_are_percents_and_what_is_beyond_is_none():
    scores = scores_of(np.arange(10).reshape(1, 1, 2, 5), "below")
    assert ih.choose_thresholds(scores, [0, 100]).values.tolist() == [[0, 9]]
    for percent in (-1e-9, 100.00001, float("nan"), float("inf")):
        with pytest.raises(ih.UserError, match="from 0 to 100"):
            ih.choose_thresholds(scores, [percent])


def test_infinite_scores_are_left_out_of_a_threshold():
    values = [[[[-np.inf, 1, 2, 3, 4, np.inf, np.nan, np.nan]]]]
    scores = scores_of(values, "below")
    assert ih.choose_thresholds(scores, [50]).values.tolist() == [[2]]
    chosen = ih.inactive_heads(scores, ih.choose_thresholds(scores, [50])).squeeze()
    assert chosen.values.tolist() == [True, True, *[False] * 6]


def test_thresholds_meet_the_scores_of_their_own_names():
    scores = scores_of(np.arange(16).reshape(2, 1, 2, 4), "below", "above")
    turned = ih.choose_thresholds(scores, [25]).isel(score=[1, 0])
    for thresholds in (turned, turned.squeeze("percent", drop=True)):
        found = ih.inactive_heads(scores, thresholds)
        assert int(found.sel(score="S0").sum()) == 1
        assert bool(found.sel(score="S0", layer=0, head=0).all())
        assert int(found.sel(score="S1").sum()) == 2
    only = ih.inactive_heads(scores, turned.isel(score=[0]))
    assert only["score"].values.tolist() == ["S1"]
