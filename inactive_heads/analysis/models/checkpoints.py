"""Heads across checkpoints: how many are inactive, which turn, and what finetuning changes.

Checkpoints are pairs of a label and scores, in order. The same thresholds apply to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.head_sets import inactive_at
from inactive_heads.analysis.heads.thresholds import share_inactive
from inactive_heads.errors import UserError

LabelledScores: TypeAlias = tuple[str, xr.DataArray]
"""The label of a checkpoint and its scores, ``(score, sample, layer, head)``."""


def checkpoint_shares(
    checkpoints: Sequence[LabelledScores], thresholds: xr.DataArray, percent: float
) -> xr.DataArray:
    """Return the share of (input, head) pairs that is inactive at each checkpoint.

        cuts = ih.choose_thresholds(course[-1][1])  # those of the last checkpoint
        checkpoint_shares(course, cuts, percent=10)

    Args:
        checkpoints: at least two pairs of a label and scores ``(score, sample, layer, head)``.
        thresholds: ``(score, percent)``, the same for all checkpoints.
        percent: which of the thresholds' percents to use.

    Returns:
        Shares between 0 and 1, ``(score, checkpoint)``.

    Raises:
        UserError: there are fewer than two checkpoints, two have the same label, they differ in
            their layers, heads or scores, or there is no threshold for ``percent``.
    """
    dims = ("sample", "layer", "head")
    masks = _masks(checkpoints, thresholds, percent)
    return _joined(checkpoints, [share_inactive(mask, dims) for mask in masks])


def inactive_states(
    checkpoints: Sequence[LabelledScores], thresholds: xr.DataArray, percent: float
) -> xr.DataArray:
    """Return which heads are inactive on more than half of the inputs, at each checkpoint.

    Args:
        checkpoints: at least two pairs of a label and scores ``(score, sample, layer, head)``.
        thresholds: ``(score, percent)``, the same for all checkpoints.
        percent: which of the thresholds' percents to use.

    Returns:
        Booleans, ``(score, checkpoint, layer, head)``.

    Raises:
        UserError: as for `checkpoint_shares`.
    """
    masks = _masks(checkpoints, thresholds, percent)
    return _joined(checkpoints, [share_inactive(mask, "sample") > 0.5 for mask in masks])


def transition_counts(states: xr.DataArray) -> pd.DataFrame:
    """Return how many heads turn between consecutive checkpoints.

    Args:
        states: from `inactive_states`.

    Returns:
        One row per score and step, with the columns score, before and after (labels),
        turned_inactive, turned_active, and inactive, the number of inactive heads after the step.
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
    """Return the heads that turn at least once, those that turn most often first.

    Args:
        states: from `inactive_states`.

    Returns:
        One row per score and head, with the columns score, layer, head; turns, how often its state
        changes; back, whether it ends in the state it began in; and path, its states with the label
        of the checkpoint where each begins.
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
    """Return the heads that are inactive on most inputs in one of two models, but not in the other.

        changed_heads(base_scores, instruct_scores, base_thresholds, percent=10)

    Args:
        before: scores ``(score, sample, layer, head)`` of one model, such as the base.
        after: scores of the other, such as its finetuned form.
        thresholds: ``(score, percent)``, the same for both models; those of the base, for example.
        percent: which of the thresholds' percents to use.

    Returns:
        One row per score and head, the largest changes first, with the columns score, layer, head;
        before and after, the percent of inputs on which the head is inactive; and change, after
        minus before.

    Raises:
        UserError: the models differ in their layers, heads or scores, or there is no threshold for
            ``percent``.
    """
    labels = [("before", before), ("after", after)]
    masks = _masks(labels, thresholds, percent)
    old, new = (100 * share_inactive(mask, "sample").to_numpy() for mask in masks)
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
        have, want = (exists_at(one).sum(axis=1).tolist() for one in (mask, first))
        if have != want:
            raise UserError(
                f"checkpoints {labels[0]!r} and {label!r} differ in their heads per layer: {want}, "
                f"{have}"
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
