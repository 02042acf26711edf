"""The points of a sweep's grid: which heads are chosen, by which scores, and drawn by which seed."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.ablation.ablations import Fixed, PerInput, Random
from inactive_heads.engines.lens import bridge_of
from inactive_heads.sweeps.grid import make_grid, split_baselines
from inactive_heads.sweeps.unit import SHARD_TOKENS, Unit, shards_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
SHARDS = [(0, 2), (2, 5)]


def scores_of(seed, names=("AHON", "AWFT")):
    values = np.random.default_rng(seed).random((len(names), 5, 3, 4))
    sides = [ih.get_score(name).inactive for name in names]
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": list(names),
            "inactive": ("score", sides),
            "sample": range(5),
            "layer": range(3),
            "head": range(4),
        },
    )


def points(own, percents=(10, 25), scores=("AHON", "AWFT", "Random"), mode="per-input", **options):
    grid = make_grid(MODEL, scores=scores, percents=percents, mode=mode, **options)
    return grid.points("task", SHARDS, own, MODEL.shape)


def quantile(values, name, percent):
    p = percent / 100
    p = 1 - p if ih.get_score(name).inactive == "above" else p
    return np.quantile(values, p, method="interpolated_inverted_cdf")


@pytest.mark.parametrize("given", ["own", "calibration", "thresholds"])
def test_thresholds_are_those_of_what_was_given(given):
    own, other = scores_of(0), scores_of(1)
    options = {
        "own": {},
        "calibration": {"calibration": other},
        "thresholds": {"thresholds": ih.choose_thresholds(other, [10, 25])},
    }[given]
    by = own if given == "own" else other
    found = points(own, **options)
    assert [(p.score, p.percent) for p in found] == [
        (name, percent) for name in ("AHON", "AWFT", "Random") for percent in (10, 25)
    ]
    for point in found:
        assert [unit.items for unit in point.units] == SHARDS
        for unit in point.units:
            if point.score == "Random":
                assert np.isnan(point.threshold)
                assert unit.ablation == Random(point.percent / 100, seed=0)
                continue
            expected = quantile(by.sel(score=point.score).values, point.score, point.percent)
            assert point.threshold == pytest.approx(expected, rel=1e-12)
            assert isinstance(unit.ablation, PerInput)
            assert unit.ablation.label == PerInput(point.score, point.threshold).label


@pytest.mark.parametrize("given", ["own", "calibration"])
def test_fixed_sets_are_of_the_means_of_what_was_given(given):
    own, other = scores_of(0), scores_of(1)
    by = own if given == "own" else other
    found = points(own, mode="fixed", calibration=None if given == "own" else other)
    for point in found:
        assert np.isnan(point.threshold)
        if point.score == "Random":
            continue
        mean = by.sel(score=point.score).values.mean(axis=0)
        cut = quantile(mean, point.score, point.percent)
        beyond = mean > cut if point.score == "AWFT" else mean < cut
        expected = [tuple(pair) for pair in np.argwhere(beyond).tolist()]
        assert expected
        heads = [] if point.units[0].ablation is None else point.units[0].ablation.heads
        assert heads == expected, (point.score, point.percent)
    sets = [str(p.units[0].ablation and p.units[0].ablation.heads) for p in found[:4]]
    elsewhere = points(other if given == "own" else own, mode="fixed")[:4]
    assert sets != [str(p.units[0].ablation and p.units[0].ablation.heads) for p in elsewhere]


def test_heads_of_a_fixed_random_set_are_drawn_by_the_seed():
    drawn = {}
    for seed in (0, 1, 7):
        for percent in (20, 50):
            expected = np.random.default_rng(seed).random((3, 4)) < percent / 100
            (point,) = points(None, (percent,), ["Random"], mode="fixed", seed=seed)
            heads = point.units[0].ablation.heads
            assert heads == [tuple(pair) for pair in np.argwhere(expected).tolist()]
            drawn[seed, percent] = heads
    assert drawn[0, 50] != drawn[1, 50] != drawn[7, 50] != drawn[0, 50]
    per_input = points(None, (20,), ["Random"], seed=7)[0].units[0].ablation
    assert per_input == Random(0.2, seed=7)


def test_layers_of_a_fixed_set_are_the_models_own_numbers():
    shape = dataclasses.replace(MODEL.shape, layers=(2, 5, 9))
    own = scores_of(0).assign_coords(layer=[2, 5, 9])
    grid = make_grid(MODEL, scores=["AHON", "Random"], percents=[40], mode="fixed")
    for point in grid.points("task", SHARDS, own, shape):
        layers = {layer for layer, _ in point.units[0].ablation.heads}
        assert layers <= {2, 5, 9}
        assert len(layers) > 1


def test_an_empty_fixed_set_is_the_baseline():
    tiny = points(scores_of(0), (1,), ["AHON"], mode="fixed")
    assert tiny[0].units == [Unit("task", shard) for shard in SHARDS]


def test_a_replacement_goes_with_every_ablation():
    means = xr.DataArray(
        np.ones((3, 4, 8)), dims=("layer", "head", "d_head"), coords={"layer": range(3)}
    )
    for mode in ("per-input", "fixed"):
        for point in points(scores_of(0), (40,), mode=mode, replacement=means):
            assert point.units[0].ablation.replacement is means


def test_every_setting_that_changes_results_is_written_down():
    options = {"scores": ["AHON"], "percents": [10], "mode": "per-input"}
    cuts = ih.choose_thresholds(scores_of(0), [10])
    means = xr.DataArray(np.ones((3, 4, 8)), dims=("layer", "head", "d_head"))
    changes = [
        {"scores": ["AHON (LN)"]},
        {"scores": ["AHON", "Random"]},
        {"scores": ["AHON", "Placebo of AHON"]},
        {"scores": ["AHON", "Placebo of AWFT"]},
        {"percents": [10, 20]},
        {"mode": "fixed"},
        {"seed": 1},
        {"shard_tokens": 10},
        {"replacement": means},
        {"replacement": 2 * means},
        {"thresholds": cuts},
        {"thresholds": cuts + 1e-9},
        {"calibration": scores_of(0)},
        {"calibration": scores_of(1)},
    ]
    found = [make_grid(MODEL, **(options | change)).settings for change in [{}, *changes]]
    for i, one in enumerate(found):
        assert one == make_grid(MODEL, **(options | ([{}, *changes][i]))).settings
        assert all(one != other for other in found[:i])


def test_a_grid_of_nothing_said_is_the_papers():
    ranked, with_random, followed = split_baselines(None)
    assert [score.name for score in ranked] == list(ih.PAPER_SCORES)
    assert with_random
    assert followed == []
    assert split_baselines(["Random"]) == ([], True, [])
    assert split_baselines(["AWFT"])[1] is False
    grid = make_grid(MODEL, scores=["AHON", "Random"], percents=[0, 20, 10], mode="per-input")
    assert grid.percents == [10, 20]
    assert grid.names == ["AHON", "Random"]
    assert grid.n_points == 1 + 2 * 2
    assert grid.shard_tokens == SHARD_TOKENS["cpu"]
    assert make_grid(
        MODEL, scores=["AHON"], percents=[5], mode="fixed", shard_tokens=1
    ).shard_tokens == 1  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "per_input"}, "mode must be per-input or fixed, not 'per_input'"),
        ({"thresholds": ih.choose_thresholds(scores_of(0), [10])}, "have none for 25% of heads"),
        (
            {"thresholds": ih.choose_thresholds(scores_of(0, ["AWFT"]), [10, 25])},
            "the thresholds given have no score AHON",
        ),
        ({"calibration": scores_of(0, ["AHON"])}, "the calibration given have no score AWFT"),
        (
            {"mode": "fixed", "thresholds": ih.choose_thresholds(scores_of(0), [10, 25])},
            "give calibration, not thresholds",
        ),
        (
            {"thresholds": ih.choose_thresholds(scores_of(0), [10, 25]) * np.nan},
            "a threshold is NaN",
        ),
        (
            {"thresholds": ih.choose_thresholds(scores_of(0), [10]).squeeze(drop=True)},
            "the thresholds have no coordinate 'percent'",
        ),
        ({"calibration": scores_of(0).mean("sample")}, "the scores have no dimension 'sample'"),
        ({"calibration": scores_of(0).drop_vars("inactive")}, "on which side"),
        (
            {"mode": "fixed", "calibration": scores_of(0).isel(head=[0, 1])},
            r"the calibration has the heads \[0, 1\], the model \[0, 1, 2, 3\]",
        ),
        ({"shard_tokens": 0}, "shard_tokens must be at least 1, not 0"),
        ({"percents": [101]}, "not 101"),
        ({"scores": []}, "no score was asked for"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ih.UserError, match=message):
        points(scores_of(0), **options)


def test_near_thresholds_have_names_of_their_own():
    near = [0.1, np.nextafter(0.1, 1), 0.1 + 1e-12, 0.10000001]
    near += [-0.1, 1e-7, 1.0000000000000002, 1.0]
    units = [Unit("task", (0, 2), PerInput("AHON", cut)) for cut in near]
    units += [Unit("task", (0, 2), Random(p, seed)) for p in near[:3] for seed in (0, 1)]
    units += [Unit("task", (0, 2), Fixed(heads)) for heads in ([], [(0, 1)], [(1, 0)], [(0, 11)])]
    units += [
        Unit("task", (0, 2)),
        Unit("task", (0, 20)),
        Unit("task", (2, 20)),
        Unit("other", (0, 2)),
    ]
    units += [Unit("task", (0, 2), PerInput("AHON (LN)", 0.1))]
    assert len({unit.name for unit in units}) == len(set(units)) == len(units)
    assert Unit("task", (0, 2), PerInput("AHON", 0.1)) == units[0]
    assert units[0] != "task-00000-00002-per-input-AHON-0.1"
    assert units[0].name == "task-00000-00002-per-input-AHON-0.1"
    assert Unit("task", (0, 2)).name == "task-00000-00002-baseline"


def test_items_are_split_where_the_next_would_be_too_much():
    task = ih.TextTask("texts", [[1] * n for n in (6, 4, 1 + 9, 11, 2, 3, 5)])
    prepared = ih.evaluation.prepared_task.PreparedTask.of(MODEL, task)
    counts = [len(one.tokens) for one in prepared.inputs]
    assert shards_of(prepared, 10) == [(0, 2), (2, 3), (3, 4), (4, 7)]
    assert counts == [6, 4, 10, 11, 2, 3, 5]
    assert shards_of(prepared, 10**6) == [(0, 7)]
    assert shards_of(prepared, 1) == [(i, i + 1) for i in range(7)]
