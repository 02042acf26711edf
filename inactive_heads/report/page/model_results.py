"""What is known of one model, as a report shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import xarray as xr

from inactive_heads.errors import UserError


@dataclass(frozen=True)
class ModelResults:
    """The results of one model, or of one checkpoint of it; what is not known is None.

    Attributes:
        model: its name. Results of one name are checkpoints of it, in the order of the list.
        revision: which checkpoint: a branch, tag or commit, or a folder.
        scores: ``(score, sample, layer, head)`` from `score_heads`.
        thresholds: ``(score, percent)`` from `choose_thresholds`.
        curves: the rows of a sweep, or published ones from `read_curves`.
        summary: one row per score at one share, from `summarize`.
        config: what was run, as nested as it likes; ``definitions`` in it maps scores to text,
            ``texts`` names the data set that the heads were scored on.
        by_task: the thresholds that every task's own inputs give, as a table of
            `inactive_heads.analysis.heads.threshold_stability`; if not given, those that the curves have.
        inputs: ``scores`` of every task's inputs, with their data set or subject as the coordinate
            ``group``; by default ``scores``, which may have it too.
        challenges: how scores that are not the paper's do against its best, from `challenges`.
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


def labels(results: Sequence[ModelResults]) -> list[str]:
    """What each result is called in a page: its model, with the revision where it needs one.

    Raises:
        UserError: two have the same model and revision.
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
    """The models of which there are several checkpoints with scores, and those, in order."""
    scored = [one for one in results if one.scores is not None and one.thresholds is not None]
    times = Counter(one.model for one in scored)
    return {
        model: [one for one in scored if one.model == model]
        for model, count in times.items()
        if count > 1
    }
