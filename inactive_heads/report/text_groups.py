"""The scores of every input that was run, with what kind of text it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.sweeps.results import Sweep
from inactive_heads.tasks.base import TextTask


def scores_by_kind(
    tasks: Mapping[str, PreparedTask], sweeps: Sequence[Sweep], texts: str, names: Sequence[str]
) -> xr.DataArray:
    """The scores of all tasks' inputs, with their data set or subject as ``group``.

    Args:
        tasks: what was swept.
        sweeps: of the tasks, in their order, each with the scores of its own inputs.
        texts: what the data set of texts is called.
        names: the scores.
    """
    parts = []
    for (name, one), done in zip(tasks.items(), sweeps, strict=True):
        if isinstance(one.task, TextTask):
            groups = [texts] * len(one.inputs)
        else:
            groups = [f"{name}: {one.task.items[owner].subject}" for owner in one.owners]
        assert done.scores is not None, "a report's sweeps score all heads along"
        own = done.scores.sel(score=list(names)).drop_vars("sample")
        parts.append(own.assign_coords(group=("sample", groups)))
    return xr.concat(parts, dim="sample", combine_attrs="override")
