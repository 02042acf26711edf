import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import transformers
import xarray as xr
from helpers.command import TEXTS, run
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny

import inactive_heads as ih
from inactive_heads.sweeps.job import Job


@pytest.fixture(scope="module")
def report(folder):
    """A report on the tiny model, and what the command printed."""
    out = folder / "report"
    result = run(
        *("report", folder / "tiny", "--out", out, "--texts", folder / "texts.jsonl"),
        *(
            "--data",
            folder / "quiz.jsonl",
            "--percents",
            "10,30",
            "--score",
            "AHON (LN),AWFT,Random",
        ),
    )
    assert result.exit_code == 0, result.output
    return out, result.output


def test_a_report_is_written_whole(report, folder):
    out, printed = report
    names = {"report.html", "scores.nc", "curves.csv", "summary.csv", "config.json", "heads.json"}
    names |= {"thresholds.csv"}
    kept = {"run.json", "units", "items.parquet", ".lock"}
    assert {path.name for path in out.iterdir()} == names | kept
    assert "report.html" in printed.replace("\n", "")
    # Texts and questions are kinds of text; a subject of the user's cannot break out of the page.
    html = (out / "report.html").read_text()
    assert "Share inactive by kind of text" in html
    assert "quiz: \\u003cb\\u003ecats" in html
    assert "quiz: <b>" not in html
    scores = xr.load_dataarray(out / "scores.nc")
    expected = ih.score_heads(
        ih.load_model(folder / "tiny"), TEXTS, scores=[*ih.PAPER_SCORES, "RON"]
    )
    np.testing.assert_array_equal(scores, expected)
    assert scores.attrs["weight_processing"].startswith("none")
    curves = pd.read_csv(out / "curves.csv")
    assert set(curves.task) == {"quiz", "text-loss"}
    assert sorted(set(curves.percent)) == [0, 10, 30]
    config = json.loads((out / "config.json").read_text())
    assert config["asked"]["seed"] == 0
    assert config["versions"]["torch"]
    assert len(pd.read_csv(out / "summary.csv")) == 6


def test_heads_json_is_a_fixed_set(report, folder):
    out, _ = report
    fixed = ih.Fixed.load(out / "heads.json")
    scores = xr.load_dataarray(out / "scores.nc")
    chosen = ih.select_heads(scores, fixed.about["score"], fixed.about["percent"])
    assert fixed.heads == ih.Fixed(chosen).heads
    result = run(
        *("evaluate", folder / "tiny", "--task", "text-loss", "--data", folder / "texts.jsonl"),
        *("--heads", out / "heads.json"),
    )
    assert result.exit_code == 0, result.output
    assert f"heads zeroed: {100 * len(fixed.heads) / 12:.2f}%" in result.output


def test_hostile_strings_are_text_in_the_page(folder, tmp_path):
    result = run(
        *("report", folder / "tiny", "--out", tmp_path / "r", "--texts", folder / "texts.jsonl"),
        *("--data", folder / "quiz.jsonl", "--percents", "30", "--score", "AHON,Random"),
    )
    assert result.exit_code == 0, result.output
    html = (tmp_path / "r" / "report.html").read_text()
    assert "<b>cats</b>" not in html
    assert "<script>alert(2)" not in html
    assert "&lt;b&gt;cats&lt;/b&gt;" in html


