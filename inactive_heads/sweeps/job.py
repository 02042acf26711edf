"""Jobs, which hold everything that units of work need, and the protocol of executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from inactive_heads.analysis.curves.metrics import LOSS
from inactive_heads.errors import UserError
from inactive_heads.evaluation.evaluate import run_task
from inactive_heads.evaluation.outcomes import Evaluation
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.evaluation.unablated import MAX_STATES, Unablated
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.scores.registry import Score
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.specs import ModelSpec
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit

ATTEMPTS = 3
"""Worker deaths that end a run: of one unit's workers with Ray, of any with local processes."""


def _unheard(done: int, /) -> None:
    """Ignore progress."""


@dataclass(frozen=True, eq=False)
class Job:
    """A model, its tasks, and the scores that baseline units compute.

    Attributes:
        model: the model.
        tasks: the tasks by name, tokenized for the model.
        scores: the scores by name.
        batch_size: inputs per batch, or "auto".
    """

    model: Model
    tasks: Mapping[str, PreparedTask]
    scores: Mapping[str, Score]
    batch_size: int | str = "auto"
    _held: dict[tuple[str, tuple[int, int]], Unablated] = field(
        default_factory=dict, init=False, repr=False
    )

    def do(self, unit: Unit, advance: Advance = _unheard) -> Finished:
        """Do a unit of work in this process.

        Args:
            unit: the unit, of one of the job's tasks.
            advance: called with the number of tokens run since the last call. By default, progress
                is not reported.

        Returns:
            The unit's results. Its facts are "unit", the unit's name; "items", the columns of
            `Evaluation.items` as lists; "n_zeroed" of "n_heads", the heads silenced, counted over
            inputs and layers; and "metric". For the baseline, the array holds the scores,
            ``(score, input, layer, head)``; otherwise it is empty.

        Raises:
            UserError: the ablation does not fit the model, or a single input does not fit in
                memory.
        """
        part = self.tasks[unit.task].part(*unit.items)
        if unit.ablation is None:
            found, scores = self._run_unablated(unit, part, advance)
        else:
            scores = np.empty(0, "f4")
            found = run_task(
                self.model,
                part,
                unit.ablation.starting_at(part.first_input),
                advance=advance,
                unablated=self._compared_with(unit, part),
                batch_size=self.batch_size,
            )
        facts = {
            "unit": unit.name,
            "items": found.items.to_dict("list"),
            "n_zeroed": int(found.zeroed.sum()),
            "n_heads": len(part.inputs) * self.model.shape.total_heads,
            "metric": found.metric,
        }
        return Finished(facts, scores)

    def _run_unablated(
        self, unit: Unit, part: PreparedTask, advance: Advance
    ) -> tuple[Evaluation, np.ndarray]:
        """Runs the unablated model, scores its heads, and keeps what texts are compared with."""
        key, looking, made = (unit.task, unit.items), None, None
        if self.scores:
            looking = ScoreVisitor(self.model, list(self.scores.values()), len(part.inputs))
        if part.task.metric == LOSS:
            others = sum(one.n_bytes for held, one in self._held.items() if held != key)
            made = Unablated(self.model, part.inputs, MAX_STATES - others)
        found = run_task(
            self.model,
            part,
            None,
            advance=advance,
            unablated=made,
            looking=looking,
            batch_size=self.batch_size,
        )
        if made is not None:
            self._held[key] = made
        return found, np.empty(0, "f4") if looking is None else looking.values

    def _compared_with(self, unit: Unit, part: PreparedTask) -> Unablated | None:
        """What a unit's texts are compared with; None for questions.

        If another process ran the unablated model, or an earlier one before the sweep was
        interrupted, it runs once more here, in the same way.
        """
        if part.task.metric != LOSS:
            return None
        if (unit.task, unit.items) not in self._held:
            self._run_unablated(unit, part, _unheard)
        return self._held[unit.task, unit.items]

    def n_tokens(self, unit: Unit) -> int:
        """The number of tokens that a unit runs through the model.

        Args:
            unit: the unit, of one of the job's tasks.
        """
        return self.tasks[unit.task].part(*unit.items).n_tokens

    @property
    def model_spec(self) -> ModelSpec:
        """The spec by which another process loads the model.

        Raises:
            UserError: the model is not as `load_model` returned it.
        """
        if self.model.spec is None:
            raise UserError(
                f"{self.model.name!r} is in this process only, so other processes cannot load it: "
                'give what load_model returns, or executor="local" and one worker'
            )
        return self.model.spec

    @property
    def with_model(self) -> Callable[[Model], Job]:
        """A function that makes the same job with another copy of the model; it can be pickled."""
        return partial(Job, tasks=self.tasks, scores=self.scores, batch_size=self.batch_size)


@runtime_checkable
class Executor(Protocol):
    """Does units of a job in any order, and yields each as soon as it is done."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Do units of work.

        Args:
            job: the model, tasks and scores.
            units: the units to do.
            advance: called with the number of tokens run since the last call.

        Yields:
            Each unit once, with its results, as soon as it is done.
        """
        ...
