"""Ablations of a model whose layers have 4, 6, 2 and 3 heads: 15 heads in 24 places."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.layers_that_differ import MODELS, PRUNED, SAMPLES

import inactive_heads as ih
from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.engines.flash import FlashEngine

QUIET = {"progress": False}
EXISTS = np.arange(6) < np.array([n for n, _ in PRUNED])[:, None]


@pytest.fixture(scope="module")
def model():
    engine = FlashEngine(MODELS["pruned llama"].make(), "pruned")
    return ih.Model(engine, None, {"model": "pruned", "dtype": "float32", "device": "cpu"}, list)


@pytest.fixture(scope="module")
def scores(model):
    return ih.score_heads(model, SAMPLES, scores=["AHON (LN)", "AHON", "AWFT"], **QUIET)


def labelled(pairs):
    mask = np.zeros((4, 6), dtype=bool)
    mask[tuple(np.transpose(pairs))] = True
    return xr.DataArray(mask, dims=("layer", "head"), coords={"layer": range(4), "head": range(6)})


def test_zeroed_heads_say_which_heads_exist(model):
    run = ih.ablate(model, SAMPLES, ih.Random(1.0), **QUIET)
    assert run.zeroed.values.tolist() == [EXISTS.tolist()] * len(SAMPLES)
    assert run.zeroed["n_heads"].values.tolist() == [4, 6, 2, 3]
    assert run.percent_zeroed == 100
    assert ih.ablate(model, SAMPLES, None, **QUIET).zeroed["n_heads"].values.tolist() == [
        4,
        6,
        2,
        3,
    ]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_random_draws_among_the_heads_that_exist(model, p):
    many = [[1, 2, 3]] * 200
    run = ih.ablate(model, many, ih.Random(p, seed=3), **QUIET)
    assert not run.zeroed.values[:, ~EXISTS].any()
    share = run.zeroed.values[:, EXISTS].mean()
    assert run.percent_zeroed == pytest.approx(100 * share)
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / (200 * 15))


@pytest.mark.parametrize("score", ["AHON (LN)", "AHON", "AWFT"])
@pytest.mark.parametrize("percent", [20, 40, 60])
def test_thresholds_and_shares_are_of_the_heads_that_exist(model, scores, score, percent):
    values = scores.sel(score=score).values
    known = values[:, EXISTS]
    assert np.isnan(values[:, ~EXISTS]).all()
    share = percent / 100 if score != "AWFT" else 1 - percent / 100
    cut = ih.choose_thresholds(scores, percent).sel(score=score, percent=percent)
    expected = np.quantile(known.astype(float), share, method="interpolated_inverted_cdf")
    assert float(cut) == pytest.approx(expected)
    means = values.mean(axis=0, dtype=np.float64)[EXISTS]
    cut = np.quantile(means, share, method="interpolated_inverted_cdf")
    wanted = int((means > cut).sum() if score == "AWFT" else (means < cut).sum())
    heads = ih.select_heads(scores, score, percent)
    assert int(heads.sum()) == wanted
    run = ih.ablate(model, SAMPLES, ih.Fixed(heads), **QUIET)
    assert run.percent_zeroed == pytest.approx(100 * wanted / 15)


@pytest.mark.parametrize(
    "heads",
    [
        [(2, 2)],
        ["L2H2"],
        {2: [0, 2]},
        labelled([(2, 2), (1, 5)]),
        labelled([(2, 2), (1, 5)]).values,
        torch.as_tensor(labelled([(2, 2)]).values),
    ],
)
def test_a_head_that_a_layer_lacks_is_refused_by_name(model, heads):
    message = "head L2H2 is not in the model: layer 2 has heads 0 to 1"
    with pytest.raises(ih.UserError, match=message):
        ih.ablate(model, SAMPLES, ih.Fixed(heads), **QUIET)


def test_a_mask_that_knows_its_heads_is_refused_without_a_model(scores):
    mask = ih.select_heads(scores, "AHON", 20).copy()
    ih.Fixed(mask)
    mask.loc[{"layer": 3, "head": 4}] = True
    with pytest.raises(ih.UserError, match="value at L3H4, and layer 3 has heads 0 to 2"):
        ih.Fixed(mask)


def test_a_file_of_heads(model, tmp_path):
    path = tmp_path / "heads.json"
    ih.Fixed(labelled([(2, 1), (1, 5)])).save(path)
    run = ih.ablate(model, SAMPLES, ih.Fixed.load(path), **QUIET)
    assert np.argwhere(run.zeroed.values[0]).tolist() == [[1, 5], [2, 1]]
    path.write_text(path.read_text().replace("2,\n   1", "2,\n   5"))
    with pytest.raises(ih.UserError, match="head L2H5 is not in the model: layer 2 has heads 0"):
        ih.ablate(model, SAMPLES, ih.Fixed.load(path), **QUIET)


def test_percents_of_evaluations_and_generations(model):
    task, pairs = ih.TextTask("texts", [one for one in SAMPLES if len(one) > 1]), [(0, 0), (3, 2)]
    found = ih.evaluate(model, task, ih.Fixed(pairs), **QUIET)
    assert found.percent_zeroed == pytest.approx(100 * 2 / 15)
    np.testing.assert_allclose(found.items["percent_zeroed"], 100 * 2 / 15)
    written = ih.generate(model, SAMPLES[:1], ih.Random(1.0), max_new_tokens=2, **QUIET)
    np.testing.assert_allclose(written.percent_zeroed, 100)


def test_a_replacement_has_nan_where_a_layer_has_no_head(model):
    means = ih.mean_head_outputs(model, SAMPLES, **QUIET)
    ih.Random(0.5, replacement=means).check(model.shape)
    ih.Random(0.5, replacement=means.drop_vars("n_heads")).check(model.shape)
    with pytest.raises(ih.UserError, match="layer 0 beyond its 4 heads of width 8"):
        ih.Random(0.5, replacement=means.fillna(0.0)).check(model.shape)
    hole = means.copy()
    hole.loc[{"layer": 1, "head": 5}] = np.nan
    with pytest.raises(ih.UserError, match="values that are not finite"):
        ih.Random(0.5, replacement=hole).check(model.shape)


def test_an_ablation_whose_mask_has_a_place_for_every_head_of_the_largest_layer(model):
    class Wrong(Ablation):
        label = "wrong"

        def __call__(self, heads):
            return ih.Silence(torch.ones(1, 6, dtype=torch.bool))

    recorder = ZeroedRecorder(Wrong(), model.shape, 1)
    with pytest.raises(
        ih.UserError, match=r"shape \(1, 6\); it must be \(batch, head\) = \(1, 4\)"
    ):
        ih.ablate(model, SAMPLES[:1], recorder.ablation, **QUIET)


def test_a_score_of_the_distance_from_the_mean(model):
    means = ih.mean_head_outputs(model, SAMPLES, **QUIET)
    rod = ih.read_output_distance(means)
    found = ih.score_heads(model, SAMPLES, scores=[rod], **QUIET)
    assert (np.isfinite(found.values) == EXISTS).all()
