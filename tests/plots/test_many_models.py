"""Figures of many models, single inputs and checkpoints: the numbers in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from inactive_heads import plots
from inactive_heads.errors import UserError

HOSTILE = "<b>m</b>"
SAFE = "&lt;b&gt;m&lt;/b&gt;"


def curves_of(*models: str) -> pd.DataFrame:
    rows = [
        {"model": model, "task": "quiz", "mode": "per-input", "score": score}
        | {"percent_zeroed": 10.0 * i, "accuracy": value + at}
        for at, model in enumerate(models)
        for score, values in (("Random", [60, 40]), ("AWFT", [60, 50]), ("AHON", [60, 58]))
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_grid_of_curves():
    figure = plots.curve_grid(curves_of(HOSTILE, "b", "c"), columns=2)
    assert [note.text for note in figure.layout.annotations][:3] == [SAFE, "b", "c"]
    assert len(figure.data) == 9
    assert sum(bool(line.showlegend) for line in figure.data) == 3, "each score once"
    best = figure.data[5]
    assert (best.meta, best.line.width, list(best.y)) == ("AHON", 2.5, [61, 59])
    assert (best.xaxis, figure.data[8].yaxis) == ("x2", "y3")
    assert [shape.y0 for shape in figure.layout.shapes] == [60, 61, 62]
    with pytest.raises(UserError, match="quiz / per-input; quiz / fixed"):
        plots.curve_grid(pd.concat([curves_of("a"), curves_of("a").assign(mode="fixed")]))
    with pytest.raises(UserError, match="'loss'"):
        plots.curve_grid(curves_of("a"), "loss")


def test_gains_of_models():
    table = pd.DataFrame({"model": [HOSTILE, "b"], "reference": [1.0, np.nan], "best": [3.0, 2.0]})
    figure = plots.model_gains(table.assign(best_score=["AHON", "AWFT"]))
    assert list(figure.data[0].x) == [1, 3]
    reference, best = figure.data[-2:]
    assert list(best.x) == [3, 2]
    assert list(best.y) == [SAFE, "b"]
    assert list(best.text) == ["AHON", "AWFT"]
    assert np.isnan(reference.x[1])


def test_tables_as_heatmaps():
    ranks = pd.DataFrame([[1, 2], [2, np.nan]], index=["A", "B"], columns=[HOSTILE, "k"])
    heat = plots.rank_heatmap(ranks).data[0]
    np.testing.assert_array_equal(heat.z, ranks)
    assert list(heat.x) == [SAFE, "k"]
    heat = plots.agreement_heatmap(ranks, low=-1).data[0]
    assert (heat.zmin, heat.zmax) == (-1, 1)
    stable = pd.DataFrame(
        {"model": ["m", "m"], "score": ["A", "B"], "percent": [5.0, 5.0]}
        | {"relative_spread": [0.25, np.nan]}
    )
    heat = plots.threshold_spread(stable, 5).data[0]
    np.testing.assert_array_equal(heat.z, [[25], [np.nan]])
    with pytest.raises(UserError, match="7%, only for 5"):
        plots.threshold_spread(stable, 7)


@pytest.fixture
def models() -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(0)
    return {
        label: xr.DataArray(
            rng.normal(at, 1, (1, 5, 2, 3)),
            dims=("score", "sample", "layer", "head"),
            coords={"score": ["S"], "inactive": ("score", ["below"])},
        )
        for at, label in enumerate((HOSTILE, "b"))
    }


def test_cumulative_distributions(models):
    figure = plots.score_cdfs(models, "S")
    assert [line.name for line in figure.data] == [SAFE, "b"]
    values = models["b"].to_numpy().ravel()
    line = figure.data[1]
    assert (line.x[0], line.x[-1]) == (values.min(), values.max())
    # The empirical CDF steps over the line between quantiles by at most one value's share.
    steps = stats.ecdf(values).cdf.evaluate(line.x)
    assert np.abs(100 * steps - line.y).max() <= 100 / len(values) + 1e-9
    with pytest.raises(UserError, match="no model has a finite value of 'T'"):
        plots.score_cdfs(models, "T")


def test_distances():
    distances = xr.DataArray(
        [[[0.0, 2.0], [2.0, 0.0]], [[0.0, 0.5], [0.5, 0.0]]],
        dims=("score", "model", "other"),
        coords={"score": ["A", "B"], "model": ["m", "k"], "other": ["m", "k"]},
    )
    heat = plots.distance_matrix(distances, "B").data[0]
    np.testing.assert_array_equal(heat.z, [[0, 0.5], [0.5, 0]])
    pairs = plots.distance_pairs(distances, [("m", "k"), ("m", "m")]).data[0]
    np.testing.assert_array_equal(pairs.z, [[1, 0], [1, 0]])
    assert list(pairs.text[0]) == ["2", "0"]
    assert list(pairs.x) == ["m → k", "m → m"]
    layers = xr.DataArray(
        [[0.1, 0.2]], dims=("score", "layer"), coords={"score": ["A"], "layer": [3, 7]}
    )
    line = plots.layer_distance_lines({"m → k": layers}, "A").data[0]
    assert (list(line.x), list(line.y)) == ([3, 7], [0.1, 0.2])
    with pytest.raises(UserError, match="'B'"):
        plots.layer_distance_lines({"m → k": layers}, "B")


def test_figures_of_single_inputs():
    shares = xr.DataArray(
        [[0.0, 0.5], [1.0, 0.25]], dims=("layer", "head"), coords={"layer": [2, 5], "head": [0, 1]}
    )
    heat = plots.share_heatmap(shares).data[0]
    np.testing.assert_array_equal(heat.z, [[0, 50], [100, 25]])
    assert list(heat.y) == ["2", "5"]
    np.testing.assert_array_equal(
        plots.change_heatmap(shares, shares[::-1].assign_coords(layer=[2, 5])).data[0].z,
        [[100, -25], [-100, 25]],
    )
    np.testing.assert_array_equal(plots.correlation_heatmap(shares).data[0].z, shares)
    split = pd.DataFrame({"score": [HOSTILE], "always": [1], "sometimes": [2], "never": [3]})
    bars = plots.head_split(split).data
    assert [list(bar.x) for bar in bars] == [[1], [2], [3]]
    assert bars[0].y[0] == SAFE
    cache = pd.DataFrame({"score": ["S"], "cache": [4.0], "always": [1.5]})
    assert [list(bar.x) for bar in plots.cache_bars(cache).data] == [[4], [1.5]]


def test_figures_of_texts():
    groups = xr.DataArray(
        [[0.1, 0.2]], dims=("score", "group"), coords={"score": ["S"], "group": [HOSTILE, "law"]}
    )
    heat = plots.group_heatmap(groups).data[0]
    np.testing.assert_allclose(heat.z, [[10], [20]])
    assert list(heat.y) == [SAFE, "law"]
    lengths = xr.DataArray(
        [[0.1, 0.3]],
        dims=("score", "bin"),
        coords={"score": ["S"], "mean": ("bin", [5.5, 20.0]), "n": ("bin", [2, 1])}
        | {"shortest": ("bin", [4, 20]), "longest": ("bin", [7, 20])},
    )
    line = plots.length_lines(lengths).data[0]
    assert list(line.x) == [5.5, 20]
    np.testing.assert_allclose(line.y, [10, 30])
    assert line.text[0] == "4 to 7 tokens, 2 inputs"


def test_figures_of_checkpoints():
    labels = ["0", "1", "2"]
    shares = xr.DataArray(
        [[0.1, 0.2, 0.15]],
        dims=("score", "checkpoint"),
        coords={"score": ["S"], "checkpoint": labels},
    )
    np.testing.assert_allclose(plots.checkpoint_lines(shares).data[0].y, [10, 20, 15])
    counts = pd.DataFrame({"score": "S", "before": labels[:2], "after": labels[1:]})
    counts = counts.assign(turned_inactive=[2, 0], turned_active=[0, 1])
    up, down = plots.transition_bars(counts, "S").data
    assert (list(up.y), list(down.y)) == ([2, 0], [0, -1])
    assert list(up.x) == ["0 → 1", "1 → 2"]
    states = xr.DataArray(
        np.array([[[0, 1]], [[1, 1]], [[0, 1]]], dtype=bool)[None],
        dims=("score", "checkpoint", "layer", "head"),
        coords={"score": ["S"], "checkpoint": labels, "layer": [4]},
    )
    heat = plots.turning_heatmap(states, "S").data[0]
    assert list(heat.y) == ["L4H0"], "the other head never turns"
    np.testing.assert_array_equal(heat.z, [[0, 1, 0]])
    with pytest.raises(UserError, match="no head turns"):
        plots.turning_heatmap(states.isel(head=[1]), "S")


def test_effects_are_drawn_with_their_own_intervals():
    rows = {
        "model": "m",
        "task": "quiz",
        "mode": "per-input",
        "score": ["A", "A", "Random", "Random"],
        "percent_zeroed": [0.0, 10.0, 0.0, 9.0],
        "accuracy": [70.0, 68.0, 70.0, 40.0],
        "kl": [0.0, 0.2, 0.0, 1.5],
        "kl_low": [0.0, 0.1, 0.0, 1.0],
        "kl_high": [0.0, 0.5, 0.0, np.inf],
    }
    figure = plots.effect_curves(pd.DataFrame(rows), "kl")
    best, random = figure.data
    assert list(best.y) == [0, 0.2]
    np.testing.assert_allclose(best.error_y.array, [0, 0.3])
    np.testing.assert_allclose(best.error_y.arrayminus, [0, 0.1])
    assert list(random.y) == [0, 1.5]
    assert not random.error_y.visible, "an end that is not bounded cannot be drawn"
    assert figure.layout.yaxis.title.text == plots.EFFECTS["kl"]
