"""Heads that a layer lacks are empty in heatmaps, crossed out, and say so when pointed at."""

import re

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih
from inactive_heads.analysis import (
    inactive_at,
    inactive_counts,
    inactive_shares,
    length_correlations,
)
from inactive_heads.plots import head_heatmaps, per_input

EXISTS = np.array([[True] * 3, [True, False, False], [True, True, False]])
VALUES = np.arange(45, dtype=float).reshape(1, 5, 3, 3) % 7
COORDS = {
    "score": ["S"],
    "inactive": ("score", ["below"]),
    "layer": [0, 4, 5],
    "head": range(3),
    "n_heads": ("layer", [3, 1, 2]),
    "n_tokens": ("sample", [3, 5, 9, 12, 20]),
}
DIMS = ("score", "sample", "layer", "head")
SCORES = xr.DataArray(np.where(EXISTS, VALUES, np.nan), dims=DIMS, coords=COORDS)
CUTS = ih.choose_thresholds(SCORES, [30])
INACTIVE = inactive_at(SCORES, CUTS, 30)
CELLS = [[0, 0, 0], [0, 1, 1], [0, 0, 1]]  # where an empty cell is

FIGURES = {
    "scores": lambda: ih.plots.head_heatmap(SCORES.sel(score="S").mean("sample")),
    "shares of booleans": lambda: ih.plots.head_heatmap(
        INACTIVE.drop_vars("defined")[0].mean("sample")
    ),
    "counts": lambda: ih.plots.head_heatmap(inactive_counts(SCORES, CUTS, 30)[0]),
    "every score": lambda: head_heatmaps.score_heatmaps(SCORES, CUTS, 30),
    "share of inputs": lambda: per_input.share_heatmap(inactive_shares(INACTIVE)[0]),
    "booleans' share": lambda: per_input.share_heatmap(
        INACTIVE.drop_vars("defined")[0].mean("sample")
    ),
    "correlations": lambda: per_input.correlation_heatmap(length_correlations(SCORES)[0]),
    "changes": lambda: per_input.change_heatmap(*[inactive_shares(INACTIVE)[0]] * 2),
}


@pytest.mark.parametrize("name", FIGURES)
def test_absent_heads_are_empty_and_crossed_out(name):
    figure = FIGURES[name]()
    heat = figure.data[0]
    assert np.isnan(np.asarray(heat.z, dtype=float)).astype(int).tolist() == CELLS
    (shape,) = figure.layout.shapes
    starts = re.findall(r"M([-\d.]+),([-\d.]+)L", shape.path)
    assert [(round(float(x) + 0.4), round(float(y) - 0.4)) for x, y in starts] == [
        (1, 1),
        (2, 1),
        (2, 2),
    ]
    for (row, column), text in np.ndenumerate(np.array(heat.text)):
        layer = COORDS["layer"][row]
        if EXISTS[row, column]:
            assert text.startswith(f"L{layer}H{column}")
            assert "no such head" not in text
        else:
            assert (
                text
                == f"L{layer}H{column}<br>no such head: layer {layer} has {3 - sum(CELLS[row])}"
            )
    assert heat.hoverongaps is not False


def test_the_rank_is_among_the_heads_that_exist():
    heat = FIGURES["scores"]().data[0]
    assert all(text.endswith("of 6") for text in np.array(heat.text)[EXISTS])


def test_a_model_whose_layers_are_alike_has_no_strokes():
    alike = SCORES.drop_vars("n_heads").fillna(1.0)
    figure = ih.plots.head_heatmap(alike.sel(score="S").mean("sample"))
    assert not figure.layout.shapes
    undefined = SCORES.drop_vars("n_heads").sel(score="S").mean("sample")
    heat = ih.plots.head_heatmap(undefined).data[0]
    assert heat.text[1][1] == "L4H1<br>not known", "NaN alone does not say that there is no head"


def test_values_and_dots_at_an_absent_head_are_refused_by_name():
    means = SCORES.sel(score="S").mean("sample")
    with pytest.raises(ih.UserError, match="value at L4H1, and layer 4 has heads 0 to 0"):
        ih.plots.head_heatmap(means.fillna(2.0))
    with pytest.raises(ih.UserError, match="L5H2 is not among the values"):
        ih.plots.head_heatmap(means, inactive=[(5, 2)])


def test_distributions_count_the_heads_that_exist():
    bar = ih.plots.score_distributions(SCORES, "S").data[0]
    assert sum(bar.y) == 5 * 6
    line = ih.plots.score_cdfs({"m": SCORES}, "S").data[0]
    known = SCORES.values[np.isfinite(SCORES.values)]
    assert (line.x[0], line.x[-1]) == (known.min(), known.max())
    by_layer = ih.plots.inactive_by_layer(SCORES, CUTS, 30).data[0].z[0]
    own = (float(CUTS[0, 0]) > SCORES).sum(("sample", "head")).values[0]
    np.testing.assert_allclose(by_layer, 100 * own / (5 * np.array([3, 1, 2])))
