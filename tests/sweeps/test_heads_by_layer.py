"""Sweeps of a model whose layers have 4, 6, 2 and 3 heads."""

import numpy as np
import pytest
from helpers.layers_that_differ import MODELS, PRUNED

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.sweeps.grid import make_grid

RNG = np.random.default_rng(0)
TASK = ih.TextTask("texts", [RNG.integers(3, 97, n).tolist() for n in (8, 12, 20, 30, 5, 9)])
EXISTS = np.arange(6) < np.array([n for n, _ in PRUNED])[:, None]


@pytest.fixture(scope="module")
def model():
    engine = FlashEngine(MODELS["pruned llama"].make(), "pruned")
    about = {"model": "pruned", "dtype": "float32", "device": "cpu", "revision": "-"}
    return ih.Model(engine, None, about, list)


@pytest.mark.parametrize("mode", ["per-input", "fixed"])
def test_every_point_is_what_its_ablation_gives(model, mode, tmp_path):
    options = {"scores": ["AHON (LN)", "AWFT", "Random"], "percents": [20, 60], "mode": mode}
    curves = ih.sweep(model, TASK, **options, out=tmp_path, progress=False)
    again = ih.sweep(model, TASK, **options, out=tmp_path, progress=False)
    assert again.equals(curves)
    samples = TASK.samples
    scores = ih.score_heads(model, samples, scores=["AHON (LN)", "AWFT"], progress=False)
    cuts = ih.choose_thresholds(scores, [20, 60])
    for row in curves[curves["percent"] > 0].itertuples():
        if mode == "fixed" and row.score == "Random":
            assert row.percent_zeroed * 15 / 100 == pytest.approx(
                round(row.percent_zeroed * 15 / 100)
            )
            continue
        if mode == "fixed":
            ablation = ih.Fixed(ih.select_heads(scores, row.score, row.percent))
        elif row.score == "Random":
            ablation = ih.Random(row.percent / 100)
        else:
            cut = float(cuts.sel(score=row.score, percent=row.percent))
            assert row.threshold == pytest.approx(cut)
            ablation = ih.PerInput(row.score, row.threshold)
        alone = ih.evaluate(model, TASK, ablation, progress=False)
        assert row.percent_zeroed == pytest.approx(alone.percent_zeroed)
        assert row.loss == pytest.approx(alone.summary()["loss"])
        assert abs(row.percent_zeroed - row.percent) < 15


@pytest.mark.parametrize("seed", range(5))
def test_a_random_fixed_set_is_drawn_among_the_heads_that_exist(model, seed):
    grid = make_grid(model, scores="Random", percents=[50], mode="fixed", seed=seed)
    (point,) = grid.points("task", [(0, 1)], None, model.shape)
    heads = point.units[0].ablation.heads
    drawn = np.random.default_rng(seed).random((4, 6)) < 0.5
    assert heads == [tuple(pair) for pair in np.argwhere(drawn & EXISTS).tolist()]


def test_a_calibration_of_a_model_with_other_heads_in_its_layers(model):
    samples = [[1, 2, 3], [4, 5, 6, 7]]
    own = ih.score_heads(model, samples, scores=["AHON"], progress=False)
    options = {"scores": ["AHON"], "percents": [50], "mode": "fixed"}
    make_grid(model, **options, calibration=own)
    other = own.where(own["layer"] != 3).assign_coords(n_heads=("layer", [4, 6, 2, 1]))
    with pytest.raises(ih.UserError, match=r"layers have \[4, 6, 2, 1\] heads, the model's \[4, 6"):
        make_grid(model, **options, calibration=other)


def test_a_replacement_of_each_layers_own_width(model):
    means = ih.mean_head_outputs(model, [[1, 2, 3, 4]], progress=False)
    curves = ih.sweep(
        model, TASK, scores=["AHON"], percents=[40], replacement=means, progress=False
    )
    row = curves[curves["percent"] == 40].iloc[0]
    alone = ih.evaluate(model, TASK, ih.PerInput("AHON", row["threshold"], means), progress=False)
    assert row["loss"] == pytest.approx(alone.summary()["loss"])
