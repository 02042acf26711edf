"""Units of work: one ablation on one stretch of a task's items, minutes at a time.

A unit says by itself what is to be done, so that it can be done in any process that has the
model and the task, and is known by its name in a run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.files import digest_of

SHARD_TOKENS = {"cpu": 100_000, "cuda": 1_000_000}
"""Tokens that one unit runs through the model: minutes on that kind of device."""


@dataclass(frozen=True)
class Unit:
    """One ablation of some of a task's items.

    Attributes:
        task: the task's name.
        items: the first of the items, and the one after the last.
        kind: "baseline" (no ablation; every score is computed along), "per-input", "fixed" or
            "random".
        score: per-input: the score's name.
        number: per-input: the threshold; random: the probability.
        heads: fixed: the ``(layer, head)`` to silence.
        seed: of "random".
    """

    task: str
    items: tuple[int, int]
    kind: str
    score: str = ""
    number: float = 0.0
    heads: tuple[tuple[int, int], ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        """What the unit is known by; the same for equal work, whoever asks for it."""
        first, last = self.items
        parts = {
            "baseline": [],
            "per-input": [self.score, repr(self.number)],
            "fixed": [digest_of(self.heads)],
            "random": [repr(self.number), str(self.seed)],
        }
        return "-".join([self.task, f"{first:05d}", f"{last:05d}", self.kind, *parts[self.kind]])


def shards_of(prepared: PreparedTask, tokens: int) -> list[tuple[int, int]]:
    """The items in stretches of about so many tokens each, one item at least."""
    per_item = np.zeros(prepared.n_items, dtype=int)
    np.add.at(per_item, prepared.owners, [len(one.tokens) for one in prepared.inputs])
    shards, start, held = [], 0, 0
    for index, count in enumerate(per_item.tolist()):
        if held and held + count > tokens:
            shards.append((start, index))
            start, held = index, 0
        held += count
    return [*shards, (start, prepared.n_items)]
