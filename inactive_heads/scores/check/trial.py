"""What a score is tried on: tiny models with random weights, and what their heads do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inactive_heads.core.activations import HeadActivations, PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors, KeyValueVectors, Pattern, PerHead
from inactive_heads.engines.base import Engine
from inactive_heads.errors import UserError
from inactive_heads.scores.registry import Score

Values = Float[Tensor, "input layer head"]


Prepare = Callable[[HeadActivations], HeadActivations]


class Failed(Exception):
    """A score did what it must not; the message says what."""


@dataclass(frozen=True)
class Trial:
    """A score that is tried: it sees copies of what models compute, unless told otherwise."""

    score: Score

    def values(self, engine: Engine, batch: TokenBatch, prepare: Prepare | None = None) -> Values:
        """The score of every head, of copies of what the model computed."""
        found = self.look(engine, batch, lambda heads: self((prepare or copied)(heads)))
        return torch.stack(found, dim=1).double()

    def look(
        self, engine: Engine, batch: TokenBatch, see: Callable[[HeadActivations], PerHead]
    ) -> list[PerHead]:
        """What ``see`` gives for each layer."""
        found: list[PerHead] = []
        engine.run(batch, lambda heads: found.append(see(heads)))
        return found

    def __call__(self, heads: HeadActivations) -> PerHead:
        """The score of a layer's heads.

        Raises:
            Failed: the score raised an error, or what it returned is none; ratios may be NaN.
        """
        found = self.shaped(heads)
        wrong = torch.nonzero(~found.isfinite())
        if len(wrong) and not self.score.is_ratio:
            row, head = wrong[0].tolist()
            raise Failed(
                f"it returns {found[row, head].item()} for L{heads.layer}H{head} of input {row}"
            )
        return found

    def shaped(self, heads: HeadActivations) -> PerHead:
        """What the score returns, finite or not.

        Raises:
            Failed: the score raised an error, or returned no floating point of the right shape.
        """
        expected, found = (len(heads.batch.tokens), heads.n_heads), self._guarded(heads)
        if not isinstance(found, Tensor):
            raise Failed(f"it returns a {type(found).__name__}, not a torch.Tensor")
        if tuple(found.shape) != expected:
            raise Failed(f"it returns shape {tuple(found.shape)}, not (batch, head) = {expected}")
        if not found.is_floating_point():
            raise Failed(f"it returns {found.dtype}, not floating point")
        return found

    def _guarded(self, heads: HeadActivations) -> Any:
        """What the function returns; whatever error it raises is told as `Failed`."""
        try:
            return self.score.function(heads)
        except UserError as error:
            raise Failed(str(error)) from error
        except Exception as error:
            raise Failed(f"it raises {type(error).__name__}: {error}") from error


def copied(heads: HeadActivations) -> HeadActivations:
    """The same heads, of which a score may spoil what it likes."""
    path, residual = replace(heads.path, weights=heads.path.weights.clone()), heads.stream().clone()
    return replace(
        heads,
        batch=_copied_batch(heads.batch),
        values=heads.values.clone(),
        outputs=heads.outputs.clone(),
        path=path,
        stream=lambda: residual,
        scored={},
    )


def laid_open(heads: HeadActivations) -> HeadActivations:
    """A copy of the same heads whose attention statistics come from a pattern held in memory."""
    own = copied(heads)
    return replace(own, attention=PatternStatistics(own.batch, heads.pattern.clone()))


def with_activations(
    heads: HeadActivations, values: KeyValueVectors, outputs: HeadVectors, pattern: Pattern
) -> HeadActivations:
    """The same heads with other value vectors, outputs and attention weights."""
    attention = PatternStatistics(heads.batch, pattern)
    return replace(heads, values=values, outputs=outputs, attention=attention, scored={})


@contextmanager
def small_and_quiet() -> Iterator[None]:
    """One thread, as more only wait for each other over tiny models; and no warnings.

    What torch warns of, such as the spread of a single number, is found and said in words.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


def padded(sample: Sequence[int], left: int, right: int) -> TokenBatch:
    """One input alone, with padding on both or either side of it."""
    tokens = torch.tensor([[0] * left + [*sample] + [0] * right])
    positions = torch.arange(tokens.shape[1])[None]
    return TokenBatch(tokens, (positions >= left) & (positions < left + len(sample)))


def _copied_batch(batch: TokenBatch) -> TokenBatch:
    return TokenBatch(batch.tokens.clone(), batch.mask.clone(), batch.rows)
