"""Requests of lm-evaluation-harness, translated to inputs and options, and back to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from inactive_heads.ablation.generation import Choose, Sampling, greedy
from inactive_heads.checks import check_batch_size
from inactive_heads.errors import UserError
from inactive_heads.tasks.base import ScoredInput

NAME = "inactive-heads"
"""The model's name in the harness."""

SAMPLING = ("temperature", "top_k", "top_p")

Document = tuple[str, int | None]
"""A task's name, and the index of a document in the task."""


def document_of(request: Instance) -> Document:
    """The document that a request is about.

    Args:
        request: a request of any type.
    """
    return str(request.task_name), request.doc_id


def name_of(request: Instance) -> str:
    """A request's document, for error messages.

    Args:
        request: a request of any type.
    """
    return f"document {request.doc_id} of the task {request.task_name}"


def read_batch_size(value: int | str) -> int | str:
    """The harness's batch size as ours.

    Args:
        value: a number, "auto" or "auto:4". The harness's "auto:4" searches again as inputs get
            shorter, which our "auto" always does.

    Returns:
        A number, or "auto".

    Raises:
        UserError: it is none of these.
    """
    text = str(value)
    size = int(text) if text.isdecimal() else text.partition(":")[0]
    check_batch_size(size)
    return size


@dataclass(frozen=True)
class GenerationOptions:
    """How the text of a generation request is written.

    Attributes:
        max_new_tokens: the most tokens to generate.
        until: the texts that end the generated text.
        choose: picks the next tokens.
    """

    max_new_tokens: int
    until: list[str]
    choose: Choose

    @staticmethod
    def of(
        settings: dict[str, Any], *, max_gen_toks: int, end_of_text: str, seed: int
    ) -> GenerationOptions:
        """The options in a request's settings.

        Args:
            settings: the harness's ``generation_kwargs``.
            max_gen_toks: the most tokens to generate, if the settings do not say.
            end_of_text: the model's end-of-text token, which ends every text.
            seed: the seed of sampling.

        Returns:
            The options.

        Raises:
            UserError: there is a setting that is not supported.
        """
        options = dict(normalize_gen_kwargs(settings, max_gen_toks))
        until = handle_stop_sequences(options.pop("until"), eos=end_of_text)
        most, sampled = options.pop("max_gen_toks"), options.pop("do_sample")
        given = {name: options.pop(name) for name in SAMPLING if name in options}
        if options:
            raise UserError(
                f"--model {NAME} cannot generate with {', '.join(options)}: it takes until, "
                f"max_gen_toks, do_sample, {', '.join(SAMPLING)}"
            )
        return GenerationOptions(most, until, Sampling(**given, seed=seed) if sampled else greedy)


@dataclass(frozen=True)
class GroupedRequests:
    """Requests for log-probabilities as inputs; requests that run the same tokens share one.

    Attributes:
        inputs: the inputs to run.
        documents: the document that each input is about.
        places: for each request, the index of its input, and the part of the input's targets that
            is its own.
    """

    inputs: list[ScoredInput]
    documents: list[Document]
    places: list[tuple[int, slice]]

    @staticmethod
    def of(
        pairs: Sequence[tuple[list[int], list[int]]], documents: Sequence[Document]
    ) -> GroupedRequests:
        """Group requests by the documents that they are about.

        Args:
            pairs: the tokens of each request's context and of its continuation.
            documents: the document of each request; requests about one document are adjacent.

        Returns:
            One input for each document whose requests differ in their last token only; otherwise
            one for each request.
        """
        grouped = GroupedRequests([], [], [])
        for document, members in groupby(range(len(pairs)), lambda at: documents[at]):
            own = [pairs[at] for at in members]
            alike = len({(*context, *after[:-1]) for context, after in own}) == 1
            for group in [own] if alike else [[one] for one in own]:
                grouped._add(document, group)
        return grouped

    @property
    def tasks(self) -> list[str]:
        """The task that each input belongs to."""
        return [task for task, _ in self.documents]

    def name_of(self, row: int) -> str:
        """What an error message calls an input.

        Args:
            row: the index of the input.
        """
        task, number = self.documents[row]
        return f"input {row}" if number is None else f"document {number} of the task {task}"

    def _add(self, document: Document, group: Sequence[tuple[list[int], list[int]]]) -> None:
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
        self.documents.append(document)

    def answers(self, found: Sequence[np.ndarray]) -> list[tuple[float, bool]]:
        """The answers to the requests.

        Args:
            found: for each input, the log-probabilities of its targets and of the most probable
                tokens, ``(2, target)``, in nats; see `targets_and_best`.

        Returns:
            For each request, the continuation's log-probability, in nats, and whether greedy
            decoding gives it.
        """
        answers = []
        for row, part in self.places:
            own, best = found[row][:, part]
            answers.append((float(own.sum(dtype=np.float64)), bool((own == best).all())))
        return answers
