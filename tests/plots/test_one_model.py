"""Figures: the numbers in them, what hovering says, and that names stay text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inactive_heads import plots
from inactive_heads.errors import UserError

HOSTILE = "<b>MY</b> & score"


@pytest.fixture
def scores() -> xr.DataArray:
    """Two scores, 4 inputs, layers 1 and 5 (a hybrid's), 3 heads."""
    values = np.arange(48, dtype="float32").reshape(2, 4, 2, 3)
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": [HOSTILE, "AWFT"],
            "inactive": ("score", ["below", "above"]),
            "layer": [1, 5],
            "head": [0, 1, 2],
        },
    )


@pytest.fixture
def thresholds() -> xr.DataArray:
    return xr.DataArray(
        [[0.0, 13.5], [47.0, 40.5]],
        dims=("score", "percent"),
        coords={"score": [HOSTILE, "AWFT"], "percent": [0.0, 50.0]},
    )


@pytest.fixture
def curves() -> pd.DataFrame:
    rows = [
        {"model": "m", "task": "quiz", "mode": "per-input", "score": score}
        | {"percent": 10.0 * i, "percent_zeroed": 10.0 * i, "accuracy": value}
        | {"ci_low": value - 3, "ci_high": value + 2, "loss": np.nan}
        for score, values in (
            ("Random", [60.0, 40.0, 25.0]),
            (HOSTILE, [60.0, 50.0, 40.0]),
            ("AHON (LN)", [60.0, 59.0, 55.0]),
        )
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_head_heatmap(scores):
    values = scores.sel(score=HOSTILE).mean("sample")
    mask = values > 12
    figure = plots.head_heatmap(values.transpose("head", "layer"), inactive=mask)
    heat, dots = figure.data
    np.testing.assert_array_equal(heat.z, [[9, 10, 11], [12, 13, 14]])
    assert list(heat.y) == ["1", "5"]
    assert heat.text[1][2] == "L5H2<br>14<br>rank 6 of 6"
    assert list(zip(dots.y, dots.x, strict=True)) == [("5", "1"), ("5", "2")]
    assert figure.layout.title.text == "&lt;b&gt;MY&lt;/b&gt; &amp; score"
    assert heat.reversescale is False


def test_dark_and_rank_1_are_the_inactive_side(scores):
    values = scores.sel(score="AWFT").mean("sample")
    heat = plots.head_heatmap(values, title="t").data[0]
    assert heat.reversescale is True
    assert heat.text[1][2].endswith("rank 1 of 6")
    bare = values.drop_vars(["inactive", "layer", "head"])
    assert plots.head_heatmap(bare).data[0].text[0][0].endswith("rank 1 of 6")
    assert plots.head_heatmap(bare, inactive_side="above").data[0].reversescale is True
    with pytest.raises(UserError, match="'left'"):
        plots.head_heatmap(bare, inactive_side="left")


def test_missing_values_stay_missing(scores):
    values = scores.sel(score="AWFT").mean("sample")
    values[0, 0] = np.nan
    heat = plots.head_heatmap(values).data[0]
    assert np.isnan(heat.z[0][0])
    assert heat.text[1][2].endswith("rank 1 of 5")
    assert heat.text[0][0] == "L1H0<br>not known"


def test_score_heatmaps(scores, thresholds):
    figure = plots.score_heatmaps(scores, thresholds, 50)
    assert [trace.visible for trace in figure.data] == [True, True, False, False]
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["&lt;b&gt;MY&lt;/b&gt; &amp; score", "AWFT"]
    assert list(buttons[1].args[0]["visible"]) == [False, False, True, True]
    # Below 13.5 on more than 2 of 4 inputs: values are 6 apart from input to input.
    assert list(figure.data[1].x) == ["0", "1"]
    assert list(figure.data[1].y) == ["1", "1"]


def test_accuracy_curves(curves):
    figure = plots.accuracy_curves(curves, title="<i>quiz</i>")
    names = [trace.name for trace in figure.data]
    assert names == ["1. AHON (LN)", "2. &lt;b&gt;MY&lt;/b&gt; &amp; score", "3. Random"]
    best, other, random = figure.data
    assert list(best.y) == [60, 59, 55]
    assert best.text[1] == "AHON (LN)<br>10% zeroed: 59 [56, 61]"
    assert (best.error_y.visible, other.error_y.visible, random.error_y.visible) == (
        True,
        False,
        True,
    )
    assert (list(best.error_y.array), list(best.error_y.arrayminus)) == ([2, 2, 2], [3, 3, 3])
    assert random.line.dash == "dash"
    assert figure.layout.shapes[0].y0 == 60
    assert figure.layout.shapes[0].line.dash == "dot"
    assert figure.layout.title.text == "&lt;i&gt;quiz&lt;/i&gt;"
    assert plots.accuracy_curves(curves, highlight=HOSTILE).data[1].line.width == 3


def test_paired_intervals_are_drawn_where_they_are_known(curves):
    start = curves.groupby("score")["accuracy"].transform("max")
    change = curves["accuracy"] - start
    paired = curves.assign(change=change, change_low=change - 0.5, change_high=change + 0.25)
    best = plots.accuracy_curves(paired).data[0]
    np.testing.assert_allclose(best.error_y.array, [0.25] * 3)
    np.testing.assert_allclose(best.error_y.arrayminus, [0.5] * 3)
    unknown = paired.assign(change_high=np.inf)
    assert list(plots.accuracy_curves(unknown).data[0].error_y.array) == [2, 2, 2]


def test_accuracy_curves_without_intervals_or_rank(curves):
    bare = curves.drop(columns=["ci_low", "ci_high"])
    assert plots.accuracy_curves(bare).data[0].error_y.visible is False
    single = plots.accuracy_curves(bare[bare["percent"] == 0])
    assert [trace.name for trace in single.data][::2] == ["Random", "AHON (LN)"]


def test_accuracy_curves_refuses_what_is_not_one_chart(curves):
    with pytest.raises(UserError, match="m / quiz / per-input; m / quiz / fixed"):
        plots.accuracy_curves(pd.concat([curves, curves.assign(mode="fixed")]))
    with pytest.raises(UserError, match="'loss'"):
        plots.accuracy_curves(curves, "loss")
    with pytest.raises(UserError, match="highlight='AHRN'"):
        plots.accuracy_curves(curves, highlight="AHRN")


def test_score_distributions(scores, thresholds):
    figure = plots.score_distributions(scores, "AWFT", thresholds=thresholds, percent=50, bins=6)
    assert list(figure.data[0].y) == [4] * 6
    shade, line = figure.layout.shapes
    assert (shade.x0, shade.x1, line.x0) == (40.5, 47, 40.5)
    assert plots.score_distributions(scores, "AWFT").layout.shapes == ()
    with pytest.raises(UserError, match="no score 'AHON'"):
        plots.score_distributions(scores, "AHON")
    with pytest.raises(UserError, match="no threshold for 7%"):
        plots.score_distributions(scores, "AWFT", thresholds=thresholds, percent=7)


def test_inactive_by_layer(scores, thresholds):
    heat = plots.inactive_by_layer(scores, thresholds, 50).data[0]
    # Score 0: 0, 1, 2 | 3, 4, 5 of each input plus 6 per input, below 13.5; score 1 is 24 more, above 40.5.
    np.testing.assert_allclose(heat.z, [[8 / 12 * 100, 6 / 12 * 100], [3 / 12 * 100, 4 / 12 * 100]])
    assert list(heat.y) == ["&lt;b&gt;MY&lt;/b&gt; &amp; score", "AWFT"]


def test_histogram_keeps_count_of_what_it_leaves_out():
    values = np.r_[np.linspace(0, 1, 1000), 1e6, np.nan]
    edges, counts, beyond = plots.histogram(values, bins=10)
    assert edges[-1] < 2
    assert counts.sum() + beyond == 1001
    edges, counts, beyond = plots.histogram(np.full(5, 3.0))
    assert (counts.sum(), beyond) == (5, 0)
    assert edges[0] < 3 < edges[-1]
    with pytest.raises(UserError, match="no finite value"):
        plots.histogram(np.array([np.nan]))


def test_every_score_has_a_look_of_its_own():
    families = ["AWFT", "AEQD", "FTVVN", "AVVN", "AHON", "LTHON", "AHRN"]
    names = [f"{name}{kind}" for name in families for kind in ("", " (LN)", " (HN)")]
    looks = [tuple(plots.line_style(name).values()) for name in [*names, "Random", "MINE"]]
    assert len(set(looks)) == len(looks)
    assert plots.line_style("MINE") == plots.line_style("MINE")
