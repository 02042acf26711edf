"""Options that need no model are refused before anything that is slow to import is imported."""

import json
import subprocess
import sys
from typing import get_args

import pytest
from helpers.places import ROOT

from inactive_heads.checks import check_score_names
from inactive_heads.cli.terminal import say_loading
from inactive_heads.errors import UserError
from inactive_heads.models.choose_engine import AUTO, ENGINES
from inactive_heads.names import (
    DEFAULT_SCORE,
    GALLERY_SCORES,
    PAPER_SCORES,
    PROPOSED_SCORES,
    RANDOM,
    EngineName,
)
from inactive_heads.scores import BUILT_IN

SLOW = (
    "torch",
    "transformers",
    "transformer_lens",
    "pandas",
    "xarray",
    "datasets",
    "scipy",
    "plotly",
)

SCRIPT = f"""
import contextlib, io, json, sys
from inactive_heads.cli.app import app

ends = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = app(arguments, standalone_mode=False)
    ends.append([code, said.getvalue(), [name for name in {SLOW!r} if name in sys.modules]])
json.dump(ends, sys.stdout)
"""


def ends_of(several):
    """The exit status of commands run in one process, what each said, and the slow modules so far."""
    command = [sys.executable, "-c", SCRIPT]
    asked = json.dumps(several)
    done = subprocess.run(
        command, cwd=ROOT, input=asked, capture_output=True, encoding="utf-8", check=True
    )
    return json.loads(done.stdout)


SHARED = [
    (["--engine", "steam"], "engine='steam' is unknown"),
    (["--dtype", "int3"], "dtype='int3' is unknown"),
    (["--device", "tpu"], "device='tpu' is unknown"),
    (["--bos", "maybe"], "bos='maybe' is unknown"),
    (["--chat-template", "maybe"], "chat_template='maybe' is unknown"),
    (["--engine", "lens", "--device-map", "auto"], 'needs engine="flash"'),
    (["--task", "chess"], "unknown task 'chess'"),
    (["--limit", "0"], "--limit must be at least 1"),
    (["--num-fewshot", "-1"], "must be at least 0"),
    (["--scoring", "loud"], "scoring must be letter or cloze"),
    (["--data", "no-such.jsonl"], "'no-such.jsonl' cannot be read"),
    (["--data", "pyproject.toml"], "has none of the endings"),
    (["--batch-size", "many"], "batch_size must be"),
    (["--seed", "-1"], "the seed must be at least 0"),
    (["--score-file", "no-such.py"], "no file of scores at 'no-such.py'"),
    (["no-such-folder/model.gguf"], "no file or folder 'no-such-folder/model.gguf'"),
    (["tests/helpers/no-such.toml"], "no file or folder"),
]
OWN = {
    "report": [
        (["--score", "AHOM (LN)"], "unknown score 'AHOM (LN)'; did you mean 'AHON (LN)'?"),
        (["--score", "AWFT,AWFT"], "'AWFT' was asked for twice"),
        (["--score", ""], "no score was asked for"),
        (["--percents", "5,120"], "from 0 to 100, not 120"),
        (["--percents", "5,5"], "stands twice"),
        (["--percents", "5,x"], "--percents takes numbers"),
        (["--at", "-3"], "from 0 to 100, not -3"),
        (["--mode", "both"], "mode must be per-input or fixed"),
        (["--task", "quiz,quiz"], "task 'quiz' was asked for twice"),
        (["--task", ""], "no task was asked for"),
        (["--executor", "slurm"], "executor='slurm' is unknown"),
        (["--workers", "0"], "workers must be at least 1"),
        (["--shard-tokens", "0"], "shard_tokens must be at least 1"),
        (["--texts", "no-such.txt"], "no texts: 'no-such.txt' cannot be read"),
        (["--texts", "pyproject.toml"], "has none of the endings"),
        (["--num-texts", "0"], "the number of texts must be at least 1"),
        (["--max-tokens", "0"], "--max-tokens must be at least 1"),
        (["--out", "pyproject.toml"], "cannot write to the folder 'pyproject.toml'"),
        (["--out", "pyproject.toml/inside", "--dry-run"], "cannot write to the folder"),
        (["gpt2", "gpt2"], "'gpt2' was given twice"),
        (["--curves", "a.csv", "--percents", "300"], "from 0 to 100, not 300"),
        (["gpt2", "--curves", "a.csv"], "drawn without a model"),
        (["--score-file", "no-such.py", "--score", "MINE"], "no file of scores"),
    ],
    "evaluate": [
        (["--score", "AHOM (LN)", "--threshold", "1"], "did you mean 'AHON (LN)'?"),
        (["--score", "AHON (LN)"], "score and threshold go together"),
        (["--random", "10", "--heads", "heads.json"], "give one of score, heads and random"),
        (["--random", "101"], "from 0 to 100, not 101"),
        (["--placebo"], "a placebo follows other heads"),
        (["--heads", "no-such.json"], "no-such.json is not a file of heads"),
    ],
}
CASES = [(name, *case) for name, own in OWN.items() for case in SHARED + own]


@pytest.fixture(scope="module")
def ends():
    return dict(enumerate(ends_of([[name, *options] for name, options, _ in CASES])))


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[" ".join([one, *two]) for one, two, _ in CASES]
)
def test_what_needs_no_model_is_refused_before_torch_is_imported(ends, number):
    code, said, loaded = ends[number]
    assert code == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert CASES[number][2] in said
    assert loaded == []


def test_help_imports_nothing_slow():
    commands = [[name, "--help"] for name in ("report", "evaluate", "models", "check-score")]
    assert ends_of([*commands, ["--help"]]) == [[0, "", []]] * 5


LISTED = {*PAPER_SCORES, *GALLERY_SCORES, *PROPOSED_SCORES}


def test_the_listed_names_are_those_of_the_scores_that_come_along():
    """A name is refused before any score function is loaded, so the two must be the same."""
    assert set(BUILT_IN) == LISTED
    assert RANDOM not in BUILT_IN
    assert DEFAULT_SCORE in PAPER_SCORES
    check_score_names([*BUILT_IN, RANDOM])
    check_score_names(["MINE"], own=["MINE", "MINE (LN)"])
    with pytest.raises(UserError, match="unknown score 'MINE'"):
        check_score_names(["MINE"])


def test_the_listed_engines_are_those_that_there_are():
    assert get_args(EngineName) == (AUTO, *ENGINES)
    assert [name for name, kind in ENGINES.items() if not kind.spreads] == ["lens"]


FIRST_LINE = """
import sys
from inactive_heads.cli import report

def stop(models):
    report.say(f"{models} {'torch' in sys.modules}")
    raise KeyboardInterrupt

report.say_loading = stop
report.run_report()
"""


def test_the_first_line_is_said_before_torch_is_imported(tmp_path):
    command = [sys.executable, "-c", FIRST_LINE, "gpt2", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines()[0] == "['gpt2', 'demo'] False"


def test_the_first_line_names_the_model(capsys):
    say_loading([None])
    say_loading(["gpt2", "demo"])
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Loading the bundled model …", "Loading gpt2, the first of 2 models …"]
