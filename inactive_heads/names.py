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
"""The baseline that zeroes heads at random, which has no score function."""

PLACEBO_OF = "Placebo of "
"""How the name of a placebo begins; the name of the score that it follows comes after it."""

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


def placebo_of(score: str) -> str:
    """Return the name of the placebo of a score.

    >>> placebo_of("AHON (LN)")
    'Placebo of AHON (LN)'

    A placebo zeroes, in every layer, as many heads as the score would, drawn at random.

    Args:
        score: the score's name.

    Returns:
        The name, as `sweep` takes it and curves have it.
    """
    return f"{PLACEBO_OF}{score}"


def score_of_placebo(name: str) -> str | None:
    """Return the name of the score that a placebo follows.

    Args:
        name: any name in the column "score" of curves.

    Returns:
        The score's name; None if it is not the name of a placebo.
    """
    return name.removeprefix(PLACEBO_OF) if name.startswith(PLACEBO_OF) else None


def is_baseline(name: object) -> bool:
    """Return whether a name is that of a baseline, which has no score function.

    Args:
        name: a name in the column "score" of curves, or anything else.

    Returns:
        True for "Random" and for the names of placebos.
    """
    return isinstance(name, str) and (name == RANDOM or name.startswith(PLACEBO_OF))
