"""A report's answer: one set of inactive heads, and what zeroing exactly these heads costs.

The set is chosen once. The page's dots and list, ``heads.json``, ``summary.csv`` and the sentences at
the top of the page all show it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.summary import best_of, tied_with
from inactive_heads.analysis.heads.thresholds import select_heads
from inactive_heads.names import DEFAULT_SCORE


@dataclass(frozen=True, eq=False)
class Answer:
    """The set of heads that a report calls inactive.

    Attributes:
        score: the score that chose it: the best one of those that were swept.
        percent: the percent of heads asked for.
        heads: the set, booleans ``(layer, head)``, from `select_heads`.
        effects: the rows of `sweep` in fixed mode with exactly these heads zeroed, one per task;
            None if that was not measured.
        file: the file that holds the set; empty if there is none.
        tied: the scores that tie with the one that chose it.
        source: the model, as `load_model` takes it; empty for the bundled one.
    """

    score: str
    percent: float
    heads: xr.DataArray
    effects: pd.DataFrame | None = None
    file: str = ""
    source: str = ""
    tied: tuple[str, ...] = ()

    @property
    def in_python(self) -> str:
        """How to go on with these heads in Python."""
        model = f"ih.load_model({self.source!r})" if self.source else "ih.load_model()"
        return (
            f"import inactive_heads as ih\n\nmodel = {model}\nheads = ih.Fixed.load({self.file!r})\n"
            'print(ih.evaluate(model, "quiz", heads).summary())\n'
            "ih.explore(model)  # in a notebook: every head on a text"
        )

    @property
    def in_shell(self) -> str:
        """How to go on with these heads in a shell."""
        words = ["inactive-heads", "evaluate", *([self.source] if self.source else [])]
        return shlex.join([*words, "--task", "quiz", "--heads", self.file])


def answer_of(scores: xr.DataArray, summary: pd.DataFrame | None, percent: float) -> Answer:
    """The answer that scores and a summary of curves give.

    Args:
        scores: ``(score, sample, layer, head)``.
        summary: from `summarize`; None if no task was run.
        percent: the percent of heads asked for.

    Returns:
        The set of the best of the scores by their curves. Where no curve ranks them, it is that of
        AHON (LN), or of the first score if that is missing.

    Raises:
        UserError: the score has no finite value.
    """
    names = [str(name) for name in scores["score"].to_numpy()]
    best = None if summary is None else best_of(summary, names)
    if best is None:
        best = DEFAULT_SCORE if DEFAULT_SCORE in names else names[0]
    tied = () if summary is None else tuple(tied_with(summary, best, names))
    return Answer(best, percent, select_heads(scores, best, percent), tied=tied)


def head_labels(heads: xr.DataArray) -> str:
    """The heads of a set as text: "L5H3 L11H0".

    Args:
        heads: booleans ``(layer, head)``.
    """
    chosen = heads.transpose("layer", "head")
    layers, numbers = chosen["layer"].to_numpy(), chosen["head"].to_numpy()
    return " ".join(f"L{layers[row]}H{numbers[at]}" for row, at in np.argwhere(chosen.to_numpy()))
