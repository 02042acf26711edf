"""Everything a report knows of one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import xarray as xr

from inactive_heads.errors import UserError
from inactive_heads.report.answer import Answer


@dataclass(frozen=True)
class ModelResults:
    """The results of one model, or of one checkpoint of it. None stands for what is not known.

    Attributes:
        model: its name. Results of the same name are checkpoints, in the order of the list.
        revision: the checkpoint: a branch, tag or commit, or a folder.
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        thresholds: ``(score, percent)``, from `choose_thresholds`.
        curves: the rows of a sweep, or published ones from `read_curves`.
        summary: one row per score at one percent of heads, from `summarize`.
        config: what was run, nested to any depth. ``definitions`` in it maps scores to text,
            ``texts`` names the data set that the heads were scored on.
        inputs: like ``scores``, for the inputs of every task, with their data set or subject as the
            coordinate ``group``; by default ``scores``, which may have that coordinate too.
        by_task: the thresholds that the inputs of each task give, a table of
            `inactive_heads.analysis.heads.threshold_stability`; by default those of the curves.
        challenges: scores other than the paper's against its best, from `challenges`.
        answer: the set of heads that the top of the page is about, from `answer_of`,
            which it is by default.
    """

    model: str
    revision: str = ""
    scores: xr.DataArray | None = None
    thresholds: xr.DataArray | None = None
    curves: pd.DataFrame | None = None
    summary: pd.DataFrame | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: xr.DataArray | None = None
    by_task: pd.DataFrame | None = None
    challenges: pd.DataFrame | None = None
    answer: Answer | None = None


def labels(results: Sequence[ModelResults]) -> list[str]:
    """Return the label of each result on the page: the model, and its revision if it has several.

    Args:
        results: the results of all models and checkpoints.

    Returns:
        One label per result, such as "gpt2" or "pythia-70m@step1000".

    Raises:
        UserError: two results are of the same model and revision.
    """
    times = Counter(one.model for one in results)
    found = [
        f"{one.model}@{one.revision}" if times[one.model] > 1 else one.model for one in results
    ]
    for label, count in Counter(found).items():
        if count > 1:
            raise UserError(f"there are {count} results of {label!r}; give each its own revision")
    return found


def checkpoints_of(results: Sequence[ModelResults]) -> dict[str, list[ModelResults]]:
    """Return the models of which several checkpoints were scored, with those checkpoints in order.

    Args:
        results: the results of all models and checkpoints; those without scores or thresholds are
            ignored.

    Returns:
        Model → its results, two or more.
    """
    scored = [one for one in results if one.scores is not None and one.thresholds is not None]
    times = Counter(one.model for one in scored)
    return {
        model: [one for one in scored if one.model == model]
        for model, count in times.items()
        if count > 1
    }
