"""Calls that a person would try: they work, or one line says what to write."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.tiny_models import SAMPLES, tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.analysis import (
    cache_shares,
    checkpoint_shares,
    group_shares,
    inactive_at,
    inactive_shares,
    key_value_groups,
    layer_shares,
    split_heads,
)
from inactive_heads.analysis.heads.arguments import one_number
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
SCORES = ih.score_heads(MODEL, SAMPLES, scores=["AHON", "AHON (LN)", "AWFT"], progress=False)
CUTS = ih.choose_thresholds(SCORES)
AT_TEN = CUTS.sel(score="AHON", percent=10)
TEXTS = ih.TextTask("tokens", [[1, 2, 3], [4, 5, 6, 7]])


@pytest.mark.parametrize(
    "threshold",
    [AT_TEN, float(AT_TEN), AT_TEN.values, np.float64(AT_TEN), torch.tensor(AT_TEN.values)],
)
def test_a_threshold_is_any_single_number(threshold):
    ablation = ih.PerInput("AHON", threshold)
    assert ablation.threshold == float(AT_TEN)
    assert ablation.label == ih.PerInput("AHON", float(AT_TEN)).label


def test_scores_and_percents_may_be_single_ones():
    one = ih.score_heads(MODEL, SAMPLES, scores="AHON (LN)", progress=False)
    assert one["score"].values.tolist() == ["AHON (LN)"]
    assert (
        ih.score_heads(MODEL, SAMPLES, scores=ih.get_score("AWFT"), progress=False).sizes["score"]
        == 1
    )
    assert ih.choose_thresholds(SCORES, 10).equals(ih.choose_thresholds(SCORES, [10]))
    assert ih.choose_thresholds(SCORES, np.array([20, 10]))["percent"].values.tolist() == [10, 20]
    curves = ih.sweep(MODEL, TEXTS, scores="AHON (LN)", percents=20, progress=False)
    assert curves[["score", "percent"]].values.tolist() == [["AHON (LN)", 0], ["AHON (LN)", 20]]
    part = ih.inactive_heads(SCORES.sel(score="AHON"), AT_TEN)
    assert part.equals(ih.inactive_heads(SCORES, CUTS).sel(score="AHON", percent=10))


CALLS = {
    "a name without its space": (
        lambda: ih.select_heads(SCORES, "AHON(LN)", 10),
        r"unknown score 'AHON\(LN\)'; did you mean 'AHON \(LN\)'\? there are 'AHON'",
    ),
    "a name in small letters": (lambda: ih.select_heads(SCORES, "awft", 10), "mean 'AWFT'"),
    "a score that was not computed": (
        lambda: ih.select_heads(SCORES, "LTHON", 10),
        "unknown score 'LTHON'",
    ),
    "names as one": (lambda: ih.select_heads(SCORES, ["AHON"], 10), r"unknown score \['AHON'\]"),
    "percent as text": (lambda: ih.select_heads(SCORES, "AHON", "10"), "a number, not '10'"),
    "percents as text": (lambda: ih.choose_thresholds(SCORES, "10"), "a number, not '10'"),
    "no percents": (lambda: ih.choose_thresholds(SCORES, None), "a number, not None"),
    "nan percent": (lambda: ih.choose_thresholds(SCORES, [np.nan]), "from 0 to 100, not nan"),
    "true": (lambda: ih.choose_thresholds(SCORES, [True]), "a number, not True"),
    "a path": (lambda: ih.select_heads("scores.nc", "AHON", 10), "load_dataarray"),
    "an array": (lambda: ih.choose_thresholds(SCORES.values), "DataArray from score_heads"),
    "averages": (
        lambda: ih.select_heads(SCORES.mean("sample"), "AHON", 10),
        "no dimension 'sample'",
    ),
    "no side": (lambda: ih.choose_thresholds(SCORES.drop_vars("inactive")), "on which side"),
    "thresholds for scores": (lambda: ih.inactive_heads(CUTS.values, CUTS), "DataArray"),
    "scores for thresholds": (lambda: ih.inactive_heads(CUTS, SCORES), "thresholds have the dim"),
    "a number for thresholds": (lambda: ih.inactive_heads(SCORES, 0.5), "from choose_thresholds"),
    "nan thresholds": (lambda: ih.inactive_heads(SCORES, CUTS * np.nan), "a threshold is NaN"),
    "no score in common": (
        lambda: ih.inactive_heads(SCORES.sel(score=["AHON"]), CUTS.sel(score=["AWFT"])),
        "no score in common",
    ),
    "all thresholds": (
        lambda: ih.PerInput("AHON", CUTS),
        r"single number, such as cuts.sel\(score=NAME, percent=10\), not an array of shape",
    ),
    "another's threshold": (lambda: ih.PerInput("AWFT", AT_TEN), "that of 'AHON'"),
    "nan": (lambda: ih.PerInput("AHON", float("nan")), "finite number, not nan"),
    "infinity": (lambda: ih.PerInput("AHON", float("inf")), "finite number, not inf"),
    "a text": (lambda: ih.PerInput("AHON", "0.4"), "is a number, not '0.4'"),
    "percent for probability": (lambda: ih.Random(10), "0 to 1, not 10; 10% of heads is 0.1"),
    "percent for all": (lambda: ih.Random(100), "0 to 1, not 100; 100% of heads is 1"),
    "more than all": (lambda: ih.Random(150), "0 to 1, not 150$"),
    "less than none": (lambda: ih.Random(-0.1), "0 to 1, not -0.1"),
    "no probability": (lambda: ih.Random(float("nan")), "finite number, not nan"),
    "no seed": (lambda: ih.Random(0.1, seed=-1), "a seed is a whole number from 0, not -1"),
    "a score that is none": (lambda: ih.score_heads(MODEL, SAMPLES, scores=5), "names or func"),
    "random": (
        lambda: ih.sweep(MODEL, TEXTS, scores=["random"], percents=[10]),
        "unknown score 'random'; did you mean 'Random'",
    ),
    "Random twice": (
        lambda: ih.sweep(MODEL, TEXTS, scores=["Random", "Random"], percents=[10]),
        "'Random' was asked for twice",
    ),
    "another percent": (
        lambda: ih.sweep(MODEL, TEXTS, scores="AHON", percents=[12], thresholds=CUTS),
        "have none for 12% of heads",
    ),
    "other heads": (
        lambda: ih.sweep(
            MODEL, TEXTS, scores="AHON", mode="fixed", calibration=SCORES.isel(layer=[0, 2])
        ),
        r"calibration has the layers \[0, 2\], the model \[0, 1, 2\]",
    ),
    "top_p": (lambda: ih.Sampling(top_p=1.5), "top_p is a probability above 0, up to 1, not 1.5"),
    "top_p of 0": (lambda: ih.Sampling(top_p=0.0), "not 0.0"),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_one_line_says_what_to_write(call, message):
    with unchecked(), pytest.raises(ih.UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_shares_given_for_percents_are_noticed():
    for percents in ([0.05, 0.1], 0.1, [0, 0.1]):
        with pytest.warns(ih.Notice, match="0.1 means 0.1% of heads; for a share of 0.1 write 10"):
            ih.choose_thresholds(SCORES, percents)
    ih.choose_thresholds(SCORES, [0.5, 1])  # warnings are errors


def test_one_number():
    assert one_number(np.float32(0.5), "x") == 0.5
    with pytest.raises(ih.UserError, match="x is a single number, not an array of shape"):
        one_number(np.array([0.5]), "x")


def test_shares_are_of_the_heads_that_are_there():
    # Layer 1 has two heads of four; on input 1, the score of L0H0 is undefined.
    values = np.ones((1, 2, 2, 4))
    values[0, :, 0, :2] = 0.1
    values[0, :, 1, 0] = 0.1
    values[0, :, 1, 2:] = np.nan
    values[0, 1, 0, 0] = np.nan
    coords = {"score": ["S"], "inactive": ("score", ["below"]), "layer": [0, 1]}
    dims = ("score", "sample", "layer", "head")
    scores = xr.DataArray(values, dims=dims, coords=coords)
    cuts = xr.DataArray(
        [[0.5]], dims=("score", "percent"), coords={"score": ["S"], "percent": [50.0]}
    )
    mask = inactive_at(scores, cuts, 50)
    assert mask.values.tolist() == (values < 0.5).tolist()
    assert mask["defined"].values.tolist() == (~np.isnan(values)).tolist()
    np.testing.assert_allclose(layer_shares(mask)[0], [3 / 7, 2 / 4])
    np.testing.assert_allclose(inactive_shares(mask)[0], [[1, 1, 0, 0], [1, 0, np.nan, np.nan]])
    assert split_heads(mask).iloc[0].tolist() == ["S", 3, 0, 3]
    np.testing.assert_allclose(group_shares(mask, ["a", "b"])[0], [3 / 6, 2 / 5])
    np.testing.assert_allclose(
        checkpoint_shares([("x", scores), ("y", scores)], cuts, 50)[0], [5 / 11, 5 / 11]
    )
    groups = key_value_groups(mask, 2)
    assert groups[0, 0].values.tolist() == [[True, False], [False, False]]
    assert groups["defined"][0, 0].values.tolist() == [[True, True], [True, False]]
    table = cache_shares(mask, 2, [5, 5])
    assert table["always"].iloc[0] == 0, "an undefined score calls no head inactive"
    whole = inactive_at(scores.fillna(1.0), cuts, 50)
    assert "defined" not in whole.coords
    assert float(layer_shares(whole)[0, 1]) == 1 / 4


@pytest.mark.parametrize(("n", "percent"), [(100, 7), (100, 14), (100, 28), (1000, 0.7)])
@pytest.mark.parametrize("side", ["below", "above"])
def test_a_threshold_at_a_value_is_that_value(n, percent, side):
    """In floating point 100 · 0.07 is 7.000000000000001, which would select a head more."""
    values = (np.arange(1, n + 1) / 3).astype(np.float32)
    coords = {"score": ["S"], "inactive": ("score", [side])}
    scores = xr.DataArray(
        values.reshape(1, 1, 1, n), dims=("score", "sample", "layer", "head"), coords=coords
    )
    k = round(n * percent / 100)
    with pytest.warns(ih.Notice) if percent < 1 else nullcontext():
        cut = float(ih.choose_thresholds(scores, [percent]).item())
    assert cut == (values[k - 1] if side == "below" else values[n - k - 1])
    q = percent / 100 if side == "below" else 1 - percent / 100
    reference = np.quantile(values.astype(float), q, method="interpolated_inverted_cdf")
    assert cut == pytest.approx(reference, rel=1e-9)


def test_the_heads_that_are_silenced_are_those_that_are_analysed():
    """A threshold between two neighbouring float32 numbers: in single precision it is one of them."""
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    values = torch.tensor([[low, high]])
    for between in (float(low) + 0.1 * (float(high) - float(low)), float(high) - 1e-9):
        assert ih.get_score("AHON").is_inactive(values, between).tolist() == [[True, False]]
        assert ih.get_score("AWFT").is_inactive(values, between).tolist() == [[False, True]]
