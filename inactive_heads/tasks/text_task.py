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
from inactive_heads.tasks.base import ScoredInput
from inactive_heads.tasks.question_tokens import framed


@dataclass(frozen=True)
class TextTask:
    """Next-token loss on texts, in nats per token.

    Attributes:
        name: as results name it.
        samples: texts, or lists of token ids.
        about: where they come from; saved with results. ``texts`` in it names the data set.
        start: the number of the first sample, if these are a part of more.
    """

    name: str
    samples: Sequence[str | Sequence[int]]
    about: dict[str, Any] = field(default_factory=dict)
    start: int = 0
    metric: ClassVar[Metric] = LOSS

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> TextTask:
        """The task with the texts from ``start`` to before ``stop``."""
        return replace(self, samples=self.samples[start:stop], start=self.start + start)

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """One input for every text: all its tokens, and each but the first as a target.

        Raises:
            UserError: a text has fewer than two tokens, or more than the model's context.
        """
        encoded = encode_samples(model, self.samples)
        return [[text_input(tokens, f"text {index}")] for index, tokens in enumerate(encoded)]

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """One row per text: id, loss (nats per token) and n_tokens, the tokens predicted."""
        texts = [values for (values,) in logprobs]
        return pd.DataFrame(
            {
                "id": [f"text-{self.start + index}" for index in range(len(texts))],
                "loss": [float(-values.mean(dtype=np.float64)) for values in texts],
                "n_tokens": [len(values) for values in texts],
            }
        )

    def kinds(self) -> list[str]:
        """Every text's data set."""
        return [str(self.about.get("texts", self.name))] * len(self)

    def first_prompt(self, model: Model) -> str:
        """The first text as its tokens decode.

        Raises:
            UserError: the model cannot run the text.
        """
        tokens = encode_samples(model, self.samples[:1])[0]
        return "\n".join(framed(model, f"{self.name}: the first text", tokens))


def text_input(tokens: list[int], name: str) -> ScoredInput:
    """The input that gives the next-token log-probabilities of a whole text.

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
