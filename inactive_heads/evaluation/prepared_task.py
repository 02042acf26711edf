"""Tasks tokenized once for a model."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ScoredInput, Task
from inactive_heads.tasks.load import as_task


@dataclass(frozen=True)
class PreparedTask:
    """A task tokenized once for a model.

    Attributes:
        task: the task.
        inputs: the inputs to run, in the order of the task's items.
        owners: the index of the item that each input belongs to.
        first_input: the index of the first input in the whole task, if this is a range of it.
    """

    task: Task
    inputs: list[ScoredInput]
    owners: list[int]
    first_input: int = 0

    @staticmethod
    def of(model: Model, task: Task | str) -> PreparedTask:
        """Tokenize a task for a model.

        Args:
            model: the model, whose tokenizer and chat template are used.
            task: a task of any kind, or the name of one.

        Returns:
            The task and its inputs.

        Raises:
            UserError: it is no task, an input is longer than the model's context (nothing is cut silently), or a
                question cannot be asked with the model's tokenizer.
        """
        task = as_task(task)
        inputs: list[ScoredInput] = []
        owners: list[int] = []
        for index, asked in enumerate(task.inputs(model)):
            inputs += asked
            owners += [index] * len(asked)
        return PreparedTask(task, inputs, owners)

    @property
    def n_items(self) -> int:
        """The number of questions or texts."""
        return len(self.task)

    @property
    def kinds(self) -> list[str]:
        """The kind of text of every input: its data set or subject."""
        kinds = self.task.kinds()
        return [kinds[owner] for owner in self.owners]

    def part(self, start: int, stop: int) -> PreparedTask:
        """The task with a range of its items.

        Args:
            start: the index of the first item.
            stop: the index after the last item.

        Returns:
            The items and their inputs, with the index of the first input.
        """
        # Inputs are in the order of their items.
        first, last = bisect_left(self.owners, start), bisect_left(self.owners, stop)
        owners = [owner - start for owner in self.owners[first:last]]
        return PreparedTask(self.task.part(start, stop), self.inputs[first:last], owners, first)

    def name_of(self, row: int) -> str:
        """What an error message calls an input: its task and its item's id.

        Args:
            row: the index of the input.
        """
        item = self.owners[row]
        one = self.part(item, item + 1)
        # Only a task knows its items' ids, and it gives them with their outcomes.
        nothing = [np.zeros(len(asked.targets)) for asked in one.inputs]
        return f"{self.task.name}, item {one.task.outcomes([nothing])['id'].iloc[0]}"

    def by_item(self, values: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """One array per input, grouped by item.

        Args:
            values: one array per input.

        Returns:
            For each item, the arrays of its inputs, in order.
        """
        grouped: list[list[np.ndarray]] = [[] for _ in range(self.n_items)]
        for owner, value in zip(self.owners, values, strict=True):
            grouped[owner].append(value)
        return grouped

    @property
    def digest(self) -> str:
        """A digest of the inputs: their tokens, positions and targets."""
        found = hashlib.sha256()
        for one in self.inputs:
            for numbers in (one.tokens, one.positions, one.targets):
                found.update(np.array([len(numbers), *numbers], dtype="<i8").tobytes())
        return found.hexdigest()[:16]

    @property
    def n_tokens(self) -> int:
        """The number of tokens that one evaluation runs through the model."""
        return sum(len(one.tokens) for one in self.inputs)
