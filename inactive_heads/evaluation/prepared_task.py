"""A task tokenized once for a model."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from inactive_heads.errors import UserError
from inactive_heads.evaluation.log_likelihood import ScoredInput
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import Task, TextTask
from inactive_heads.tasks.question_tokens import asked_of


@dataclass(frozen=True)
class PreparedTask:
    """A task tokenized once for a model: the inputs to run, and which belong to which item.

    ``first_input`` is the place of the first input, where these are a part of a task.
    """

    task: Task
    inputs: list[ScoredInput]
    owners: list[int]
    first_input: int = 0

    @staticmethod
    def of(model: Model, task: Task) -> PreparedTask:
        """Tokenize the task, refusing inputs longer than the model's context."""
        if isinstance(task, TextTask):
            encoded = encode_samples(model, task.samples)
            inputs = [text_input(tokens, f"text {index}") for index, tokens in enumerate(encoded)]
            return PreparedTask(task, inputs, list(range(len(inputs))))
        inputs, owners = [], []
        for index, item in enumerate(task.items):
            asked = asked_of(model, item, task.scoring).inputs
            inputs += asked
            owners += [index] * len(asked)
        return PreparedTask(task, inputs, owners)

    @property
    def n_items(self) -> int:
        """How many questions or texts there are."""
        return len(self.task.samples if isinstance(self.task, TextTask) else self.task.items)

    def part(self, start: int, stop: int) -> PreparedTask:
        """The items from ``start`` to before ``stop``."""
        # Inputs stand in the order of their items.
        first, last = bisect_left(self.owners, start), bisect_left(self.owners, stop)
        task: Task
        if isinstance(self.task, TextTask):
            task = replace(self.task, samples=self.task.samples[start:stop])
        else:
            task = replace(self.task, items=self.task.items[start:stop])
        owners = [owner - start for owner in self.owners[first:last]]
        return PreparedTask(task, self.inputs[first:last], owners, first)

    @property
    def digest(self) -> str:
        """A digest of the tokens that are run and read."""
        found = hashlib.sha256()
        for one in self.inputs:
            for numbers in (one.tokens, one.positions, one.targets):
                found.update(np.array([len(numbers), *numbers], dtype="<i8").tobytes())
        return found.hexdigest()[:16]

    @property
    def n_tokens(self) -> int:
        """Tokens that one evaluation runs through the model."""
        return sum(len(one.tokens) for one in self.inputs)


def text_input(tokens: list[int], name: str) -> ScoredInput:
    """The next-token log-probabilities of a whole text; ``name`` is what an error calls it."""
    if len(tokens) < 2:
        raise UserError(f"{name} has {len(tokens)} token; next-token loss needs 2 or more")
    return ScoredInput(tokens, list(range(len(tokens) - 1)), tokens[1:])