def test_a_report_shows_its_prompts_and_stops(folder, tmp_path):
    result = run(
        *("report", folder / "chat", "--out", tmp_path / "r", "--texts", folder / "texts.jsonl"),
        *("--data", folder / "quiz.jsonl", "--chat-template", "on", "--show-prompt"),
    )
    assert result.exit_code == 0, result.output
    assert "quiz: question" in result.output
    assert "text-loss: the first text, 6 tokens" in result.output
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model-anywhere"], "no-such-model-anywhere"),
        (["--score", "AHOM (LN)"], "unknown score 'AHOM (LN)'; did you mean 'AHON (LN)'?"),
        (["--percents", "5,120"], "0 to 100, not 120"),
        (["--percents", "5,x"], "--percents takes numbers"),
        (["--at", "-3"], "0 to 100, not -3"),
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--num-texts", "0"], "at least 1, not 0"),
        (["--max-tokens", "0"], "--max-tokens must be at least 1, not 0"),
        (["--task", "chess"], "unknown task 'chess'"),
        (["--task", ""], "no task"),
        (["--mode", "both"], "per-input or fixed, not 'both'"),
        (["--engine", "steam"], "'steam' is unknown"),
        (["--texts", "EMPTY"], "is empty"),
        (["--texts", "NO_COLUMN"], "has no field 'text', but body"),
        (["--texts", "LONG"], "70 tokens, the model's context is 64"),
        (["--out", "FILE"], "cannot write to the folder"),
        (["--batch-size", "many"], "batch_size must be"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, tmp_path, arguments, message):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "long.txt").write_text("cat " * 70)
    (tmp_path / "file").touch()
    pd.DataFrame({"body": ["x"]}).to_parquet(tmp_path / "other.parquet")
    stand_ins = {
        "EMPTY": tmp_path / "empty.txt",
        "NO_COLUMN": tmp_path / "other.parquet",
        "LONG": tmp_path / "long.txt",
        "FILE": tmp_path / "file",
    }
    given = [stand_ins.get(argument, argument) for argument in arguments]
    if not str(given[0]).startswith("no-such"):
        given = [folder / "tiny", *given]
    if "--out" not in given:
        given += ["--out", tmp_path / "out"]
    if "--texts" not in given:
        given += ["--texts", folder / "texts.jsonl"]
    result = run("report", *given)
    assert result.exit_code == 2, result.output
    *before, line = result.stderr.splitlines()
    assert before in ([], [f"Loading {given[0]} …"])
    assert line.startswith("error: ")
    assert message in line


def test_a_command_line_of_its_own_shows_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "inactive_heads.report",
        "--limit",
        "0",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --limit must be at least 1, not 0\n"
    teaches = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, check=True)
    assert "--num-fewshot" in teaches.stdout


def test_scores_beside_the_papers_are_found_whatever_was_imported():
    asked = "from inactive_heads.scores.registry import get_score; get_score('RON'); get_score('RRN (LN)')"
    subprocess.run([sys.executable, "-c", asked], check=True)


