"""Units of work: one ablation on a range of a task's items, which takes minutes.

A unit describes its work completely, so any process that has the model and the task can do it. Its
name identifies it in a run folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.evaluation.prepared_task import PreparedTask

SHARD_TOKENS = {"cpu": 100_000, "cuda": 1_000_000}
"""Tokens per unit of work, by device type: a few minutes of computation."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One ablation on a range of a task's items. Units with equal names are equal.

    Attributes:
        task: the task's name.
        items: the index of the first item, and the index after the last.
        ablation: the ablation; None for the baseline, which also computes the scores.
    """

    task: str
    items: tuple[int, int]
    ablation: Ablation | None = None

    @property
    def name(self) -> str:
        """The unit's name. Equal work has the same name in every process."""
        first, last = self.items
        label = "baseline" if self.ablation is None else self.ablation.label
        return f"{self.task}-{first:05d}-{last:05d}-{label}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def shards_of(prepared: PreparedTask, tokens: int) -> list[tuple[int, int]]:
    """A task's items split into consecutive ranges of limited length.

    Args:
        prepared: the tokenized task.
        tokens: the most tokens in a range; a longer item gets a range of its own.

    Returns:
        For each range, the index of its first item and the index after its last.
    """
    per_item = np.zeros(prepared.n_items, dtype=int)
    np.add.at(per_item, prepared.owners, [len(one.tokens) for one in prepared.inputs])
    shards, start, held = [], 0, 0
    for index, count in enumerate(per_item.tolist()):
        if held and held + count > tokens:
            shards.append((start, index))
            start, held = index, 0
        held += count
    return [*shards, (start, prepared.n_items)]
