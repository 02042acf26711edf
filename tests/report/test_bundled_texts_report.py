"""A report on the bundled texts: grouped by kind, and its files name the texts exactly."""

import hashlib
import json
import platform
from importlib.resources import files

import pytest
import transformers
import xarray as xr
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.pages import embedded
from helpers.tiny_models import tiny
from typer.testing import CliRunner

from inactive_heads.cli.app import app

KINDS = ["explanation", "story", "dialogue", "news", "instructions", "code"]
SHA256 = hashlib.sha256(
    files("inactive_heads").joinpath("data/texts.jsonl").read_bytes()
).hexdigest()


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Eight texts, of which two kinds have two, scored and swept on a tiny model."""
    place = tmp_path_factory.mktemp("bundled")
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    network = tiny(transformers.GPT2Config(vocab_size=len(WORDS), **sizes))
    save_folder(place / "tiny", network, word_tokenizer())
    run(
        *("report", place / "tiny", "--out", place / "report", "--task", "text-loss"),
        *("--num-texts", 8, "--max-tokens", 40, "--percents", 30, "--score", "AHON,Random"),
    )
    return place / "report"


def test_the_files_name_the_texts_and_pythons_version(report):
    config = json.loads((report / "config.json").read_text())
    about = {"texts": "bundled", "texts_version": 1, "texts_sha256": SHA256}
    assert {key: config[key] for key in about} == about
    assert {key: config["tasks"]["text-loss"][key] for key in about} == about
    assert config["versions"]["python"] == platform.python_version()
    scores = xr.load_dataarray(report / "scores.nc")
    assert {key: scores.attrs[key] for key in about} == about
    assert scores.attrs["version_python"] == platform.python_version()
    assert scores.sizes["sample"] == config["n_texts"] == 8
    settings = json.loads((report / "run.json").read_text())
    assert SHA256 in json.dumps(settings)  # a run goes on with the same texts alone


def test_the_page_groups_them_by_kind(report):
    html = (report / "report.html").read_text("utf-8")
    assert "Share inactive by kind of text" in html
    charts = [figure for figure in embedded(html)["figures"] if "story" in json.dumps(figure)]
    drawn = json.dumps(charts)
    for kind in KINDS:
        assert f'"{kind}' in drawn, kind
    assert SHA256 in html


def test_a_page_from_its_saved_scores_names_them_too(report, tmp_path):
    run("report", "--scores", report / "scores.nc", "--out", tmp_path / "again")
    assert SHA256 in (tmp_path / "again" / "report.html").read_text("utf-8")
