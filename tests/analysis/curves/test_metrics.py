"""Metrics: strings that know their direction, units and words, one instance each."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.unchecked import unchecked
from jaxtyping import TypeCheckError

import inactive_heads as ih
from inactive_heads import analysis
from inactive_heads.analysis.curves.metrics import ACCURACY, LOSS, METRICS, Metric, get_metric
from inactive_heads.analysis.curves.table import metric_of, metrics_of
from inactive_heads.errors import UserError


def test_a_metric_is_its_name():
    for metric, name in zip(METRICS, ("accuracy", "loss"), strict=True):
        assert metric == name
        assert hash(metric) == hash(name)
        assert (repr(metric), f"{metric}", f"{metric:>10}") == (repr(name), name, f"{name:>10}")
        assert {name: 1}[metric] == {metric: 1}[name] == 1
        assert json.loads(json.dumps({metric: metric})) == {name: name}
        assert pd.DataFrame({name: [0.5]})[metric].item() == 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_has_one_instance(metric):
    assert get_metric(str(metric)) is get_metric(metric) is metric
    assert type(str(metric)) is str
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(metric, protocol)) is metric  # noqa: S301
    assert copy.copy(metric) is metric
    assert copy.deepcopy({"metric": [metric]})["metric"][0] is metric


def test_an_unknown_metric_is_refused():
    message = "metric must be accuracy or loss, not 'speed'"
    with pytest.raises(UserError, match=message):
        get_metric("speed")
    curves = pd.DataFrame({"model": ["m"]})
    for call in (
        lambda: ih.rank_scores(curves, metric="speed"),
        lambda: analysis.within_column("speed"),
        lambda: ih.plots.accuracy_curves(curves, "speed"),
        lambda: ih.plots.curve_grid(curves, "speed"),
        lambda: ih.Outcomes(pd.DataFrame(), "speed", 0.0),
    ):
        with unchecked(), pytest.raises(UserError, match=message):
            call()


def test_types_are_checked_again_after_unchecked_calls():
    with pytest.raises(UserError), unchecked():
        analysis.within_column("speed")
    with pytest.raises(TypeCheckError):
        analysis.within_column("speed")


def test_upward_is_better():
    values = np.array([-1.5, 0.0, 2.0])
    np.testing.assert_array_equal(ACCURACY.upward(values), [-1.5, 0.0, 2.0])
    np.testing.assert_array_equal(LOSS.upward(values), [1.5, 0.0, -2.0])
    falls, rises = [60.0, 58.0], [2.0, 2.5]
    for metric, worse in ((ACCURACY, falls), (LOSS, rises)):
        assert metric.upward(worse[1]) < metric.upward(worse[0])
        # The direction is that of `percent_within`: the curve leaves the tolerance half way.
        half = abs(worse[1] - worse[0]) / 2
        reach = ih.percent_within([0, 10], worse, within=half, direction=metric.direction)
        assert reach == pytest.approx(5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("within", [None, 0.001, 0.05, 1, 2.5, 30])
def test_the_column_of_a_tolerance_names_it(metric, within):
    expected = metric.tolerance if within is None else within
    assert metric.within_of(metric.within_column(within)) == expected
    assert analysis.within_column(str(metric), within) == metric.within_column(within)


def test_columns_and_words():
    assert [metric.within_column() for metric in METRICS] == [
        "percent_within_1pt",
        "percent_within_0.05_nats",
    ]
    assert analysis.TOLERANCE == {"accuracy": 1.0, "loss": 0.05}
    assert [ACCURACY.amount(value) for value in (0.5, 1, 2)] == [
        "0.5 points",
        "1 point",
        "2 points",
    ]
    assert [LOSS.amount(value) for value in (0.05, 1)] == ["0.05 nats", "1 nats"]
    assert (ACCURACY.axis_title, ACCURACY.heading) == ("accuracy, %", "accuracy, %")
    assert (LOSS.axis_title, LOSS.heading) == ("loss, nats per token", "loss, nats/token")
    assert (ACCURACY.written(61.25), ACCURACY.with_unit(61.25)) == ("61.2%", "61.2%")
    assert (LOSS.written(2.3456), LOSS.with_unit(2.3456)) == ("2.346", "2.346 nats per token")
    assert (ACCURACY.signed(-2.25), LOSS.signed(0.064)) == ("-2.2 points", "+0.064")


def test_tasks_outcomes_and_tables_have_metrics():
    assert ih.ChoiceTask.metric is ACCURACY
    assert ih.TextTask.metric is LOSS
    assert ih.Outcomes(pd.DataFrame(), "loss", 0.0).metric is LOSS
    table = pd.DataFrame({"accuracy": [np.nan, 60.0], "loss": [np.nan, 2.0]})
    assert metrics_of(table) == [ACCURACY, LOSS]
    assert metrics_of(table[["loss"]]) == [LOSS]
    assert metric_of(table[["loss"]]) is LOSS
    assert metrics_of(table.iloc[:1]) == []
    assert isinstance(metric_of(table.iloc[:1]), Metric)


def test_analysis_and_plots_import_no_torch():
    code = "import sys, inactive_heads.analysis, inactive_heads.plots; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
