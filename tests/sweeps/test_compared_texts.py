"""Sweeps of texts compare every point with the unablated model, wherever and whenever they run."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import bridge_of
from inactive_heads.files import digest_of
from inactive_heads.models.model import Model
from inactive_heads.sweeps import job

SAMPLES = [[5, 6, 7, 8, 9], [50, 40, 3], list(range(30)), [9, 8, 7, 1, 2, 3]]
TASK = ih.TextTask("text-loss", SAMPLES)
MODEL = Model(FlashEngine(tiny_llama(), "tiny"), None, {"model": "tiny", "dtype": "float32"}, list)
OPTIONS = {"scores": ["AHON (LN)", "Random"], "percents": [10, 30], "progress": False}
COMPARED = [f"{name}{end}" for name in ("kl", "top1_agreement") for end in ("", "_low", "_high")]


def counted_runs(monkeypatch):
    """Every evaluation of a range of texts: whether it was of the unablated model."""
    ran, inside = [], job.run_task

    def run(model, part, ablation, **options):
        ran.append((part.first_input, ablation is None))
        return inside(model, part, ablation, **options)

    monkeypatch.setattr(job, "run_task", run)
    return ran


@pytest.mark.parametrize("mode", ["per-input", "fixed"])
def test_every_point_is_what_an_evaluation_with_a_baseline_is(mode, tmp_path):
    curves = ih.sweep(MODEL, TASK, mode=mode, shard_tokens=10, out=tmp_path / "run", **OPTIONS)
    baseline = ih.evaluate(MODEL, TASK, progress=False)
    (found,) = ih.load_sweeps(tmp_path / "run")
    scores = ih.score_heads(MODEL, SAMPLES, scores=["AHON (LN)"])
    cuts = ih.choose_thresholds(scores, [10, 30])
    for row in curves.itertuples():
        own = found.points[row.score, row.percent]
        if row.percent == 0:
            assert [getattr(row, name) for name in COMPARED] == [0, 0, 0, 100, 100, 100]
            continue
        if row.score == "Random" and mode == "fixed":
            drawn = np.random.default_rng(0).random((3, 4)) < row.percent / 100
            ablation = ih.Fixed(drawn)
        elif row.score == "Random":
            ablation = ih.Random(row.percent / 100)
        elif mode == "fixed":
            ablation = ih.Fixed(ih.select_heads(scores, "AHON (LN)", row.percent))
        else:
            ablation = ih.PerInput("AHON (LN)", cuts.sel(score="AHON (LN)", percent=row.percent))
        alone = ih.evaluate(MODEL, TASK, ablation, baseline=baseline, progress=False)
        columns = ["loss", "kl", "top1_agreement"]
        pd.testing.assert_frame_equal(
            own.items[columns], alone.items[columns], rtol=1e-4, atol=1e-6
        )
        effect = alone.effect(baseline)
        assert row.kl == pytest.approx(effect["kl"], rel=1e-4, abs=1e-6)
        assert row.top1_agreement == pytest.approx(effect["top1_agreement"], rel=1e-6)
        assert np.isnan([row.kl_low, row.top1_agreement_low]).all()  # too few texts for an interval
    assert (curves.loc[curves["percent"] == 30, "kl"] > 0).all()
    summary = ih.analysis.summarize(curves, None, percent=30)
    by_score = curves[curves["percent"] == 30].set_index("score")
    for name in ("kl", "top1_agreement"):
        for row in summary.itertuples():
            assert getattr(row, name) == by_score.loc[row.score, name]


def test_the_unablated_model_runs_once_for_each_range_of_texts(monkeypatch):
    ran = counted_runs(monkeypatch)
    ih.sweep(MODEL, TASK, shard_tokens=10, **OPTIONS)
    assert sorted(first for first, is_unablated in ran if is_unablated) == [0, 2, 3]
    assert len(ran) == 3 * (1 + 2 * 2)


def test_and_once_more_where_an_interrupted_sweep_is_resumed(tmp_path, monkeypatch):
    whole = ih.sweep(MODEL, TASK, shard_tokens=10, out=tmp_path / "run", **OPTIONS)
    for unit in (tmp_path / "run" / "units").glob("text-loss-0000[02]*0.*.unit"):
        unit.unlink()
    left = len(list((tmp_path / "run" / "units").glob("*.unit")))
    ran = counted_runs(monkeypatch)
    resumed = ih.sweep(MODEL, TASK, shard_tokens=10, out=tmp_path / "run", **OPTIONS)
    pd.testing.assert_frame_equal(resumed, whole)  # to the last digit
    done = 3 * (1 + 2 * 2) - left
    assert done > 2
    assert sorted(first for first, is_unablated in ran if is_unablated) == [0, 2]
    assert len(ran) == done + 2


def test_without_room_for_states_the_numbers_are_the_same(monkeypatch):
    expected = ih.sweep(MODEL, TASK, shard_tokens=10, **OPTIONS)
    monkeypatch.setattr(job, "MAX_STATES", 4 * 32 * 7)  # the first range of three has room
    found = ih.sweep(MODEL, TASK, shard_tokens=10, **OPTIONS)
    ends = [name for name in expected if name.endswith(("_low", "_high"))]
    pd.testing.assert_frame_equal(
        found.drop(columns=ends), expected.drop(columns=ends), rtol=1e-4, atol=1e-5
    )


def test_another_engine_gives_the_same(monkeypatch):
    lens = ih.as_model(bridge_of(tiny_llama(), "tiny"))
    columns = ["score", "percent", "loss", "kl", "top1_agreement"]
    one, other = (ih.sweep(model, TASK, **OPTIONS)[columns] for model in (MODEL, lens))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


def test_a_run_of_an_earlier_version_is_refused(tmp_path):
    """Its units lack what texts are compared by."""
    ih.sweep(MODEL, TASK, out=tmp_path / "run", **OPTIONS)
    path = tmp_path / "run" / "run.json"
    settings = json.loads(path.read_text())["settings"]
    del settings["tasks"]["text-loss"]["compared"]
    path.write_text(json.dumps({"digest": digest_of(settings), "settings": settings}))
    with pytest.raises(ih.UserError, match="compared was null, now .*top1_agreement"):
        ih.sweep(MODEL, TASK, out=tmp_path / "run", **OPTIONS)
