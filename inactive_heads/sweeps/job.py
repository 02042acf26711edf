"""What units of work need besides themselves, and what does them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from inactive_heads.errors import UserError
from inactive_heads.evaluation.evaluate import run_task
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.scores.registry import Score
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.specs import ModelSpec
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit

ATTEMPTS = 3
"""How often a unit may take its worker with it before the run gives up."""


def _unheard(done: int, /) -> None:
    """For callers that do not ask how far the work is."""


@dataclass(frozen=True, eq=False)
class Job:
    """A model, its tasks, and the scores that a baseline computes: all that units need.

    Attributes:
        model: the model.
        tasks: the tasks by name, tokenized for it.
        scores: the scores by name.
        batch_size: inputs run together, or "auto".
    """

    model: Model
    tasks: Mapping[str, PreparedTask]
    scores: Mapping[str, Score]
    batch_size: int | str = "auto"

    def do(self, unit: Unit, advance: Advance = _unheard) -> Finished:
        """Do a unit of work, here.

        Args:
            unit: what to do.
            advance: is told how many tokens were run since the last call.

        Returns:
            ``facts["items"]``, a table of the task's items as `Evaluation` has them;
            ``facts["n_zeroed"]`` of ``facts["n_heads"]`` heads; and, of a baseline, in the array
            the scores ``(score, input, layer, head)``.

        Raises:
            UserError: the ablation does not fit the model.
        """
        part = self.tasks[unit.task].part(*unit.items)
        ablation, looking = unit.ablation, None
        if ablation is not None:
            ablation = ablation.starting_at(part.first_input)
        elif self.scores:
            looking = ScoreVisitor(self.model, list(self.scores.values()), len(part.inputs))
        found = run_task(
            self.model,
            part,
            ablation,
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

    def n_tokens(self, unit: Unit) -> int:
        """The number of tokens that a unit runs through the model."""
        return self.tasks[unit.task].part(*unit.items).n_tokens

    @property
    def model_spec(self) -> ModelSpec:
        """How another process loads the model.

        Raises:
            UserError: it was not loaded by `load_model`.
        """
        if self.model.spec is None:
            raise UserError(
                f"{self.model.name!r} was given as it is, so other processes cannot load it: "
                'use load_model, or executor="local" with one worker'
            )
        return self.model.spec

    @property
    def with_model(self) -> Callable[[Model], Job]:
        """Makes the same job with another copy of the model; can be sent to other processes."""
        return partial(Job, tasks=self.tasks, scores=self.scores, batch_size=self.batch_size)


@runtime_checkable
class Executor(Protocol):
    """Does units of a job, in any order, and gives each as soon as it is done."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Each unit when it is done, once.

        Args:
            job: the model, tasks and scores.
            units: what to do.
            advance: is told how many tokens were run since the last call.
        """
        ...
