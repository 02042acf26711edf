"""Units of work: one ablation on one stretch of a task's items, minutes at a time.

A unit says by itself what is to be done, so that it can be done in any process that has the
model and the task, and is known by its name in a run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.evaluation.evaluate import PreparedTask, run_task
from inactive_heads.models.load import Model
from inactive_heads.progress import Advance
from inactive_heads.scores.registry import Score
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.sweeps.run_folder import Finished, digest_of

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


def _unheard(done: int, /) -> None:
    """For whoever does not ask how far the work is."""


@dataclass(frozen=True, eq=False)
class Worker:
    """Does units of work: a model, its tasks, and the scores that units name.

    Calling it with a unit gives what the unit gives: ``facts["items"]``, a table of the task's
    items as `Evaluation` has them, ``facts["n_zeroed"]`` of ``facts["n_heads"]`` heads, and for
    a baseline, in the array, the scores ``(score, input, layer, head)``. ``replacement`` is put in
    the place of silenced heads, as `PerInput` takes it.
    """

    model: Model
    tasks: Mapping[str, PreparedTask]
    scores: Mapping[str, Score]
    batch_size: int | str = "auto"
    replacement: xr.DataArray | None = None

    def __call__(self, unit: Unit, advance: Advance = _unheard) -> Finished:
        part = self.tasks[unit.task].part(*unit.items)
        looking = None
        if unit.kind == "baseline" and self.scores:
            looking = ScoreVisitor(self.model, list(self.scores.values()), len(part.inputs))
        found = run_task(
            self.model,
            part,
            self._ablation(unit, part),
            advance=advance,
            looking=looking,
            batch_size=self.batch_size,
        )
        facts = {
            "unit": unit.name,
            "items": found.items.to_dict("list"),
            "n_zeroed": int(found.zeroed.sum()),
            "n_heads": int(found.zeroed.size),
            "metric": found.metric,
        }
        return Finished(facts, np.empty(0, "f4") if looking is None else looking.values)

    def _ablation(self, unit: Unit, part: PreparedTask) -> Ablation | None:
        if unit.kind == "per-input":
            return PerInput(self.scores[unit.score], unit.number, self.replacement)
        if unit.kind == "fixed":
            return Fixed(unit.heads, self.replacement)
        if unit.kind == "random":
            return Random(unit.number, unit.seed, self.replacement, part.first_input)
        return None


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
