"""Scores of a user's file: on the command line, and in a report, as challengers."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers
import xarray as xr
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny
from typer.testing import CliRunner

import inactive_heads as ih
from inactive_heads.cli.app import app
from inactive_heads.scores.registry import REGISTRY
from inactive_heads.scores.user_file import load_score_file
from inactive_heads.sweeps.head_to_head import challenges, lead_over
from inactive_heads.sweeps.results import load_sweeps

GOOD = '''
from __future__ import annotations
from dataclasses import dataclass
import inactive_heads as ih

@ih.score_function("<b>MINE</b>", inactive="below")
def mine(heads):
    """<i>Twice</i> AHON."""
    return 2 * heads.mean_over_tokens(heads.z_norm)

@dataclass
class Last:
    factor: float
    def __call__(self, heads):
        return self.factor * heads.at_last_token(heads.v_norm)

ih.score_function("LAST", inactive="below")(Last(2))
'''
BAD = """
import inactive_heads as ih

@ih.score_function("SLOPPY", inactive="below")
def sloppy(heads):
    return heads.z_norm.mean(dim=1)
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def registry():
    """The registry, put back as it was."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def files(tmp_path):
    for name, text in (("good.py", GOOD), ("bad.py", BAD), ("empty.py", ""), ("broken.py", "1/0")):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_file_registers_its_scores(files):
    names = load_score_file(files / "good.py")
    assert names == ["<b>MINE</b>", "<b>MINE</b> (LN)", "LAST", "LAST (LN)"]
    assert ih.get_score("LAST").function.factor == 2
    for file, message in (
        ("none.py", "no file of scores at .*none.py"),
        ("empty.py", "registers no score: write @ih.score_function"),
        ("broken.py", "cannot be run: ZeroDivisionError: division by zero"),
        ("good.py", "'<b>MINE</b>' is registered already"),
    ):
        with pytest.raises(ih.UserError, match=message):
            load_score_file(files / file)


def test_checking_a_file(files):
    good = run("check-score", files / "good.py")
    assert good.exit_code == 0, good.output
    assert "<b>MINE</b>: passed" in good.output
    assert "LAST: passed" in good.output
    assert "(LN)" not in good.output
    bad = run("check-score", files / "bad.py")
    assert bad.exit_code == 1
    assert "SLOPPY: failed in padding" in bad.output
    missing = run("check-score", files / "none.py")
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)


def test_a_report_challenges_the_papers_best(files):
    network = tiny(transformers.GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4))
    save_folder(files / "tiny", network, word_tokenizer())
    texts = ["the cat sat on a mat", "a dog ran far and the cat sat", "the dog sat on the mat"]
    lines = [json.dumps({"text": text}) for text in texts]
    (files / "texts.jsonl").write_text("\n".join(lines))
    result = run(
        *("report", files / "tiny", "--out", files / "r", "--texts", files / "texts.jsonl"),
        *("--task", "text-loss", "--percents", "25", "--at", "25"),
        *("--score", "AHON (LN),AWFT,RRN,Random", "--score-file", files / "good.py"),
    )
    assert result.exit_code == 0, result.output
    html = (files / "r" / "report.html").read_text()
    assert "<h2>Challenge</h2>" in html
    assert "&lt;b&gt;MINE&lt;/b&gt; (LN)" in html
    assert "<b>MINE" not in html
    assert "<i>Twice" not in html

    scores = xr.load_dataarray(files / "r" / "scores.nc")
    own = ["<b>MINE</b>", "<b>MINE</b> (LN)", "LAST", "LAST (LN)"]
    assert scores["score"].to_numpy().tolist() == [*ih.PAPER_SCORES, "RON", *own]
    xr.testing.assert_allclose(
        scores.sel(score="<b>MINE</b>", drop=True), 2 * scores.sel(score="AHON", drop=True)
    )
    curves = pd.read_csv(files / "r" / "curves.csv")
    swept = ["AHON (LN)", "AWFT", "RRN", *own, "Random"]
    assert list(dict.fromkeys(curves["score"])) == swept

    (found,) = load_sweeps(files / "r")
    ranking = found.ranking()
    table = challenges({"text-loss": found}, {"text-loss": ranking})
    best = next(name for name in ranking["score"] if name in ih.PAPER_SCORES)
    assert set(table["reference"]) == {best}
    assert set(table["score"]) == {"RRN", *own}
    pd.testing.assert_frame_equal(
        table.drop(columns=["task", "metric", "reference", "tied"]),
        lead_over(found, list(dict.fromkeys(table["score"])), best, [25.0]),
    )


def test_a_challenge_names_the_scores_of_the_paper_that_tie():
    items = pd.DataFrame({"loss": np.arange(10.0), "n_tokens": 5})
    points = {
        (name, percent): ih.Outcomes(items, "loss", percent)
        for name in ("AWFT", "AHON", "LTHON", "MINE")
        for percent in (0.0, 10.0)
    }
    sweeps = {"text": ih.Sweep(pd.DataFrame(), points, None)}
    ranking = pd.DataFrame({"score": ["MINE", "AWFT", "AHON", "LTHON"], "rank": [1, 1, 1, 4]})
    table = challenges(sweeps, {"text": ranking})
    assert table[["score", "reference", "tied"]].to_numpy().tolist() == [["MINE", "AWFT", "AHON"]]
    table = challenges(sweeps, {"text": ranking.assign(rank=[1, 2, 3, 3])})
    assert table[["reference", "tied"]].to_numpy().tolist() == [["AWFT", ""]]


def test_without_challengers_nothing_is_compared():
    assert challenges({}, {}) is None
    for names in (["Random", "AHON"], ["Random", "MINE"]):
        sweeps = {"text": ih.Sweep(pd.DataFrame(), {}, None)}
        assert challenges(sweeps, {"text": pd.DataFrame({"score": names})}) is None
