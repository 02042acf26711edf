"""The protocol of tasks: items to run through a model, and their outcomes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric
from inactive_heads.checks import check_whole
from inactive_heads.errors import UserError
from inactive_heads.models.model import Model

Scoring = Literal["letter", "cloze", "acc", "acc_norm"]
"""How answers are judged; see `ChoiceTask`."""


@dataclass(frozen=True)
class ScoredInput:
    """Tokens to run, and the log-probabilities to read: of ``targets[k]`` after ``positions[k]``.

    Attributes:
        tokens: token ids, from the input's first token on.
        positions: indices into ``tokens``; the logits after each of these tokens are read.
        targets: token ids, one for each position.
    """

    tokens: list[int]
    positions: list[int]
    targets: list[int]


@runtime_checkable
class Task(Protocol):
    """Questions or texts that ablations are evaluated on, such as a `ChoiceTask` or a `TextTask`.

    Attributes:
        name: the task's name in results.
        about: where the items come from and how they are asked; saved with results, in a form that
            JSON can represent.
        metric: the metric that it measures.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> dict[str, Any]: ...

    @property
    def metric(self) -> Metric: ...

    def __len__(self) -> int:
        """The number of items: questions, or texts."""
        ...

    def part(self, start: int, stop: int) -> Task:
        """The task with a range of its items.

        Args:
            start: the index of the first item.
            stop: the index after the last item.

        Returns:
            A task of the same kind.
        """
        ...

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """The inputs to run.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            For each item, one input or one for each answer.

        Raises:
            UserError: an input is longer than the model's context, or has no target.
        """
        ...

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """The outcome of every item.

        Args:
            logprobs: for each item and input, the log-probabilities of the input's targets, in
                nats.

        Returns:
            One row per item, with the columns of `Outcomes.items` except percent_zeroed.
        """
        ...

    def kinds(self) -> list[str]:
        """The kind of text that each item is.

        Returns:
            Each item's data set or subject.
        """
        ...

    def first_prompt(self, model: Model) -> str:
        """The first item as the model reads it, for display.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            The text, and facts such as the number of tokens.

        Raises:
            UserError: the model cannot run the item.
        """
        ...


@dataclass(frozen=True)
class ChoiceItem:
    """One question: its context, the continuations to choose from, and the right one.

        ih.ChoiceItem("q1", "sums", "1 + 1 =", (" 2", " 3"), answer=0)

    Attributes:
        id: identifies the question in results.
        subject: the question's subject.
        context: the text before the answer. A `Prompt` is written by the model's chat template if
            the model uses one; any other text is used as it is. A tuple has one context for each
            continuation, for choices that differ in the context (Winogrande).
        continuations: the possible answers, as texts that follow the context.
        answer: the index of the right continuation.
        lengths: each continuation's divisor if log-probabilities are normalized; by default its
            length in characters, without the space at its start.
    """

    id: str
    subject: str
    context: str | tuple[str, ...]
    continuations: tuple[str, ...]
    answer: int
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields; lists become tuples, and integers of numpy Python's.

        Raises:
            UserError: a field that has to be a text is none, there is no continuation or one is
                empty, there is not one context or length for each, or the answer is not an index.
        """
        name = f"question {self.id!r:.60}"
        for field in ("id", "subject"):
            value = getattr(self, field)
            if isinstance(value, Integral) and not isinstance(value, bool):
                object.__setattr__(self, field, str(value))
            elif not isinstance(value, str):
                raise UserError(f"{name} has the {field} {value!r:.60}; give a text")
        no_order = isinstance(self.continuations, str | Set | Mapping)
        if no_order or not isinstance(self.continuations, Iterable):
            raise UserError(
                f"the continuations of {name} are {self.continuations!r:.60}, not a list of texts"
            )
        if not isinstance(self.lengths, Iterable):
            raise UserError(
                f"{name} has the lengths {self.lengths!r:.60}; give one for each answer"
            )
        for field in ("continuations", "lengths"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if isinstance(self.context, list):
            object.__setattr__(self, "context", tuple(self.context))
        number = len(self.continuations)
        if len(self.contexts) != number:
            raise UserError(f"{name} has {len(self.contexts)} contexts and {number} continuations")
        for text in (*self.contexts, *self.continuations):
            if not isinstance(text, str):
                raise UserError(f"{name} has {text!r:.60} where a text is needed")
            if not text.isascii() and _HALF.search(text):
                raise UserError(f"{name} has half of a surrogate pair in {text!a:.60}")
        if not all(self.continuations) or not number:
            raise UserError(f"{name} has an empty continuation, or none")
        if isinstance(self.answer, bool | np.bool_) or not isinstance(self.answer, Integral):
            raise UserError(
                f"{name} has the answer {self.answer!r:.60}; give the index of a continuation"
            )
        object.__setattr__(self, "answer", int(self.answer))
        if not 0 <= self.answer < number:
            raise UserError(
                f"{name} has the answer {self.answer}; it needs 0 to {number - 1}, counted from 0"
            )
        if self.lengths and len(self.lengths) != number:
            raise UserError(f"{name} has {len(self.lengths)} lengths and {number} continuations")
        for length in self.lengths:
            check_whole(f"a length of {name}", length, least=0)

    @property
    def right_twice(self) -> bool:
        """Whether another answer is equal to the right one."""
        whole = list(zip(self.contexts, self.continuations, strict=True))
        return whole.count(whole[self.answer]) > 1

    @property
    def contexts(self) -> tuple[str, ...]:
        """The context before each continuation."""
        several = isinstance(self.context, tuple)
        return self.context if several else (self.context,) * len(self.continuations)  # type: ignore[return-value]


_HALF = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def choose_evenly(
    items: Sequence[T],
    subject_of: Callable[[T], str],
    subjects: Sequence[str] | None,
    limit: int | None,
    seed: int,
) -> list[T]:
    """The items of some subjects, or a number of them spread evenly over the subjects.

    Args:
        items: the items to choose from.
        subject_of: returns an item's subject.
        subjects: the subjects to choose from; None for all.
        limit: the number of items to choose at random; None for all.
        seed: the seed of the choice.

    Returns:
        Without a limit, all items subject by subject. With a limit, items in rounds of one per
        subject; fewer than ``limit`` if there are not as many. Subjects are in the order of
        ``items``, whatever the order of ``subjects``.

    Raises:
        UserError: there is no such subject, or there is nothing to choose from.
    """
    if not items:
        raise UserError("there are no questions to choose from; see whether the data are complete")
    by_subject: dict[str, list[T]] = {}
    for item in items:
        by_subject.setdefault(subject_of(item), []).append(item)
    if subjects is not None:
        if not subjects:
            raise UserError("no subjects were given; name at least one, or leave it out for all")
        for subject in subjects:
            if subject not in by_subject:
                near = difflib.get_close_matches(str(subject), by_subject)
                names = [*near, *(name for name in by_subject if name not in near)]
                more = f" and {len(names) - 10} more" if len(names) > 10 else ""
                raise UserError(
                    f"unknown subject {subject!r}; there are: {', '.join(names[:10])}{more}"
                )
        by_subject = {name: group for name, group in by_subject.items() if name in subjects}
    if limit is None:
        return [item for group in by_subject.values() for item in group]
    rng = np.random.default_rng(seed)
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in by_subject.values()]
    # In rounds of one item per subject, so that any limit is spread evenly.
    rounds = [
        group[turn]
        for turn in range(max(map(len, shuffled)))
        for group in shuffled
        if turn < len(group)
    ]
    return rounds[:limit]
