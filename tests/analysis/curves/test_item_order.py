"""Outcomes by item come in any order, labelled; and how many items tell two scores apart, by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from inactive_heads.analysis.curves.rank_uncertainty import rank_uncertainty
from inactive_heads.errors import UserError

PERCENTS = [0.0, 10.0, 20.0]
SCORES = ["A", "B", "C"]


def answers(seed=0, n=40):
    """``(score, percent, item)``: the baseline's answers, of which ever more turn wrong."""
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.8
    hurt = np.array([[0, 0.05, 0.1], [0, 0.2, 0.4], [0, 0.5, 0.7]])
    return (right & (rng.random((3, 3, n)) >= hurt[:, :, None])).astype(float)


def curves_of(values, weights=None, metric="accuracy"):
    means = np.average(values, axis=2, weights=weights) * (100 if metric == "accuracy" else 1)
    rows = [
        {"model": "m", "task": "t", "mode": "fixed", "score": score, "percent": percent}
        | {"percent_zeroed": percent, metric: means[i, j]}
        for i, score in enumerate(SCORES)
        for j, percent in enumerate(PERCENTS)
    ]
    return pd.DataFrame(rows)


def labelled(values):
    return xr.DataArray(
        values, dims=("score", "percent", "item"), coords={"score": SCORES, "percent": PERCENTS}
    )


FORMS = {
    "labelled": lambda values: labelled(values),
    "scores turned": lambda values: labelled(values).isel(score=[2, 0, 1]),
    "percents turned": lambda values: labelled(values).isel(percent=[1, 2, 0]),
    "axes turned": lambda values: labelled(values).transpose("item", "percent", "score"),
    "all turned": lambda values: (
        labelled(values)
        .isel(score=[1, 2, 0], percent=[2, 0, 1])
        .transpose("percent", "item", "score")
    ),
    "whole numbers": lambda values: labelled(values.astype(int)),
    "truths": lambda values: labelled(values.astype(bool)),
    "truths in an array": lambda values: values.astype(bool),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_order_of_outcomes_does_not_matter(form):
    values = answers()
    expected = rank_uncertainty(curves_of(values), values, n_resamples=200)
    assert expected["score"].tolist() == ["A", "B", "C"]
    found = rank_uncertainty(curves_of(values), form(values), n_resamples=200)
    pd.testing.assert_frame_equal(found, expected)


def test_rows_of_the_curves_come_in_any_order_too():
    values = answers()
    curves = curves_of(values)
    expected = rank_uncertainty(curves, labelled(values), n_resamples=200)
    shuffled = curves.sample(frac=1, random_state=3)
    found = rank_uncertainty(shuffled, labelled(values), n_resamples=200)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    "outcomes",
    [
        labelled(answers()).isel(score=[0, 1]),
        labelled(answers()).isel(percent=[0, 1]),
        labelled(answers()).assign_coords(score=["A", "B", "D"]),
        labelled(answers()).assign_coords(percent=[0.0, 10.0, 21.0]),
        labelled(answers()).rename(item="sample"),
        answers()[:2],
        answers()[:, :, :1],
    ],
)
def test_outcomes_of_others_are_refused(outcomes):
    with pytest.raises(UserError, match="outcomes"):
        rank_uncertainty(curves_of(answers()), outcomes)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("weighted", [False, True])
def test_how_many_items_tell_two_scores_apart(weighted, confidence):
    values = answers(1)
    n = values.shape[2]
    weights = np.random.default_rng(2).integers(1, 9, n).astype(float) if weighted else np.ones(n)
    table = rank_uncertainty(
        curves_of(values, weights), values, weights, confidence=confidence, n_resamples=50
    )
    # The area of a curve over 0, 10, 20% is (first + 2 · second + third) / 4, item by item.
    areas = (values[:, 0] + 2 * values[:, 1] + values[:, 2]) / 4
    order = [SCORES.index(score) for score in table["score"]]
    z = stats.norm.ppf((1 + confidence) / 2)
    for row, (one, other) in enumerate(pairwise(order)):
        apart = areas[one] - areas[other]
        lead = np.average(apart, weights=weights)
        relative = weights / weights.mean()
        variance = np.mean(relative**2 * (apart - lead) ** 2)
        needed = ((z + stats.norm.ppf(0.8)) / lead) ** 2 * variance + z**2 / 2
        assert table["lead"][row] == pytest.approx(100 * lead)
        assert table["n_to_tell"][row] == np.ceil(needed)
    assert np.isnan(table["n_to_tell"].iloc[-1])
    assert np.isnan(table["lead"].iloc[-1])
    assert not table["better_than_next"].iloc[-1]


def test_no_number_of_items_tells_equal_scores_apart():
    values = answers(1)
    values[1] = values[0]
    table = rank_uncertainty(curves_of(values), values, n_resamples=50)
    assert table["lead"][0] == 0
    assert table["n_to_tell"][0] == np.inf
    assert table["first"].tolist() == pytest.approx([0.5, 0.5, 0])


def test_losses_are_better_the_lower():
    rng = np.random.default_rng(0)
    losses = (
        2
        + rng.normal(0, 0.1, 40)
        + np.array([[0, 0.1, 0.2], [0, 0.3, 0.5], [0, 0.6, 0.9]])[:, :, None]
    )
    losses += 0.02 * rng.normal(size=losses.shape)
    losses[:, 0] = losses[0, 0]
    table = rank_uncertainty(
        curves_of(losses, metric="loss"), losses, metric="loss", n_resamples=100
    )
    assert table["score"].tolist() == ["A", "B", "C"]
    assert table["first"].tolist() == pytest.approx([1, 0, 0])
    areas = ((losses[:, 0] + 2 * losses[:, 1] + losses[:, 2]) / 4).mean(axis=1)
    assert table["lead"][0] == pytest.approx(areas[1] - areas[0])
    assert table["better_than_next"].tolist() == [True, True, False]
