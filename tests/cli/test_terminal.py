"""Commands write to terminals and files of any encoding."""

import os
import subprocess
import sys

import pytest

from inactive_heads.cli.terminal import PLAIN

MAIN = "import sys; from inactive_heads.cli.app import main; sys.argv[0] = 'inactive-heads'; main()"


def run(*arguments, encoding, module=None):
    """Standard output and error of a command, as bytes, written to pipes of an encoding."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "100"}
    start = ["-c", MAIN] if module is None else ["-m", module]
    done = subprocess.run(
        [sys.executable, *start, *arguments], env=environment, capture_output=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_the_presets_are_listed(encoding):
    status, out, err = run("models", encoding=encoding)
    assert (status, err) == (0, b"")
    text = out.decode(encoding)
    assert "?" not in text
    times, star = ("×" if encoding != "ascii" else "x"), ("★" if encoding == "utf-8" else "*")
    assert f"12 {times} 12" in text
    assert f"{star} one of the paper's models" in " ".join(text.split())
    assert ("─" in text) == (encoding == "utf-8")


@pytest.mark.parametrize(
    ("arguments", "module", "expected"),
    [
        (["evaluate", "--help"], None, "... at this threshold."),
        (["--help"], "inactive_heads.report", "Usage: python -m inactive_heads.report"),
    ],
)
def test_help_is_written(arguments, module, expected):
    status, out, err = run(*arguments, encoding="ascii", module=module)
    assert (status, err) == (0, b"")
    text = " ".join(out.decode("ascii").replace("|", " ").split())
    assert expected in text


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "modele * ?? -> 10 x 2 ... -"), ("latin-1", "modèle * ?? -> 10 × 2 ... -")],
)
def test_any_text_is_written(encoding, expected):
    code = (
        "from inactive_heads.cli.terminal import write_anywhere; write_anywhere(); "
        "print('modèle ★ 日本 → 10 × 2 … ─')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode(encoding).rstrip() == expected


def test_an_error_is_one_line():
    status, _, err = run("evaluate", "--random", "150", encoding="latin-1")
    assert (status, err) == (2, b"error: a percent of heads is from 0 to 100, not 150\n")


def test_what_stands_for_a_character_is_ascii():
    assert all(text.isascii() and text for text in PLAIN.values())
