"""What workers need besides units of work, and what does units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.errors import UserError
from inactive_heads.evaluation.evaluate import run_task
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.scores import BUILT_IN
from inactive_heads.scores.registry import Score
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit

ATTEMPTS = 3
"""How often a unit may take its worker with it before the run gives up."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs besides units: how to load the model, the tasks, the scores.

    ``replacement`` is what is put in the place of silenced heads; zero if None.
    """

    model: Model
    tasks: Mapping[str, PreparedTask]
    scores: Mapping[str, Score]
    batch_size: int | str = "auto"
    replacement: xr.DataArray | None = None

    def recipe(self) -> dict[str, Any]:
        """What `load_model` takes to load the model once more.

        Raises:
            UserError: it was not loaded by `load_model`.
        """
        if self.model.recipe is None:
            raise UserError(
                f"{self.model.name!r} was given as it is, so other processes cannot load it: "
                'use load_model, or executor="local" with one worker'
            )
        return dict(self.model.recipe)


@runtime_checkable
class Executor(Protocol):
    """Does units of a job, in any order, and gives each as soon as it is done."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]: ...


def tokens_of(job: Job, unit: Unit) -> int:
    """Tokens that a unit runs through the model."""
    return job.tasks[unit.task].part(*unit.items).n_tokens


def is_known(score: Score) -> bool:
    """Whether any process has the score that imports the package."""
    return BUILT_IN.get(score.name) is score


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
