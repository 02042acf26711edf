"""Reports from saved results: what the command writes, and what the page of many models shows."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.pages import embedded, make_curves, make_scores, text_of
from helpers.places import SHARED
from scipy import stats
from typer.testing import CliRunner

from inactive_heads.analysis.curves.table import read_curves
from inactive_heads.cli.app import app
from inactive_heads.errors import UserError
from inactive_heads.report.from_files import SavedOptions, build_saved_report, read_scores

PAPER = SHARED / "paper"
needs_published = pytest.mark.skipif(
    not PAPER.exists(), reason=f"the published results are not at {PAPER}"
)
DRAWN = "body:not([data-drawing])"
UNFOLD = "document.querySelectorAll('section > details').forEach((one) => { one.open = true; })"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def html(saved) -> str:
    """The page that ``opened`` opens."""
    return saved.read_text("utf-8")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Two models and a finetuned form of one, with curves and scores, from their files."""
    place = tmp_path_factory.mktemp("saved")
    curves, scores = [], []
    for i, name in enumerate((HOSTILE, "Tiny-1B", "Tiny-1B-Instruct")):
        own = make_scores(layers=4, heads=6, samples=8) * (1 + 0.2 * i)
        own = own.assign_attrs(model=name, n_key_value_heads=3, texts="stories")
        lengths = np.arange(8) * 5 + 7
        own = own.assign_coords(
            n_tokens=("sample", lengths), group=("sample", ["law", "<b>art</b>"] * 4)
        )
        scores.append(place / f"{i}.nc")
        own.to_netcdf(scores[-1], engine="h5netcdf")
        curves.append(place / f"{i}.csv")
        make_curves(name).to_csv(curves[-1], index=False)
    options = SavedOptions(
        curves=[str(path) for path in curves],
        scores=[str(path) for path in scores],
        out=str(place / "report"),
        percents=(5, 10, 20),
    )
    return build_saved_report(options)


@needs_published
def test_the_published_numbers_by_one_command(tmp_path):
    done = CliRunner().invoke(
        app,
        [
            *("report", "--out", str(tmp_path), "--at", "15"),
            *("--curves", str(PAPER / "mmlu_curves.csv")),
            *("--thresholds", str(PAPER / "thresholds.csv")),
        ],
    )
    assert done.exit_code == 0, done.output
    models = pd.read_csv(tmp_path / "models.csv").set_index("model")
    assert len(models) == 14
    assert models["reference"].mean() == pytest.approx(4.61, abs=0.01)
    assert models["best"].mean() == pytest.approx(12.28, abs=0.01)
    first = pd.read_csv(tmp_path / "ranks.csv").iloc[0]
    assert (first["score"], first["first"], first["top_3"]) == ("AHON (LN)", 8, 13)
    ranking = pd.read_csv(tmp_path / "ranking.csv").set_index(["model", "score"])
    for model, score, column, value in [
        ("Llama-3.1-8B", "AHON (LN)", "percent_within_1pt", 17.11),
        ("Llama-3.1-8B", "AWFT", "percent_within_1pt", 8.56),
        ("Llama-3.1-8B", "AHON (LN)", "normalized_auc", 63.92),
        ("Qwen2.5-0.5B", "LTHON (LN)", "percent_within_1pt", 14.42),
    ]:
        assert ranking.loc[(model, score), column] == pytest.approx(value, abs=0.01)
    stable = pd.read_csv(tmp_path / "threshold_stability.csv")
    stable = stable.set_index(["model", "score", "percent"]).loc["OLMo-2-1124-7B-Instruct"]
    tasks = ["mmlu", "piqa", "winogrande"]
    assert stable.loc[("AWFT", 15), tasks].tolist() == pytest.approx(
        [0.077, 0.265, 0.109], abs=0.01
    )
    assert stable.loc[("AHON (LN)", 15), tasks].tolist() == pytest.approx(
        [0.457, 0.435, 0.473], abs=0.01
    )
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "AWFT finds 4.61% of heads" in html
    assert "8 of 14 models and is among the first three on 13" in html
    for number in ("17.11", "8.56", "63.92", "14.42"):
        assert f">{number}</td>" in html
    tables = [pd.read_csv(io.StringIO(text)) for text in embedded(html)["tables"]]
    drawn = next(t for t in tables if {"model", "percent", "winogrande"} <= set(t.columns))
    drawn = drawn.set_index(["model", "score", "percent"]).loc["OLMo-2-1124-7B-Instruct"]
    assert drawn.loc[("AHON (LN)", 15), tasks].tolist() == pytest.approx(
        [0.457, 0.435, 0.473], abs=0.01
    )
    assert len(html.encode()) < 15_000_000


