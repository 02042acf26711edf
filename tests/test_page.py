"""The report's page: what it says, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inactive_heads.analysis import summarize
from inactive_heads.errors import UserError
from inactive_heads.page import render
from inactive_heads.page_data import as_json
from inactive_heads.results import ModelResults
from inactive_heads.verdict import verdict

HOSTILE = "<script>alert(1)</script>"
PATIENCE = 180_000  # milliseconds until a browser counts as stuck, not as slow
FAMILIES = ["AWFT", "AEQD", "FTVVN", "AVVN", "AHON", "LTHON", "AHRN"]
NAMES = [f"{name}{kind}" for name in FAMILIES for kind in ("", " (LN)")]
NAMES.insert(NAMES.index("LTHON (LN)") + 1, "LTHON (HN)")
PERCENTS = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def make_scores(layers: int = 30, heads: int = 9, samples: int = 10) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.gamma(3.0, 1.0, (len(NAMES), samples, layers, heads)).astype("float32")
    values *= np.linspace(0.5, 2, layers, dtype="float32")[:, None]
    # Some heads are like that on every input, as in real models.
    values *= rng.uniform(0.2, 1.5, (len(NAMES), 1, layers, heads)).astype("float32")
    sides = ["above" if name.startswith("AWFT") else "below" for name in NAMES]
    coords = {"score": NAMES, "inactive": ("score", sides), "layer": np.arange(layers)}
    coords |= {"head": np.arange(heads), "sample": np.arange(samples)}
    dims = ("score", "sample", "layer", "head")
    return xr.DataArray(values, dims=dims, coords=coords, attrs={"model": HOSTILE})


def make_thresholds(scores: xr.DataArray) -> xr.DataArray:
    cuts = []
    for i, side in enumerate(scores["inactive"].to_numpy()):
        shares = np.array(PERCENTS) / 100
        shares = 1 - shares if side == "above" else shares
        cuts.append(np.quantile(scores.to_numpy()[i], shares, method="interpolated_inverted_cdf"))
    return xr.DataArray(
        np.array(cuts),
        dims=("score", "percent"),
        coords={"score": scores["score"].to_numpy(), "percent": PERCENTS},
    )


def make_curves(model: str = HOSTILE) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for task in ("quiz <b>bold</b>", "text-loss"):
        for i, score in enumerate([*NAMES, "Random"]):
            slope = 0.2 + 0.06 * i
            for percent in PERCENTS:
                row = {"model": model, "task": task, "mode": "per-input", "score": score}
                zeroed = percent * 1.03
                drop = slope * zeroed**1.3 / 5 + (rng.normal(0, 0.4) if percent else 0)
                row |= {"percent": percent, "percent_zeroed": zeroed, "n": 200}
                row |= {"threshold": np.nan if score == "Random" else 0.123456789}
                if task == "text-loss":
                    loss = 3.2 + drop / 12
                    row |= {"loss": loss, "loss_low": loss - 0.05, "loss_high": loss + 0.05}
                else:
                    right = 62 - drop
                    row |= {"accuracy": right, "ci_low": right - 6.7, "ci_high": right + 6.5}
                rows.append(row)
    return pd.DataFrame(rows)


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


@pytest.fixture
def opened(browser, html, tmp_path):
    """``open_page(width) -> (page, troubles)``; troubles fills up as the browser meets them."""
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    pages = []

    def open_page(width: int = 1280, page_file: Path = path, script: str = ""):
        page, troubles = browser.new_page(viewport={"width": width, "height": 900}), []
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.add_init_script(script)
        page.on("console", lambda said: troubles.append(said.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda sent: (
                None
                if sent.url.startswith(("file:", "data:", "blob:"))
                else troubles.append(sent.url)
            ),
        )
        page.goto(page_file.as_uri())
        return page, troubles

    yield open_page
    for page in pages:
        page.close()


def embedded(html: str) -> dict:
    found = re.search(r'id="report-data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def text_of(html: str) -> str:
    """What stands in the page outside its scripts and style."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)


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
    assert "://" not in words, "nothing to load"


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
    (words,) = verdict(summarize(curves, None, percent=10.0), curves)
    assert words == (
        "On quiz (fixed), zeroing the 10.0% of heads that AHON (LN) calls inactive takes accuracy "
        "from 60.0% to 59.5% (−0.5 points); zeroing 10.0% at random takes it to 40.0% "
        "(−20.0 points). AHON (LN) is not distinguishable from the model with every head: the 95% "
        "intervals overlap. Its 95% interval does not overlap that of Random."
    )


def test_verdict_does_not_flatter():
    curves = tiny(accuracy=50.0, random=58.0, half_width=10.0)
    (words,) = verdict(summarize(curves, None, percent=10.0), curves)
    assert "not distinguishable from Random or from the model with every head" in words
    assert words.endswith("Random did better than every score.")
    without = curves.assign(ci_low=np.nan, ci_high=np.nan)
    (words,) = verdict(summarize(without, None, percent=10.0), without)
    assert "interval" not in words
    assert "nan" not in words


@pytest.mark.parametrize("missing", ["scores", "thresholds", "curves", "summary"])
def test_sections_without_data_are_left_out(missing):
    words = text_of(make_page(**{missing: None}))
    assert ('id="heads"' in words) == (missing not in ("scores", "thresholds"))
    assert ('id="curves"' in words) == (missing != "curves")
    assert ("Summary at 10% of heads" in words) == (missing != "summary")
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
    assert page.inner_text("#heads .shown").startswith("AHON (LN) at 10%, inactive below ")
    strong = (
        "document.querySelector('.curve').data.filter((t) => t.line.width > 2).map((t) => t.meta)"
    )
    assert set(page.evaluate(strong)) == {"AHON (LN)", "Random"}

    page.select_option("#share", label="30%")
    marks = page.evaluate("document.getElementById('heatmap').data[1].x.length")
    scores = make_scores()
    cut = make_thresholds(scores).sel(score="AHON (LN)", percent=30).item()
    often = (scores.sel(score="AHON (LN)") < cut).mean("sample") > 0.5
    assert marks == int(often.sum())
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
    assert "MY <i>score</i>" in page.inner_text("#heads .shown")
    assert "<i>" in " ".join(page.locator("#layers .ytick text").all_text_contents())
    assert troubles == []