@pytest.fixture
def in_the_foreground():
    """A shell's background processes ignore SIGINT, and these tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("in_the_foreground")
def test_a_stopped_report_goes_on_where_it_was(folder, tmp_path, monkeypatch, stop):
    ran, inside = [], Job.do

    def stopped(self, unit, *rest):
        ran.append(unit.name)
        if len(ran) == 4:
            os.kill(os.getpid(), stop)
        return inside(self, unit, *rest)

    monkeypatch.setattr(Job, "do", stopped)

    def report(out):
        return run(
            *("report", folder / "tiny", "--out", out, "--texts", folder / "texts.jsonl"),
            *("--task", "text-loss", "--percents", "10,30", "--score", "AHON,Random"),
        )

    result = report(tmp_path / "stopped")
    assert result.exit_code == 130
    assert "rerun the command to resume" in result.stderr
    assert len(pd.read_csv(tmp_path / "stopped" / "curves.csv")) == 4
    assert report(tmp_path / "stopped").exit_code == 0
    assert len(ran) == len(set(ran)) + 1  # the unit that was dropped
    assert report(tmp_path / "whole").exit_code == 0
    curves = [(tmp_path / name / "curves.csv").read_bytes() for name in ("stopped", "whole")]
    assert curves[0] == curves[1]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(folder, tmp_path):
    result = run(
        *("report", folder / "tiny", "--out", tmp_path / "out", "--dry-run"),
        *("--texts", folder / "texts.jsonl", "--task", "text-loss", "--percents", "10,30"),
    )
    assert result.exit_code == 0, result.output
    assert "text-loss: 37 points, 37 units" in result.stdout
    assert "tokens/s measured here" in result.stdout
    assert not (tmp_path / "out").exists()


def test_several_models_make_one_page_and_keep_their_own_folders(folder, tmp_path):
    other = save_folder(
        tmp_path / "other",
        tiny(transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2), 1),
        word_tokenizer(),
    )
    asked = [
        *("report", folder / "tiny", other, "--texts", folder / "texts.jsonl"),
        *("--task", "text-loss", "--percents", "10,30", "--score", "AHON,Random"),
        *("--within-nats", "0.2"),
    ]
    result = run(*asked, "--out", tmp_path / "both")
    assert result.exit_code == 0, result.output
    curves = pd.read_csv(tmp_path / "both" / "curves.csv")
    assert sorted(set(curves["model"])) == ["other", "tiny"]
    page = (tmp_path / "both" / "report.html").read_text()
    assert "2 models" in page
    assert "zeroable within 0.2 nats" in page
    assert "within 0.05 nats" not in page
    folders = [place for place in (tmp_path / "both").iterdir() if place.is_dir()]
    assert len(folders) == 2
    for place in folders:
        assert (place / "scores.nc").exists()
        # The baseline, two scores at two shares, and the one set of heads, if it has any.
        any_heads = bool(ih.Fixed.load(place / "heads.json").heads)
        assert len(list((place / "units").glob("*.unit"))) == 1 + 2 * 2 + any_heads
    assert "given twice" in run(*asked[:2], folder / "tiny", "--out", tmp_path / "twice").stderr


def test_folders_in_a_folder_are_revisions_of_one_model(folder, tmp_path):
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    for seed, step in enumerate(("step1", "step2")):
        network = tiny(transformers.GPT2Config(vocab_size=len(WORDS), **sizes), seed)
        save_folder(tmp_path / "trained" / step, network, word_tokenizer())
    result = run(
        *("report", tmp_path / "trained", "--revision", "step1", "--revision", "step2"),
        *("--texts", folder / "texts.jsonl", "--task", "text-loss", "--percents", "10"),
        *("--score", "AHON,Random", "--out", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "trained@step1" in page
    assert "trained@step2" in page
    assert "<h2>Over training</h2>" in page
    assert "trained, AHON: heads that turn" in page


def test_one_text_is_enough_for_a_report(folder, tmp_path):
    """It says nothing about other texts, and nothing claims that it does."""
    result = run(
        *("report", folder / "tiny", "--texts", folder / "texts.jsonl", "--num-texts", "1"),
        *("--task", "text-loss", "--percents", "10,30", "--score", "AHON,Random"),
        *("--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "summary.csv")["lead"].isna().all()
    assert "how sure is the ranking?" not in (tmp_path / "report.html").read_text()


def test_scores_that_never_zero_a_head_have_no_rank(folder, tmp_path):
    """With one key/value head, all heads of a layer have one v, and FTVVN (LN) is 1 for each."""
    shape = (
        "n_layers = 2\nn_heads = 4\nn_key_value_heads = 1\nd_model = 32\nn_ctx = 64\nd_vocab = 97\n"
    )
    model = tmp_path / "shared-v.toml"
    model.write_text(f'architecture = "llama"\n{shape}tokenizer = "{folder / "tiny"}"\n')
    result = run(
        *("report", model, "--texts", folder / "texts.jsonl", "--num-texts", "3"),
        *("--task", "text-loss", "--percents", "10,30", "--out", tmp_path / "out"),
        *("--score", "AHON,FTVVN (LN),Random"),
    )
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("score")
    assert summary.loc["FTVVN (LN)", "percent_zeroed"] == 0
    assert np.isnan(summary.loc["FTVVN (LN)", "rank"])
    assert sorted(summary["rank"].dropna()) == [1, 2]
