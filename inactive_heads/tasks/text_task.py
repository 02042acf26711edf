"""Next-token loss on texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import LOSS, Metric
from inactive_heads.errors import UserError
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples, read_samples
from inactive_heads.tasks.base import ScoredInput
from inactive_heads.tasks.bundled_texts import kinds_of
from inactive_heads.tasks.question_tokens import framed


@dataclass(frozen=True)
class TextTask:
    """Next-token loss on texts, in nats per token.

        task = ih.TextTask("text-loss", ih.load_texts(n=10))

    Attributes:
        name: the task's name in results.
        samples: texts, or lists of token ids, in any form that `score_heads` takes; kept as a list.
        about: where the texts come from; saved with results. Its "texts" names the data set.
        start: the index of the first sample, if these are a range of a larger set.
        text_kinds: each sample's kind, such as "news"; for the default see `kinds`.
    """

    name: str
    samples: Samples
    about: dict[str, Any] = field(default_factory=dict)
    start: int = 0
    text_kinds: Sequence[str] = ()
    metric: ClassVar[Metric] = LOSS

    def __post_init__(self) -> None:
        """Read the samples, and check their kinds.

        Raises:
            UserError: the samples are none (see `read_samples`), or there is not one kind for each.
        """
        object.__setattr__(self, "samples", read_samples(self.samples))
        if isinstance(self.text_kinds, str):
            raise UserError(
                f"text_kinds is one text, {self.text_kinds!r:.60}; give a list of kinds"
            )
        kinds = list(map(str, self.text_kinds))
        if kinds and len(kinds) != len(self.samples):
            raise UserError(
                f"{len(kinds)} text_kinds were given for {len(self.samples)} samples; give one for "
                "each, or none"
            )
        object.__setattr__(self, "text_kinds", kinds)

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> TextTask:
        """The task with a range of its texts.

        Args:
            start: the index of the first text.
            stop: the index after the last text.
        """
        kinds = self.text_kinds[start:stop]
        return replace(
            self, samples=self.samples[start:stop], start=self.start + start, text_kinds=kinds
        )

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """The inputs to run.

        Args:
            model: the model, whose tokenizer is used.

        Returns:
            For each text, one input of all its tokens, with every token but the first as a target.

        Raises:
            UserError: there are no texts; or a text has fewer than two tokens, more than the
                model's context, or an unknown token id.
        """
        encoded = encode_samples(model, self.samples)
        return [[text_input(tokens, f"text {index}")] for index, tokens in enumerate(encoded)]

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """The outcome of every text.

        Args:
            logprobs: for each text and its one input, the log-probabilities of the targets, in
                nats.

        Returns:
            One row per text, with the columns id; loss, in nats per token; and n_tokens, the
            number of tokens predicted.
        """
        texts = [values for (values,) in logprobs]
        return pd.DataFrame(
            {
                "id": [f"text-{self.start + index}" for index in range(len(texts))],
                "loss": [float(-values.mean(dtype=np.float64)) for values in texts],
                "n_tokens": [len(values) for values in texts],
            }
        )

    def kinds(self) -> list[str]:
        """Each text's kind, from ``text_kinds``.

        Returns:
            By default the kind of a whole bundled text, and for any other sample the data set:
            "texts" in ``about``, or the task's name.
        """
        data_set = str(self.about.get("texts", self.name))
        return list(self.text_kinds) or kinds_of(self.samples, otherwise=data_set)

    def first_prompt(self, model: Model) -> str:
        """The first text as the model reads it, for display.

        Args:
            model: the model, whose tokenizer is used.

        Returns:
            The number of tokens, and the text decoded from its tokens.

        Raises:
            UserError: the text is empty, longer than the context, or has an unknown token id.
        """
        tokens = encode_samples(model, self.samples[:1])[0]
        return "\n".join(framed(model, f"{self.name}: the first text", tokens))


def text_input(tokens: list[int], name: str) -> ScoredInput:
    """The input that reads the next-token log-probabilities of a whole text.

    Args:
        tokens: the text's token ids.
        name: the text's name, used in error messages.

    Returns:
        The tokens, with every token but the first as a target.

    Raises:
        UserError: there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise UserError(f"{name} has {len(tokens)} token; next-token loss needs 2 or more")
    return ScoredInput(tokens, list(range(len(tokens) - 1)), tokens[1:])
