"""The command line of lm-evaluation-harness, with the model ``inactive-heads`` registered."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lm_eval.__main__ import cli_evaluate

import inactive_heads.evaluation.lm_eval_model  # noqa: F401 - registers the model


def run(arguments: Sequence[str]) -> None:
    """Run lm-evaluation-harness's command line, which then knows ``--model inactive-heads``.

    Args:
        arguments: the arguments of ``lm-eval``.
    """
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]  # the harness reads and modifies it
    try:
        cli_evaluate()
    finally:
        sys.argv = before
