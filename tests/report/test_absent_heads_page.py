"""Pages of models whose layers differ: heads that a layer lacks are absent, and not zero."""

import numpy as np
import pytest
import xarray as xr
from helpers.layers_that_differ import MODELS
from helpers.pages import embedded, text_of

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.report.from_files import SavedOptions, build_saved_report, read_scores

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(3, 97, n).tolist() for n in (8, 12, 20, 30, 5)]
SCORES = ["AHON (LN)", "AWFT", "LTHON (HN)"]
NAMES = ("pruned llama", "gemma 4 whose last layers share")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """name → the page and the scores."""
    found = {}
    for name in NAMES:
        engine = FlashEngine(MODELS[name].make(), name)
        about = {"model": name, "dtype": "float32", "device": "cpu"}
        model = ih.Model(engine, None, about, list)
        folder = tmp_path_factory.mktemp("report")
        scores = ih.score_heads(model, TEXTS, scores=SCORES, progress=False)
        scores.to_netcdf(folder / "scores.nc", engine="h5netcdf")
        options = SavedOptions(scores=[str(folder / "scores.nc")], percents=[10], out=str(folder))
        found[name] = build_saved_report(options), scores
    return found


@pytest.fixture
def html():
    return ""


def test_a_file_of_scores_is_read_as_it_was_written(pages):
    for page, scores in pages.values():
        again = read_scores(page.parent / "scores.nc")
        np.testing.assert_array_equal(again.values, scores.values)
        for name in ("n_heads", "n_key_value_heads", "d_head", "key_value_layer"):
            assert (name in again.coords) == (name in scores.coords)
            if name in scores.coords:
                assert again[name].values.tolist() == scores[name].values.tolist()


def test_the_cache_of_each_layers_own_groups(pages):
    words = text_of(pages["pruned llama"][0].read_text("utf-8"))
    assert "In this model 1 to 2 query heads, by layer, share keys and values." in words
    words = text_of(pages["gemma 4 whose last layers share"][0].read_text("utf-8"))
    assert "2 of 4 layers read another layer’s." in words


def test_the_numbers_behind_the_page(pages):
    (payload,) = embedded(pages["pruned llama"][0].read_text("utf-8"))["models"].values()
    assert payload["n_heads"] == [4, 6, 2, 3]
    for score in payload["scores"]:
        grid = np.array(score["mean"], dtype=float).reshape(4, 6)
        assert np.isfinite(grid).sum(axis=1).tolist() == [4, 6, 2, 3]
        assert sum(score["bars"]["n"]) + score["bars"]["beyond"] == 15 * len(TEXTS)
    (payload,) = embedded(pages[NAMES[1]][0].read_text("utf-8"))["models"].values()
    assert "n_heads" not in payload
    assert all("known" not in score for score in payload["scores"])


UNFOLD = "document.querySelectorAll('section > details').forEach((one) => { one.open = true; })"


def test_absent_heads_on_the_page(pages, opened):
    path, scores = pages["pruned llama"]
    page, troubles = opened(page_file=path)
    page.wait_for_selector("#heatmap .main-svg")
    page.evaluate(UNFOLD)
    page.wait_for_selector("#layers .main-svg")
    for chart in ("heatmap", "shares", "correlations"):
        z = page.evaluate(f"document.getElementById('{chart}').data[0].z")
        assert [sum(one is not None for one in row) for row in z] == [4, 6, 2, 3], chart
        text = page.evaluate(f"document.getElementById('{chart}').data[0].text")
        assert text[2][5] == "L2H5<br>no such head: layer 2 has 2"
        assert "no such head" not in text[2][1]
        (shape,) = page.evaluate(f"document.getElementById('{chart}').layout.shapes")
        assert shape["path"].count("M") == 24 - 15
        drawn = page.evaluate(f"document.querySelectorAll('#{chart} .shapelayer path').length")
        assert drawn == 1
    ranks = page.evaluate("document.getElementById('heatmap').data[0].text")
    assert all(
        "of 15" in text for row, n in zip(ranks, [4, 6, 2, 3], strict=True) for text in row[:n]
    )
    words = page.inner_text("#answer .absent")
    assert words == "Layers have 2 to 6 heads, 15 in all: a place with a stroke is no head."
    counts = [int(n) for n in page.inner_text(".often-split").split() if n.isdigit()]
    assert sum(counts) == 15
    names = [
        name.split(" (")[0] for name in page.evaluate("document.getElementById('layers').data[0].y")
    ]
    z = np.array(page.evaluate("document.getElementById('layers').data[0].z"), dtype=float)
    share = float(page.evaluate("document.getElementById('share').value"))
    cuts = ih.choose_thresholds(scores, [share])
    own = ih.inactive_heads(scores, cuts).isel(percent=0).sum(("sample", "head"))
    expected = 100 * own.transpose("score", "layer").values / (len(TEXTS) * np.array([4, 6, 2, 3]))
    assert len(names) == len(expected)
    np.testing.assert_allclose(z, expected)
    assert troubles == []


def test_undefined_scores_are_counted_as_in_the_tables(opened, tmp_path):
    values = np.full((1, 4, 1, 2), 0.9)
    values[0, 0, 0] = np.nan
    values[0, 1, 0, 0] = 0.1
    coords = {"score": ["S"], "inactive": ("score", ["below"]), "layer": [0], "head": [0, 1]}
    dims = ("score", "sample", "layer", "head")
    scores = xr.DataArray(values, dims=dims, coords=coords | {"sample": range(4)})
    scores.attrs["model"] = "undefined"
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    options = SavedOptions(
        scores=[str(tmp_path / "scores.nc")], percents=[50], at=50, out=str(tmp_path)
    )
    page, troubles = opened(page_file=build_saved_report(options))
    page.evaluate(UNFOLD)
    page.wait_for_selector("#shares .main-svg")
    text = page.evaluate("document.getElementById('shares').data[0].text")[0]
    assert text[0].endswith("inactive on 1 of 3 inputs")
    assert page.inner_text("#answer .absent") == ""
    assert troubles == []


def test_the_explorer_has_no_cell_for_an_absent_head(opened, tmp_path):
    model = ih.Model(FlashEngine(MODELS["pruned llama"].make(), "m"), None, {"model": "m"}, list)
    explorer = ih.explore(model, TEXTS[:2], progress=False)
    explorer.select_inactive(30)
    mask = explorer.head_set()
    assert mask["n_heads"].values.tolist() == [4, 6, 2, 3]
    assert explorer.table["heads_in"] == [4, 6, 2, 3]
    ih.evaluate(model, ih.TextTask("text", TEXTS[:1]), ih.Fixed(mask), progress=False)
    with pytest.raises(ih.UserError, match="L2H3 is not in the model: layer 2 has heads 0 to 1"):
        explorer.head = (2, 3)
    explorer.head = (2, 1)
    explorer.to_html(tmp_path / "page.html")
    page, troubles = opened(page_file=tmp_path / "page.html")
    page.wait_for_selector(".ih-heads")
    assert page.locator(".ih-heads rect[data-head]").count() == 15
    assert page.locator(".ih-heads path.ih-none").count() == 9
    assert "of 2 in its layer" in page.inner_text(".ih-shown")
    assert "of 15 in the model" in page.inner_text(".ih-shown")
    page.focus(".ih-heads")
    page.keyboard.press("ArrowUp")  # from L2H1 to L1H1
    assert page.inner_text(".ih-shown h3") == "L1H1"
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert page.inner_text(".ih-shown h3") == "L1H5"
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".ih-shown h3") == "L2H1"
    assert troubles == []
