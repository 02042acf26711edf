"""One set of heads: in the page's dots and list, heads.json, summary.csv and the sentences."""

from __future__ import annotations

import base64
import re

import numpy as np
import pandas as pd
import pytest
import transformers
import xarray as xr
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.pages import embedded, text_of
from helpers.tiny_models import tiny

import inactive_heads as ih
from inactive_heads.report.build import build_reports
from inactive_heads.report.options import ReportOptions
from inactive_heads.specs import ModelSpec, TaskSpec, TextsSpec

N_LAYERS, N_HEADS, AT = 4, 6, 25
TEXTS = ["the cat sat on a mat", "a dog ran far and the cat sat", "the dog sat on the mat and ran"]
LABEL = re.compile(r"L(\d+)H(\d+)")


@pytest.fixture(scope="module", params=["per-input", "fixed"])
def folder(request, tmp_path_factory):
    """A report on a tiny model whose heads share keys and values in twos."""
    place = tmp_path_factory.mktemp("one-set")
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=3,
        max_position_embeddings=64,
    )
    save_folder(place / "tiny", tiny(config), word_tokenizer())
    lines = "\n".join('{"text": "' + text + '"}' for text in TEXTS)
    (place / "texts.jsonl").write_text(lines)
    options = ReportOptions(
        model=ModelSpec(str(place / "tiny")),
        out=str(place / "report"),
        texts=TextsSpec(str(place / "texts.jsonl")),
        tasks=[TaskSpec("text-loss")],
        scores=["AHON (LN)", "AWFT", "AVVN", "Random"],
        percents=[0, 10, AT, 50],
        at=AT,
        mode=request.param,
    )
    build_reports([options], options.out)
    return place / "report"


def pairs(labels: str) -> set[tuple[int, int]]:
    return {(int(layer), int(head)) for layer, head in LABEL.findall(labels)}


def bits(text: str) -> np.ndarray:
    found = np.unpackbits(np.frombuffer(base64.b64decode(text), "u1"))
    return found[: N_LAYERS * N_HEADS].reshape(N_LAYERS, N_HEADS).astype(bool)


def test_every_place_has_the_same_set(folder, browser):
    fixed = ih.Fixed.load(folder / "heads.json")
    chosen, score = set(fixed.heads), fixed.about["score"]
    assert len(chosen) > 1
    # By hand from the saved scores: the most extreme means, in whole heads.
    scores = xr.load_dataarray(folder / "scores.nc").sel(score=score)
    mean = scores.mean("sample").transpose("layer", "head").to_numpy()
    order = np.argsort(mean if str(scores["inactive"].values) == "below" else -mean, axis=None)
    places = [divmod(int(place), N_HEADS) for place in order]
    assert chosen == set(places[: len(chosen)])
    # Heads that share values tie, and a tie is not split.
    assert abs(len(chosen) - AT / 100 * N_LAYERS * N_HEADS) <= 2

    summary = pd.read_csv(folder / "summary.csv")
    best = summary[(summary["score"] != "Random")].sort_values("rank", kind="stable").iloc[0]
    assert best["score"] == score
    assert pairs(best["heads"]) == chosen
    assert summary.loc[summary["score"] == "Random", "heads"].isna().all()

    html = (folder / "report.html").read_text(encoding="utf-8")
    (payload,) = embedded(html)["models"].values()
    (entry,) = [one for one in payload["scores"] if one["name"] == score]
    at = payload["percents"].index(AT)
    assert {tuple(pair) for pair in np.argwhere(bits(entry["sets"][at])).tolist()} == chosen
    assert f"if {score} chooses them" in text_of(html)
    assert f"Zeroing the same {len(chosen)} heads ({AT}%, by {score}, listed below)" in text_of(
        html
    )
    for one in payload["scores"]:
        for percent, held in zip(payload["percents"], one["sets"], strict=True):
            expected = ih.select_heads(
                xr.load_dataarray(folder / "scores.nc"), one["name"], percent
            )
            np.testing.assert_array_equal(bits(held), expected.transpose("layer", "head"))

    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("#heatmap .main-svg")
    dots = page.evaluate("(({x, y}) => x.map((head, i) => [y[i], head]))(heatmap.data[1])")
    assert {(int(layer), int(head)) for layer, head in dots} == chosen
    listed = page.locator("#most-rows tr").all_inner_texts()
    assert pairs(" ".join(listed)) == chosen
    ranks = [int(row.split()[0]) for row in listed]
    assert ranks == sorted(ranks)
    assert page.input_value("#score") == score
    assert f"the {len(chosen)} inactive heads" in page.inner_text("#answer")
    page.close()


def test_what_the_set_costs_is_an_evaluation_of_heads_json(folder):
    fixed = ih.Fixed.load(folder / "heads.json")
    model = ih.load_model(folder.parent / "tiny")
    task = ih.TextTask("text-loss", TEXTS)
    before, after = (ih.evaluate(model, task, one, progress=False) for one in (None, fixed))
    start, end = (one.summary()["loss"] for one in (before, after))
    words = text_of((folder / "report.html").read_text(encoding="utf-8"))
    assert f"takes the loss from {start:.3f} to {end:.3f} nats per token" in words


def test_the_list_follows_the_choice(folder, browser):
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri() + "#score=AHON+%28LN%29&share=50")
    page.wait_for_selector("#heatmap .main-svg")
    assert page.input_value("#score") == "AHON (LN)"
    expected = ih.select_heads(xr.load_dataarray(folder / "scores.nc"), "AHON (LN)", 50)
    assert f"10 of {int(expected.sum())} heads" in page.inner_text(".most-note")
    listed = pairs(" ".join(page.locator("#most-rows tr").all_inner_texts()))
    assert len(listed) == 10
    assert all(bool(expected.sel(layer=layer, head=head)) for layer, head in listed)
    page.select_option("#share", label="0%")
    assert page.inner_text(".most-note") == "No head is inactive at 0%."
    assert page.evaluate("location.hash") == "#score=AHON+%28LN%29&share=0"
    page.close()
