"""This project's scores in a report: swept by default, the paper's own ranking beside them unchanged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.names import OURS, PAPER_SCORES, PROPOSED_SCORES, RANDOM, ROD
from inactive_heads.report.build import build_reports
from inactive_heads.report.options import ReportOptions
from inactive_heads.report.prepare import SWEPT_SCORES, plan_report, prepare_report
from inactive_heads.scores.registry import REGISTRY
from inactive_heads.specs import ModelSpec, TaskSpec, TextsSpec
from inactive_heads.sweeps.job import Job

TEXTS = [
    "the cat sat on a mat and ran",
    "a dog ran far and the cat sat",
    "the dog sat on the mat",
    "far ran the dog on a mat and sat",
    "a cat and a dog sat",
    "the mat sat far on the cat",
]

PLACEBO = "Placebo of AHON (LN)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ours")
    save_folder(place / "llama", tiny_llama(vocab_size=len(WORDS)), word_tokenizer())
    (place / "texts.csv").write_text("\n".join(["text", *TEXTS]))
    rows = [
        f'q{n},cats,test,the cat {n},"[""sat"", ""ran"", ""on"", ""mat""]",{n}' for n in range(4)
    ]
    (place / "quiz.csv").write_text("\n".join(["id,subject,split,question,choices,answer", *rows]))
    return place


@pytest.fixture
def asked(folder, tmp_path):
    return ReportOptions(
        model=ModelSpec(str(folder / "llama")),
        out=str(tmp_path / "out"),
        texts=TextsSpec(str(folder / "texts.csv"), num_texts=3),
        tasks=[TaskSpec("text-loss")],
        percents=[30],
    )


def test_what_is_ours_is_told_from_the_papers():
    assert set(PROPOSED_SCORES) < set(OURS)
    assert ROD in OURS
    assert not set(OURS) & {*PAPER_SCORES, *SWEPT_SCORES, RANDOM}


@pytest.mark.parametrize(("replacement", "ours"), [("zero", ["RON"]), ("mean", ["RON", "ROD"])])
def test_ours_are_swept_and_shown_by_default(folder, asked, replacement, ours):
    tasks = [TaskSpec("quiz", folder / "quiz.csv"), TaskSpec("text-loss")]
    prepared = prepare_report(replace(asked, tasks=tasks, replacement=replacement))
    names = {name: grid.names for name, grid in prepared.grids.items()}
    assert names["text-loss"] == [*PAPER_SCORES, *ours, RANDOM, PLACEBO]
    assert sorted(names["quiz"]) == sorted([*SWEPT_SCORES, *ours])
    assert prepared.scores == [*PAPER_SCORES, *ours]
    assert [grid.replacement is None for grid in prepared.grids.values()] == [
        replacement == "zero"
    ] * 2


def test_what_a_model_lacks_is_left_out_with_a_notice(asked, monkeypatch):
    def broken(heads):
        raise ih.UserError("nothing is known of how later layers read")

    for name in PROPOSED_SCORES:
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], function=broken))
    with pytest.warns(ih.Notice, match="RON is left out: nothing is known of how"):
        prepared = prepare_report(asked)
    assert prepared.grids["text-loss"].names == [*PAPER_SCORES, RANDOM, PLACEBO]
    with pytest.warns(ih.Notice, match="RON is left out"):
        some = prepare_report(replace(asked, scores=["RON", "AWFT", "Placebo of RON", RANDOM]))
    assert some.grids["text-loss"].names == ["AWFT", RANDOM]


def test_heads_are_replaced_by_their_means_over_texts_that_are_not_scored(asked, monkeypatch):
    options = replace(asked, replacement="mean", scores=["ROD", "AHON (LN)", RANDOM])
    build_reports([options], options.out)
    out = options.out
    model = ih.load_model(options.model.source)
    scored = ih.load_texts(options.texts.source, n=3, seed=0)
    means = ih.mean_head_outputs(model, [t for t in TEXTS if t not in scored], progress=False)
    kept = xr.load_dataarray(f"{out}/mean_outputs.nc")
    np.testing.assert_allclose(kept, means, rtol=1e-5, atol=1e-7)
    curves = pd.read_csv(f"{out}/curves.csv").query("percent == 30").set_index("score")
    assert list(curves.index) == ["ROD", "AHON (LN)", RANDOM]
    task = ih.TextTask("text-loss", scored)
    rod = ih.read_output_distance(kept)
    found = xr.load_dataarray(f"{out}/scores.nc")
    own = ih.score_heads(model, scored, scores=[rod], progress=False)
    np.testing.assert_allclose(found.sel(score=["ROD"]), own, rtol=1e-4)
    for name, score in (("ROD", rod), ("AHON (LN)", "AHON (LN)")):
        ablation = ih.PerInput(score, curves.loc[name, "threshold"], kept)
        expected = ih.evaluate(model, task, ablation, progress=False)
        assert curves.loc[name, "loss"] == pytest.approx(expected.summary()["loss"], rel=1e-5)
        assert curves.loc[name, "percent_zeroed"] == pytest.approx(expected.percent_zeroed)
    config = json.loads((Path(out) / "config.json").read_text("utf-8"))
    assert config["replacement"] == config["asked"]["replacement"] == "mean"
    assert config["definitions"]["ROD"] == rod.definition
    # Resumed, nothing is done again; the means are those of the folder.
    monkeypatch.setattr(Job, "do", lambda *_: pytest.fail("a unit was done again"))
    build_reports([options], options.out)
    with pytest.raises(ih.UserError, match=r"other settings.*replacement was"):
        build_reports([replace(options, replacement="zero", scores=["AHON (LN)"])], options.out)


def test_means_need_texts_that_are_not_scored(asked):
    whole = replace(asked, replacement="mean", texts=replace(asked.texts, num_texts=None))
    with pytest.raises(ih.UserError, match=r"all 6 texts of .* give --num-texts below 6"):
        prepare_report(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": ["ROD"]}, "give --replacement mean"),
        ({"replacement": "median"}, "replacement must be zero or mean, not 'median'"),
    ],
)
def test_a_replacement_is_checked_before_a_model_is_loaded(asked, changes, message):
    with pytest.raises(ih.UserError, match=message):
        replace(asked, **changes).check()


def test_a_plan_says_what_the_run_would_say(asked, monkeypatch):
    options = replace(asked, scores=["AWFT", RANDOM])
    first = plan_report(options)
    assert first.startswith("text-loss: 5 points, 5 units")
    assert "are finished" not in first
    ran, inside = [], Job.do

    def stopped(self, unit, *rest):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(unit)
        return inside(self, unit, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "do", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_reports([options], options.out)
    assert "2 of 5 units are finished" in plan_report(options)
    with pytest.raises(ih.UserError) as refused:
        build_reports([replace(options, percents=[20])], options.out)
    with pytest.raises(ih.UserError) as planned:
        plan_report(replace(options, percents=[20]))
    assert str(planned.value) == str(refused.value)
    assert "other settings: tasks.text-loss.percents was [10.0, 30.0], now [10.0, 20.0]" in str(
        planned.value
    )
    build_reports([options], options.out)
    last = plan_report(options)
    assert "5 of 5 units are finished" in last
    assert "tokens/s" not in last
