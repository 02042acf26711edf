"""Sweeps with placebos: baselines that follow a score, at every share of heads and in both modes."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.ablation.ablations import Fixed, PerInput
from inactive_heads.engines.lens import bridge_of
from inactive_heads.names import is_baseline, placebo_of, score_of_placebo
from inactive_heads.report.page.verdict import verdict
from inactive_heads.sweeps.grid import make_grid, split_baselines
from inactive_heads.sweeps.head_to_head import challenges

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
SAMPLES = [[5, 6, 7, 8, 9], [50, 40, 3], list(range(30)), [9, 8, 7, 1, 2, 3], [11, 12, 13, 14]]
TASK = ih.TextTask("text-loss", SAMPLES)
PLACEBO = "Placebo of AHON (LN)"


def loud(heads):
    return -heads.mean_over_tokens(heads.z_norm)


def scores_of(names):
    return ih.score_heads(MODEL, SAMPLES, scores=list(names))


def points(scores, own, mode="per-input", **options):
    grid = make_grid(MODEL, scores=scores, percents=[10, 30], mode=mode, **options)
    return grid.points("task", [(0, 2), (2, 5)], own, MODEL.shape)


def test_names():
    assert placebo_of("AHON (LN)") == PLACEBO
    assert score_of_placebo(PLACEBO) == "AHON (LN)"
    assert score_of_placebo("AHON (LN)") is None
    assert [is_baseline(name) for name in ("Random", PLACEBO, "AHON (LN)", loud)] == [
        *(True, True),
        *(False, False),
    ]
    with pytest.raises(ih.UserError, match="'Placebo of mine' is the name of a baseline"):
        ih.score_function("Placebo of mine", inactive="below")


@pytest.mark.parametrize("given", ["own", "calibration", "thresholds"])
@pytest.mark.parametrize("swept", [[PLACEBO], ["AHON (LN)", PLACEBO, "Random"]])
def test_a_placebo_follows_its_score_at_the_score_s_threshold(given, swept):
    own = scores_of(["AHON (LN)"])
    cuts = ih.choose_thresholds(own, [10, 30])
    options = {"own": {}, "calibration": {"calibration": own}, "thresholds": {"thresholds": cuts}}
    found = [
        point
        for point in points(swept, own if given == "own" else None, seed=6, **options[given])
        if point.score == PLACEBO
    ]
    assert [point.percent for point in found] == [10, 30]
    for point in found:
        threshold = float(cuts.sel(score="AHON (LN)", percent=point.percent))
        followed = PerInput("AHON (LN)", threshold)
        assert np.isnan(point.threshold)
        assert [unit.items for unit in point.units] == [(0, 2), (2, 5)]
        assert {unit.ablation.label for unit in point.units} == {ih.Placebo(followed, 6).label}


def test_in_fixed_mode_it_is_one_set_of_as_many_heads_of_the_same_layers():
    own = scores_of(["AHON"])
    score, placebo = (
        [
            point
            for point in points(["AHON", "Placebo of AHON"], own, "fixed")
            if point.score == name
        ]
        for name in ("AHON", "Placebo of AHON")
    )
    for one, other in zip(score, placebo, strict=True):
        followed, drawn = one.units[0].ablation, other.units[0].ablation
        assert isinstance(followed, Fixed)
        assert drawn.label == ih.Placebo(followed, 0).label
        for layer in range(3):
            count = sum(at == layer for at, _ in followed.heads)
            assert int(drawn.silence(layer, 4).mask.sum()) == count
    nothing = make_grid(MODEL, scores=["Placebo of AHON"], percents=[1], mode="fixed")
    (point,) = nothing.points("task", [(0, 5)], own, MODEL.shape)
    assert point.units[0].ablation is None  # the baseline


def test_it_may_follow_a_score_of_the_caller_s_own():
    mine = ih.Score("mine", loud, "below", "loud heads")
    ranked, with_random, followed = split_baselines([mine, "Placebo of mine", "Random"])
    assert ranked == followed == [mine]
    assert with_random
    grid = make_grid(MODEL, scores=["AWFT", PLACEBO], percents=[10], mode="per-input")
    assert grid.names == ["AWFT", PLACEBO]
    assert [score.name for score in grid.scored] == ["AWFT", "AHON (LN)"]
    assert grid.n_points == 3
    curves = ih.sweep(MODEL, TASK, scores=[mine, "Placebo of mine"], percents=[20], progress=False)
    assert curves["score"].tolist() == ["mine"] * 2 + ["Placebo of mine"] * 2


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (["Placebo of AHOM"], "unknown score for a placebo to follow 'AHOM'; did you mean 'AHON'"),
        (["Placebo of Random"], "unknown score for a placebo to follow 'Random'"),
        ([PLACEBO, PLACEBO], f"'{PLACEBO}' was asked for twice"),
    ],
)
def test_what_it_cannot_follow_is_refused(scores, message):
    with pytest.raises(ih.UserError, match=re.escape(message)):
        split_baselines(scores)


def test_its_score_needs_a_threshold_too():
    cuts = ih.choose_thresholds(scores_of(["AHON"]), [10, 30])
    with pytest.raises(ih.UserError, match="the thresholds given have no score AHON .LN."):
        points(["AHON", PLACEBO], None, thresholds=cuts)


@pytest.mark.parametrize("mode", ["per-input", "fixed"])
def test_a_sweep_is_the_same_in_pieces_and_resumed(mode, tmp_path):
    options = {"scores": ["AHON (LN)", PLACEBO], "percents": [10, 30], "mode": mode}
    options |= {"progress": False}
    whole = ih.sweep(MODEL, TASK, **options)
    pieces = ih.sweep(MODEL, TASK, shard_tokens=10, out=tmp_path / "run", **options)
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-4, atol=1e-4)
    units = sorted((tmp_path / "run" / "units").glob("*placebo*.unit"))
    assert len(units) == 2 * 3
    for unit in units[::2]:
        unit.unlink()
    resumed = ih.sweep(MODEL, TASK, shard_tokens=10, out=tmp_path / "run", **options)
    pd.testing.assert_frame_equal(pieces, resumed, rtol=1e-5, atol=1e-5)
    (read,) = ih.load_sweeps(tmp_path / "run")
    zeroed = {
        name: read.points[name, 30.0].items["percent_zeroed"].to_numpy()
        for name in ("AHON (LN)", PLACEBO)
    }
    if mode == "fixed":  # the same layers have the same counts, whatever the heads do
        np.testing.assert_allclose(zeroed[PLACEBO], zeroed["AHON (LN)"])
    assert (zeroed[PLACEBO] > 0).any()
    with pytest.raises(ih.UserError, match="placebos"):
        ih.sweep(MODEL, TASK, shard_tokens=10, out=tmp_path / "run", **options | {"scores": "AWFT"})


def test_it_is_a_baseline_wherever_scores_are_judged():
    """Here the placebo does better than every score; it is never the best of them."""
    names = ["AWFT", "AHON (LN)", PLACEBO, "Random"]
    points = {0: [50, 50, 50, 50], 10: [40, 41, 49, 30]}
    rows = [
        {
            "model": "m",
            "task": "quiz",
            "mode": "per-input",
            "score": name,
            "percent": percent,
            "percent_zeroed": percent,
            "accuracy": heights[place],
        }
        for percent, heights in points.items()
        for place, name in enumerate(names)
    ]
    curves = pd.DataFrame(rows)
    ranking = ih.rank_scores(curves)
    assert ranking["score"].iloc[0] == PLACEBO  # it takes part in the ranking, as Random does
    summary = ih.analysis.summarize(curves, None, percent=10)
    text = " ".join(verdict(summary, curves))
    assert "AHON (LN)" in text
    assert "if Placebo" not in text
    assert f"that {PLACEBO}" not in text
    assert ih.compare_models(ranking)["best_score"].tolist() == ["AHON (LN)"]
    figure = ih.plots.accuracy_curves(curves)
    widths = {trace.name.split(". ")[-1]: trace.line.width for trace in figure.data}
    assert len({widths[name] for name in ("AHON (LN)", PLACEBO, "Random")}) == 1
    assert widths["AWFT"] < widths[PLACEBO]


def test_it_challenges_no_score_of_the_paper():
    task = TASK
    grid = make_grid(MODEL, scores=["AHON (LN)", PLACEBO], percents=[20], mode="per-input")
    from inactive_heads.evaluation.prepared_task import PreparedTask
    from inactive_heads.sweeps.job import Job
    from inactive_heads.sweeps.local_executor import InProcess
    from inactive_heads.sweeps.run_folder import RunMemory
    from inactive_heads.sweeps.sweep import run_sweep

    named = {score.name: score for score in grid.scored}
    job = Job(MODEL, {task.name: PreparedTask.of(MODEL, task)}, named)
    found = run_sweep(job, task.name, grid, RunMemory(), InProcess(), progress=False)
    assert challenges({task.name: found}, {task.name: found.ranking()}) is None
