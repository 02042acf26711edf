"""The scores of all inputs of a report, grouped by kind of text."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.sweeps.results import Sweep


def scores_by_kind(
    tasks: Sequence[PreparedTask], sweeps: Sequence[Sweep], names: Sequence[str]
) -> xr.DataArray:
    """The scores of all tasks' inputs, with each input's data set or subject.

    Args:
        tasks: the tasks that were swept.
        sweeps: each task's sweep, in the same order, with the scores of its inputs.
        names: the names of the scores to take.

    Returns:
        ``(score, sample, layer, head)`` with the coordinate ``group`` along ``sample``.
    """
    parts = []
    for task, sweep in zip(tasks, sweeps, strict=True):
        assert sweep.scores is not None, "a report's sweeps score all heads along the way"
        own = sweep.scores.sel(score=list(names)).drop_vars("sample")
        parts.append(own.assign_coords(group=("sample", task.kinds)))
    return xr.concat(parts, dim="sample", combine_attrs="override")
