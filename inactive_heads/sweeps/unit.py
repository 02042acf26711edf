"""Units of work: one ablation on one stretch of a task's items, minutes at a time.

A unit says by itself what is to be done, so that any process with the model and the task can do
it. Its name identifies it in a run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.evaluation.prepared_task import PreparedTask

SHARD_TOKENS = {"cpu": 100_000, "cuda": 1_000_000}
"""Tokens that one unit runs through the model: minutes on that kind of device."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One ablation of some of a task's items. Units of one name are equal.

    Attributes:
        task: the task's name.
        items: the number of the first item, and the number after the last.
        ablation: what is silenced; None is the baseline, which also computes every score.
    """

    task: str
    items: tuple[int, int]
    ablation: Ablation | None = None

    @property
    def name(self) -> str:
        """Identifies the work; the same for equal work, whoever asks for it."""
        first, last = self.items
        label = "baseline" if self.ablation is None else self.ablation.label
        return f"{self.task}-{first:05d}-{last:05d}-{label}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def shards_of(prepared: PreparedTask, tokens: int) -> list[tuple[int, int]]:
    """A task's items in stretches of about so many tokens.

    Args:
        prepared: the task.
        tokens: of one stretch; a longer item has a stretch of its own.

    Returns:
        The number of each stretch's first item, and the number after its last.
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