@needs_published
def test_another_tolerance(tmp_path):
    options = SavedOptions([str(PAPER / "mmlu_curves.csv")], out=str(tmp_path))
    build_saved_report(SavedOptions(options.curves, out=str(tmp_path), within={"accuracy": 2}))
    found = pd.read_csv(tmp_path / "ranking.csv").set_index(["model", "score"])
    own = read_curves(PAPER / "mmlu_curves.csv")
    own = own[(own["model"] == "Llama-3.1-8B")]
    start = own.loc[(own["score"] == "Random") & (own["percent_zeroed"] == 0), "accuracy"].item()
    curve = own[own["score"] == "AWFT"]
    # It falls once, so it can be read off as a function of accuracy.
    by_hand = np.interp(start - 2, curve["accuracy"][::-1], curve["percent_zeroed"][::-1])
    assert found.loc[("Llama-3.1-8B", "AWFT"), "percent_within_2pt"] == pytest.approx(by_hand)
    assert "within 2 points" in (tmp_path / "report.html").read_text("utf-8")


def test_curves_of_others_need_five_columns(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text(
        "model,score,threshold,percent_zeroed,accuracy\n"
        "m,A,0,0,60\nm,A,0.1,10,59.5\nm,A,0.2,20,50\nm,B,0,0,60\nm,B,1,12,40\n"
    )
    build_saved_report(SavedOptions([str(path)], out=str(tmp_path / "r")))
    found = pd.read_csv(tmp_path / "r" / "ranking.csv").set_index("score")
    assert found.loc["A", "percent_within_1pt"] == pytest.approx(10 + 10 * 0.5 / 9.5)
    assert found.loc["B", "normalized_auc"] == pytest.approx(50)
    html = (tmp_path / "r" / "report.html").read_text("utf-8")
    words = text_of(html)
    for absent in ("models", "ranks", "heads", "thresholds", "checkpoints", "cache"):
        assert f'<section id="{absent}"' not in words, "what has no data is left out"
    assert '<section id="curves"' in words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,score,percent_zeroed,accuracy\nm,A,0,60\n", "two different % zeroed, not [0.0]"),
        ("model,score,percent_zeroed,accuracy\nm,A,0,60\nm,A,9,\n", "row 1 of a curve is not"),
        ("model,score,percent_zeroed,accuracy\nm,A,0,60\nm,A,9,x\n", "in row 1 is 'x', not a"),
        ("model,score,percent_zeroed,accuracy\nm,A,0,0.6\nm,A,9,0.5\n", "given in %"),
        ("model,percent_zeroed,accuracy\nm,0,60\n", "no column ['score']"),
        ("", "not a table"),
    ],
)
def test_bad_curves_are_one_line_and_status_2(tmp_path, content, message):
    path = tmp_path / "c.csv"
    path.write_text(content)
    command = ["report", "--curves", str(path), "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    reading, error = done.stderr.splitlines()
    assert reading == f"Reading {path} …"
    assert message in error


def test_what_does_not_go_together_is_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("model,score,percent_zeroed,accuracy\nm,A,0,60\nm,A,9,50\n")
    run = CliRunner().invoke
    both = run(app, ["report", "gpt2", "--curves", str(path), "--out", str(tmp_path)])
    assert (both.exit_code, "without a model" in both.stderr) == (2, True)
    with pytest.raises(UserError, match="stands twice"):
        build_saved_report(SavedOptions([str(path)] * 2, out=str(tmp_path)))
    with pytest.raises(UserError, match="holds no scores"):
        read_scores(path)
    odd = tmp_path / "odd.nc"
    xr.DataArray(np.ones(3), dims="x").to_netcdf(odd, engine="h5netcdf")
    with pytest.raises(UserError, match=r"has the dims \('x',\)"):
        read_scores(odd)


def test_scores_alone(tmp_path):
    scores = make_scores(layers=3, heads=4, samples=1)
    scores.to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    build_saved_report(SavedOptions(scores=[str(tmp_path / "one.nc")], out=str(tmp_path)))
    words = text_of((tmp_path / "report.html").read_text("utf-8"))
    assert "No task was run" in words
    assert '<section id="sets"' in words
    for absent in ("curves", "split", "texts", "cache", "fixed", "distances"):
        assert f'<section id="{absent}"' not in words


def test_the_page_of_many_models_has_every_section(html):
    words = text_of(html)
    wanted = ["models", "ranks", "agreement", "grid", "run", "summary", "curves", "heads", "often"]
    wanted += [
        "lengths",
        "spread",
        "depth",
        "cdfs",
        "distances",
        "finetuning",
        "sets",
        "split",
        "texts",
    ]
    wanted += ["cache", "fixed", "thresholds", "definitions", "traits"]
    assert set(re.findall(r'<section id="(\w+)"', words)) == set(wanted)
    assert "<img" not in words
    assert "<b>art" not in words
    data = embedded(html)
    assert len(data["models"]) == 3
    assert json.dumps(data).count("NaN") == 0
    charts = len(re.findall(r'data-figure="(\d+)"', words))
    assert charts == len(data["figures"])
    tables = [int(number) for number in re.findall(r'data-csv="(\d+)"', words)]
    assert sorted(tables) == list(range(len(data["tables"])))


def test_the_page_of_many_models_in_a_browser(opened):
    page, troubles = opened()
    page.wait_for_selector(DRAWN)
    assert troubles == []
    assert HOSTILE in page.inner_text("h1")
    shown = "[...document.querySelectorAll('.part')].filter((part) => part.offsetParent)"
    assert page.evaluate(f"{shown}.every((p) => !p.dataset.share || p.dataset.share === '10')")
    page.evaluate(UNFOLD)
    page.select_option("#model", label="Tiny-1B-Instruct")
    page.select_option("#share", label="20%")
    page.select_option("#score", label="AHON (LN)")
    for key, value in (("model", "Tiny-1B-Instruct"), ("share", "20"), ("score", "AHON (LN)")):
        known = f"{shown}.map((p) => p.dataset.{key}).filter((x) => x !== undefined)"
        assert set(page.evaluate(known)) == {value}
    details = page.locator("#sets .part:visible details").first
    details.locator("summary").click()
    cells = details.locator("tbody tr").nth(1).locator("td").all_inner_texts()
    assert len(cells) == 15
    assert cells[1] == "1.000", "a score agrees with itself"
    fixed = page.locator("#fixed .part:visible tbody tr")
    assert fixed.count() == 15
    z = page.evaluate("document.getElementById('heatmap').data[0].z.map((row) => [...row])")
    expected = 1.4 * make_scores(layers=4, heads=6, samples=8).sel(score="AHON (LN)")
    np.testing.assert_allclose(z, expected.mean("sample"), rtol=1e-4)
    z = page.evaluate("document.getElementById('shares').data[0].z.map((row) => [...row])")
    colours = page.evaluate("document.getElementById('correlations').data[0].z[0]")
    by_hand = [stats.spearmanr(expected[:, 0, head], np.arange(8)).statistic for head in range(6)]
    np.testing.assert_allclose(colours, by_hand, atol=0.0051)
    cut = np.quantile(expected, 0.2, method="interpolated_inverted_cdf")
    np.testing.assert_allclose(z, 100 * (expected < cut).mean("sample"), rtol=1e-4)
    page.wait_for_selector(DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert troubles == []


def test_figures_and_tables_are_saved_from_the_page(opened):
    page, troubles = opened()
    page.wait_for_selector(DRAWN)
    with page.expect_download() as found:
        page.click("#ranks .tools >> nth=0 >> text=SVG")
    svg = Path(found.value.path()).read_text("utf-8")
    assert svg.startswith("<svg")
    assert "AHON (LN)" in svg
    assert found.value.suggested_filename.endswith(".svg")
    with page.expect_download() as found:
        page.click("#heads .tools >> nth=0 >> text=PNG")
    assert Path(found.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as found:
        page.click("#models .tools >> text=CSV")
    table = pd.read_csv(found.value.path())
    assert list(table["model"]) == [HOSTILE, "Tiny-1B", "Tiny-1B-Instruct"]
    assert troubles == []


@needs_published
def test_the_published_page_in_a_browser(opened, tmp_path):
    curves, thresholds = (str(PAPER / name) for name in ("mmlu_curves.csv", "thresholds.csv"))
    options = SavedOptions([curves], thresholds=[thresholds], out=str(tmp_path), at=15)
    # The words come first: they are painted while charts still wait for a frame.
    hold = "window.grant = requestAnimationFrame; window.held = []; "
    hold += "window.requestAnimationFrame = (call) => held.push(call)"
    page, troubles = opened(page_file=build_saved_report(options), script=hold)
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    assert "AWFT finds 4.61% of heads" in page.inner_text("body")
    assert page.locator(".main-svg").count() == 0
    page.evaluate("window.requestAnimationFrame = grant; held.forEach((call) => grant(call))")
    page.wait_for_selector(DRAWN)
    page.click(".pick[data-pick='OLMo-2-1124-7B-Instruct'] >> nth=0")
    assert page.input_value("#model") == "OLMo-2-1124-7B-Instruct"
    page.evaluate(UNFOLD)
    rows = page.locator("#thresholds .part:visible tbody tr").filter(has_text="AHON (LN)")
    assert rows.first.inner_text().split("\t")[:4] == ["AHON (LN)", "0.457", "0.435", "0.473"]
    assert troubles == []
