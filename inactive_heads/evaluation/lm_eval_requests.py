"""Requests of lm-evaluation-harness as inputs to run, and what comes back as its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from lm_eval.api.instance import Instance

from inactive_heads.tasks.base import ScoredInput

Document = tuple[str, int | None]
"""A task, and the number of a document in it."""


def document_of(request: Instance) -> Document:
    """The document that a request is about."""
    return str(request.task_name), request.doc_id


def name_of(request: Instance) -> str:
    """A request's document, as error messages name it."""
    return f"document {request.doc_id} of the task {request.task_name}"


@dataclass(frozen=True)
class GroupedRequests:
    """Requests for log-probabilities as inputs, those that run the same tokens as one.

    Attributes:
        inputs: what to run.
        tasks: the task that each input belongs to.
        places: for every request its input, and the part of the input's targets that is its own.
    """

    inputs: list[ScoredInput]
    tasks: list[str]
    places: list[tuple[int, slice]]

    @staticmethod
    def of(
        pairs: Sequence[tuple[list[int], list[int]]], documents: Sequence[Document]
    ) -> GroupedRequests:
        """Group requests by the documents that they are about.

        Args:
            pairs: the tokens of each request's context, and of what follows it.
            documents: what each request is about; requests about one document stand together.

        Returns:
            One input for each document whose requests differ in their last tokens only; else one for
            each request.
        """
        grouped = GroupedRequests([], [], [])
        for (task, _), members in groupby(range(len(pairs)), lambda at: documents[at]):
            own = [pairs[at] for at in members]
            alike = len({(*context, *after[:-1]) for context, after in own}) == 1
            for group in [own] if alike else [[one] for one in own]:
                grouped._add(task, group)
        return grouped

    def _add(self, task: str, group: Sequence[tuple[list[int], list[int]]]) -> None:
        """Add one input that serves a group of requests."""
        positions: list[int] = []
        targets: list[int] = []
        for context, after in group:
            end = len(targets) + len(after)
            self.places.append((len(self.inputs), slice(len(targets), end)))
            positions += range(len(context) - 1, len(context) + len(after) - 1)
            targets += after
        context, after = group[0]
        self.inputs.append(ScoredInput(context + after[:-1], positions, targets))
        self.tasks.append(task)

    def answers(self, found: Sequence[np.ndarray]) -> list[tuple[float, bool]]:
        """Each request's log-probability in nats, and whether greedy decoding gives it.

        Args:
            found: for every input the log-probabilities of its targets, and below them those of the
                likeliest tokens: ``(2, target)``.
        """
        answers = []
        for row, part in self.places:
            own, best = found[row][:, part]
            answers.append((float(own.sum(dtype=np.float64)), bool((own == best).all())))
        return answers
