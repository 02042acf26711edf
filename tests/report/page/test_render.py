"""The report's page: what it says, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.pages import (
    HOSTILE,
    NAMES,
    PERCENTS,
    embedded,
    make_curves,
    make_scores,
    make_thresholds,
    text_of,
)

from inactive_heads.analysis import summarize
from inactive_heads.analysis.heads.thresholds import select_heads
from inactive_heads.errors import UserError
from inactive_heads.html import as_json
from inactive_heads.report.answer import Answer
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.page.render import render
from inactive_heads.report.page.verdict import verdict


def make_page(**changes: object) -> str:
    scores = make_scores()
    thresholds, curves = make_thresholds(scores), make_curves()
    config = {
        "model": HOSTILE,
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "dtype": "bfloat16",
        "device": "cpu",
        "engine": "flash",
        "weight_processing": "none",
        "bos": "auto",
        "texts": "bundled <i>stories</i> </script><img src=x onerror=alert(2)>",
        "n_samples": 10,
        "tokens": 12345,
        "task": "quiz",
        "num_fewshot": 0,
        "scoring": "cloze",
        "limit": None,
        "seed": 0,
        "time": "2026-11-22T05:00:00Z",
        "command": "python -m inactive_heads.report " + "a" * 120,
        "versions": {"torch": "2.9.0", "transformers": "5.9.0", "python": {"full": "3.11"}},
        "definitions": {
            name: f"The definition of {name}, with <b>tags</b> & signs." for name in NAMES
        },
    }
    percent = changes.pop("percent", 10.0)
    given = {"scores": scores, "thresholds": thresholds, "curves": curves, "config": config}
    given |= {"summary": summarize(curves, thresholds, percent=10.0)}
    return render([ModelResults(HOSTILE, **(given | changes))], percent=percent)


@pytest.fixture(scope="module")
def html() -> str:
    return make_page()


def test_hostile_strings_are_text(html):
    words = text_of(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in words
    assert "<script>alert" not in html
    assert "<img" not in words
    assert "<b>tags" not in words


def test_the_data_cannot_end_its_script():
    text = as_json(
        {"a": "</script><!--", "b": [np.float32(np.nan), np.int64(3), 1 / 3, True, None]}
    )
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": [None, 3, 0.33333, True, None]}


def test_the_data_is_compact_and_right(html):
    heads = embedded(html)["models"][HOSTILE]
    scores = make_scores()
    assert heads["percents"] == PERCENTS
    assert [score["name"] for score in heads["scores"]] == NAMES
    first, expected = heads["scores"][0], scores.to_numpy()[0]
    np.testing.assert_allclose(first["mean"], expected.mean(axis=0).ravel(), rtol=1e-4)
    cut = make_thresholds(scores).to_numpy()[0, 2]
    counts = np.frombuffer(base64.b64decode(first["counts"][2]), dtype="u1")
    np.testing.assert_array_equal(counts, (expected > cut).sum(axis=0).ravel())
    assert sum(first["bars"]["n"]) + first["bars"]["beyond"] == expected.size
    np.testing.assert_allclose(first["bars"]["quantiles"][50], np.median(expected), rtol=1e-4)
    assert len(json.dumps(heads, separators=(",", ":"))) < 210_000


def test_what_was_run_and_the_table_are_there(html):
    words = text_of(html)
    for wanted in ("shots (num_fewshot)", "cloze", "transformers", "5.9.0", "python.full", "seed"):
        assert wanted in words
    assert re.search(r"\d\d\.\d \[\d\d\.\d, \d\d\.\d\]", words), "an accuracy with its interval"
    assert re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", words), "a loss with its interval"
    words = re.sub(r'data-key="[^"]*"', "", words)
    assert "0.123456" not in words
    assert not re.search(r"\d\.\d{7}", words), "no number with more digits than it knows"
    links = re.findall(r'(\w+)="[^"]*://[^"]*"', words)
    assert links == ["href"], "the paper, and nothing to load"
    assert words.count("://") == 1


def tiny(accuracy: float, random: float, half_width: float = 1.0) -> pd.DataFrame:
    rows = []
    for score, end in (("AHON (LN)", accuracy), ("Random", random)):
        for percent, value in ((0.0, 60.0), (10.0, end)):
            row = {"model": "m", "task": "quiz", "mode": "fixed", "score": score, "n": 50}
            row |= {"percent": percent, "percent_zeroed": percent, "threshold": 0.5}
            row |= {"accuracy": value, "ci_low": value - half_width, "ci_high": value + half_width}
            rows.append(row | {"loss": np.nan, "loss_low": np.nan, "loss_high": np.nan})
    return pd.DataFrame(rows)


def test_verdict_says_what_can_be_told_apart():
    curves = tiny(accuracy=59.5, random=40.0)
    assert verdict(summarize(curves, None, percent=10.0), curves) == [
        "At least 10.0% of the heads can be zeroed before accuracy falls by 1 point, if AHON (LN) "
        "chooses them; if chance does, 0.5% (quiz, 50 questions).",
        "Zeroing the 10.0% that AHON (LN) calls inactive takes accuracy from 60.0% to 59.5% "
        "(−0.5 points); zeroing 10.0% at random, to 40.0% (−20.0 points).",
    ]


def test_the_cost_of_the_one_set_is_that_of_the_task_it_is_said_of():
    curves = pd.concat([tiny(59.5, 40.0).assign(task=task) for task in ("b", "a")])
    rows = [
        {"task": task, "accuracy": 50.0 + i, "change": -10.0 + i} for i, task in enumerate("ba")
    ]
    heads = xr.DataArray([[True, False]], dims=("layer", "head"))
    answer = Answer("AWFT", 10.0, heads, effects=pd.DataFrame(rows))
    words = verdict(summarize(curves, None, percent=10.0), curves, {"m": answer})
    assert "(a, 50 questions)" in words[0]
    assert words[1].startswith(
        "Zeroing the same 1 head (10%, by AWFT, listed below) on every question takes accuracy from "
        "60.0% to 51.0% (−9.0 points)"
    )


def test_verdict_does_not_flatter():
    curves = tiny(accuracy=50.0, random=58.0, half_width=10.0)
    words = " ".join(verdict(summarize(curves, None, percent=10.0), curves))
    assert "1.0% of the heads can be zeroed" in words
    assert words.endswith("Random did better than every score.")
    without = curves.assign(ci_low=np.nan, ci_high=np.nan)
    words = " ".join(verdict(summarize(without, None, percent=10.0), without))
    assert "interval" not in words
    assert "nan" not in words


@pytest.mark.parametrize("missing", ["scores", "thresholds", "curves", "summary"])
def test_sections_without_data_are_left_out(missing):
    words = text_of(make_page(**{missing: None}))
    assert ('id="heatmap"' in words) == (missing not in ("scores", "thresholds"))
    assert ('id="curves"' in words) == (missing != "curves")
    assert ("Every score at 10% of heads" in words) == (missing != "summary")
    assert ("<h2>Every score</h2>" in words) == (missing == "summary")


def test_a_page_of_scores_alone():
    scores = make_scores(layers=3, heads=2, samples=2)
    cuts = make_thresholds(scores)
    summary = summarize(None, cuts, percent=5.0)
    html = make_page(scores=scores, thresholds=cuts, curves=None, summary=summary, percent=5.0)
    assert "No task was run" in html
    assert "Thresholds" in text_of(html)


def test_an_unknown_share_is_refused():
    with pytest.raises(UserError, match=r"percent=7\.0 .*\[0\.0, 5\.0"):
        make_page(percent=7.0)


def test_opens_quietly_and_shows_hostile_names(opened):
    page, troubles = opened()
    page.wait_for_selector("#heatmap .heatmaplayer image")
    assert HOSTILE in page.inner_text("h1")
    assert "quiz <b>bold</b>" in page.inner_text("#curves")
    assert page.evaluate("document.querySelectorAll('.curve .main-svg').length") >= 2
    assert troubles == []


def test_choosing_a_score_and_a_share_redraws(opened):
    page, troubles = opened()
    page.wait_for_selector("#heatmap .heatmaplayer image")
    read = "document.getElementById('heatmap').data[0].z.map((row) => [...row])"
    page.select_option("#score", label="AHON (LN)")
    shown = np.array(page.evaluate(read))
    expected = make_scores().sel(score="AHON (LN)").mean("sample").to_numpy()
    np.testing.assert_allclose(shown, expected, rtol=1e-4)
    assert page.inner_text("#answer .shown").startswith("AHON (LN) at 10%, inactive below ")
    assert page.evaluate("location.hash") == "#score=AHON+%28LN%29&share=10"
    strong = (
        "document.querySelector('.curve').data.filter((t) => t.line.width > 2).map((t) => t.meta)"
    )
    assert set(page.evaluate(strong)) == {"AHON (LN)", "Random"}

    page.select_option("#share", label="30%")
    marks = page.evaluate("document.getElementById('heatmap').data[1].x.length")
    scores = make_scores()
    chosen = select_heads(scores, "AHON (LN)", 30)
    assert marks == int(chosen.sum())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.click(".pick[data-pick='LTHON (HN)'] >> nth=0")
    assert page.inner_text("#spread .shown").startswith("LTHON (HN) at 30%")
    assert troubles == []


def test_hovering_names_the_head(opened):
    page, troubles = opened()
    page.locator("#heatmap").scroll_into_view_if_needed()
    box = page.locator("#heatmap .nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.move(box["x"] + box["width"] * 0.5 + 3, box["y"] + 22)
    said = page.wait_for_selector("#heatmap .hoverlayer .hovertext").text_content()
    assert said
    assert re.search(r"L\d+H4", said)
    assert re.search(r"rank \d+ of 270", said)
    assert re.search(r"inactive on \d+ of 10 inputs at 10%", said)
    assert troubles == []


def test_sorting_the_table(opened):
    page, _ = opened()
    cells = "[...document.querySelectorAll('#summary table')[0].tBodies[0].rows].map((r) => r.cells[1].textContent)"
    before = page.evaluate(cells)
    page.click("#summary table >> nth=0 >> thead >> text=rank")
    assert page.evaluate(cells) == before[::-1]
    page.click("#summary table >> nth=0 >> thead >> text=score")
    assert page.evaluate(cells) == sorted(before, key=lambda name: (name.split(" ")[0], name))
    page.click("#summary table >> nth=0 >> thead >> text=threshold")
    assert page.evaluate(cells)[-1] == "Random", "what has no threshold comes last"


def test_fits_a_phone(opened):
    page, troubles = opened(390)
    page.wait_for_selector("#heatmap .heatmaplayer image")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert troubles == []


def test_a_hybrids_layers_and_a_user_s_score_are_drawn(opened, tmp_path):
    scores = make_scores(layers=4, heads=2, samples=3).isel(score=[0, 9])
    scores = scores.assign_coords(layer=[1, 3, 7, 12], score=["MY <i>score</i>", "AHON (LN)"])
    scores[0, :, 2] = np.nan
    cuts = make_thresholds(make_scores()).isel(score=[0, 9])
    cuts = cuts.assign_coords(score=scores["score"].to_numpy())
    page_file = tmp_path / "hybrid.html"
    html = make_page(scores=scores, thresholds=cuts, curves=None, summary=None)
    page_file.write_text(html, encoding="utf-8")
    page, troubles = opened(page_file=page_file)
    page.wait_for_selector("#heatmap .heatmaplayer image")
    assert page.evaluate("document.getElementById('heatmap').data[0].y") == ["1", "3", "7", "12"]
    page.select_option("#score", label="MY <i>score</i>")
    assert "MY <i>score</i>" in page.inner_text("#answer .shown")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait_for_selector("#layers .main-svg")
    assert "<i>" in " ".join(page.locator("#layers .ytick text").all_text_contents())
    assert troubles == []
