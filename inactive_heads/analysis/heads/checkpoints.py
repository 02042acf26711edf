"""Heads over checkpoints: how many are inactive, which turn, and what finetuning changes.

Checkpoints are ``(label, scores)`` in order; thresholds are fixed, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.head_sets import inactive_at
from inactive_heads.errors import UserError

LabelledScores: TypeAlias = tuple[str, xr.DataArray]
"""A checkpoint's label and its scores, ``(score, sample, layer, head)``."""


def checkpoint_shares(
    checkpoints: Sequence[LabelledScores], thresholds: xr.DataArray, percent: float
) -> xr.DataArray:
    """The share of (input, head) pairs, 0 to 1, that is inactive: (score, checkpoint).

    ``thresholds`` and ``percent`` fix what inactive means; those of the last checkpoint, say.

    Raises:
        UserError: fewer than two checkpoints, one label twice, other layers, heads or scores, or
            no threshold for that share.
    """
    dims = ("sample", "layer", "head")
    masks = _masks(checkpoints, thresholds, percent)
    return _joined(checkpoints, [mask.mean(dims) for mask in masks])


def inactive_states(
    checkpoints: Sequence[LabelledScores], thresholds: xr.DataArray, percent: float
) -> xr.DataArray:
    """Where a head is inactive on more than half of the inputs: bool (score, checkpoint, layer, head).

    Raises:
        UserError: as `checkpoint_shares` does.
    """
    masks = _masks(checkpoints, thresholds, percent)
    return _joined(checkpoints, [mask.mean("sample") > 0.5 for mask in masks])


def transition_counts(states: xr.DataArray) -> pd.DataFrame:
    """How many heads turn from one checkpoint to the next, a row per score and step.

    Columns: score, before and after (labels), turned_inactive, turned_active, inactive (how many
    are after the step). ``states`` comes from `inactive_states`.
    """
    labels, rows = states["checkpoint"].to_numpy().tolist(), []
    for name in states["score"].to_numpy().tolist():
        grid = states.sel(score=name).transpose("checkpoint", "layer", "head").to_numpy()
        for i in range(1, len(labels)):
            old, new = grid[i - 1], grid[i]
            turned = int((~old & new).sum()), int((old & ~new).sum())
            rows.append((name, labels[i - 1], labels[i], *turned, int(new.sum())))
    columns = ["score", "before", "after", "turned_inactive", "turned_active", "inactive"]
    return pd.DataFrame(rows, columns=columns)


def turning_heads(states: xr.DataArray) -> pd.DataFrame:
    """The heads that turn at least once, those that turn most first, a row per score and head.

    Columns: score, layer, head, turns (how often its state changes), back (it ends as it began,
    having turned), path (its states, each with the label of the checkpoint where it starts).
    """
    labels, rows = states["checkpoint"].to_numpy().tolist(), []
    layers = states["layer"].to_numpy().tolist()
    for name in states["score"].to_numpy().tolist():
        grid = states.sel(score=name).transpose("checkpoint", "layer", "head").to_numpy()
        changes = (grid[1:] != grid[:-1]).sum(axis=0)
        for i, head in np.argwhere(changes > 0).tolist():
            own, turns = grid[:, i, head].tolist(), int(changes[i, head])
            path = _path(labels, own)
            rows.append((name, layers[i], head, turns, own[0] == own[-1], path))
    table = pd.DataFrame(rows, columns=["score", "layer", "head", "turns", "back", "path"])
    order = {name: i for i, name in enumerate(states["score"].to_numpy().tolist())}
    place = table["score"].map(order)
    sorted_rows = table.assign(place=place).sort_values(
        ["place", "turns", "layer", "head"], ascending=[True, False, True, True], ignore_index=True
    )
    return sorted_rows.drop(columns="place")


def changed_heads(
    before: xr.DataArray, after: xr.DataArray, thresholds: xr.DataArray, percent: float
) -> pd.DataFrame:
    """Which heads finetuning turned: inactive on most inputs in one model, not in the other.

    Columns: score, layer, head, before and after (the % of inputs on which the head is inactive),
    change; the largest changes first. ``thresholds`` are the same for both; the base's, say.

    Raises:
        UserError: the two do not have the same layers, heads and scores.
    """
    labels = [("before", before), ("after", after)]
    masks = _masks(labels, thresholds, percent)
    old, new = (100 * mask.mean("sample").to_numpy() for mask in masks)
    names, layers = (masks[0][dim].to_numpy().tolist() for dim in ("score", "layer"))
    rows = [
        (names[s], layers[i], head, old[s, i, head], new[s, i, head])
        for s, i, head in np.argwhere((old > 50) != (new > 50)).tolist()
    ]
    table = pd.DataFrame(rows, columns=["score", "layer", "head", "before", "after"])
    table["change"] = table["after"] - table["before"]
    order = table.assign(place=table["score"].map({name: i for i, name in enumerate(names)}))
    order = order.assign(size=-table["change"].abs())
    return order.sort_values(["place", "size", "layer", "head"], ignore_index=True).drop(
        columns=["place", "size"]
    )


def _masks(
    checkpoints: Sequence[LabelledScores], thresholds: xr.DataArray, percent: float
) -> list[xr.DataArray]:
    labels = [label for label, _ in checkpoints]
    if len(labels) < 2:
        raise UserError(f"a course needs two checkpoints or more, not {labels}")
    if len(set(labels)) < len(labels):
        raise UserError(f"a checkpoint stands twice in {labels}")
    masks = [inactive_at(scores, thresholds, percent) for _, scores in checkpoints]
    first = masks[0]
    for label, mask in zip(labels, masks, strict=True):
        for dim in ("score", "layer", "head"):
            have, want = (one[dim].to_numpy().tolist() for one in (mask, first))
            if have != want:
                raise UserError(
                    f"checkpoints {labels[0]!r} and {label!r} differ in their {dim}s: {want}, {have}"
                )
    return masks


def _joined(checkpoints: Sequence[LabelledScores], parts: list[xr.DataArray]) -> xr.DataArray:
    labels = pd.Index([label for label, _ in checkpoints], name="checkpoint")
    joined = xr.concat(parts, dim=labels, coords="minimal", compat="override", join="exact")
    return joined.transpose("score", "checkpoint", ...)


def _path(labels: Sequence[str], states: Sequence[bool]) -> str:
    starts = [i for i in range(len(states)) if i == 0 or states[i] != states[i - 1]]
    words = {True: "inactive", False: "active"}
    return ", ".join(f"{labels[i]}: {words[states[i]]}" for i in starts)
