"""The names that users type: of scores, tasks, engines, metrics and modes.

Nothing here imports anything that is slow to load, so that a command can refuse a wrong name at once.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

PAPER_SCORES = (
    *("AWFT", "AWFT (LN)", "AEQD", "AEQD (LN)", "FTVVN", "FTVVN (LN)", "AVVN", "AVVN (LN)"),
    *("AHON", "AHON (LN)", "LTHON", "LTHON (LN)", "LTHON (HN)", "AHRN", "AHRN (LN)"),
)
"""The names of the paper's fifteen score functions."""

GALLERY_SCORES: tuple[str, ...] = tuple(
    f"{name}{form}"
    for name in ("MSS", "CONF", "MAD", "VWA", "DZM", "FLUC", "CWH", "RRN")
    for form in ("", " (LN)")
)
"""The names of scores from other publications, each with its ``(LN)`` form."""

PROPOSED_SCORES = ("RON", "RON (LN)")
"""The names of this project's own scores that are registered; `read_output_distance` makes ROD."""

DEFAULT_SCORE = "AHON (LN)"
"""The default: of the paper's scores, first by normalized AUC on 8 of its 14 models."""

RANDOM = "Random"
"""The baseline, which has no score function."""

ROD = "ROD"
"""The score that `read_output_distance` makes, for heads that are replaced by their mean output."""

OURS = (*PROPOSED_SCORES, ROD)
"""This project's own scores, which are marked wherever they stand beside the paper's."""

HOW_TO_LIST = (
    "PAPER_SCORES, GALLERY_SCORES and PROPOSED_SCORES list names; score_function registers yours"
)
"""The part of an error message that says where the names of scores are listed."""

TEXT_LOSS = "text-loss"
"""The task of next-token loss on texts."""

BUNDLED = "bundled"
"""The bundled texts as a source."""

TEXT_SOURCES = (BUNDLED, "fineweb-edu")
"""The texts that a user can name instead of a file or folder."""

CHOICE_TASKS = ("mmlu", "quiz")
"""The tasks of multiple-choice questions that come with the package."""

LM_EVAL = "lm-eval:"
"""What the name of a task of lm-evaluation-harness starts with."""

LM_EVAL_SCORINGS = {"acc": "acc", "letter": "acc", "acc_norm": "acc_norm", "cloze": "acc_norm"}
"""How answers of its tasks are judged: our names for the harness's two."""

MetricName: TypeAlias = Literal["accuracy", "loss"]
EngineName = Literal["auto", "flash", "lens"]
Rule = Literal["auto", "on", "off"]
Mode = Literal["per-input", "fixed"]
Replacement = Literal["zero", "mean"]
"""What takes the place of a silenced head's output in a report: nothing, or its mean."""

DTYPE_NAMES = ("bfloat16", "float16", "float32", "float64")
"""The dtypes that a model can be loaded in, as PyTorch calls them."""

PAPER_PERCENTS = (0, 5, 10, 15, 20, 25, 30)
"""The percents of heads that the paper zeroes."""

REPORT_PERCENTS = (0, 5, 10, 15, 20, 30)
"""The percents of heads that a report zeroes by default."""
