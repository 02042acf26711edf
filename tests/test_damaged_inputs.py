"""Damaged inputs of every kind load, or are refused in one line; `make damaged` tries 1,000."""

import subprocess
import sys

import pytest
from helpers.inputs import KINDS
from helpers.places import ROOT

N = 3 * len(KINDS)


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory by Linux's /proc")
def test_damaged_inputs_load_or_are_refused_in_one_line():
    command = [sys.executable, "tests/damaged_inputs.py", "--inputs", str(N), "--seed", "11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"{N} damaged inputs, 0 neither" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
