"""Runs a score function under test on copies of a model's activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors, KeyValueVectors, Pattern, PerHead
from inactive_heads.engines.base import Engine
from inactive_heads.errors import UserError
from inactive_heads.scores.registry import Score

ScoreValues = Float[Tensor, "input layer head"]


Prepare = Callable[[HeadActivations], HeadActivations]
"""Copies a layer's heads and changes the copy."""


class Failed(Exception):
    """The score violates the contract; the message says how."""


@dataclass(frozen=True)
class Trial:
    """A score under test.

    Attributes:
        score: the score.
    """

    score: Score

    def scores(
        self, engine: Engine, batch: TokenBatch, prepare: Prepare | None = None
    ) -> ScoreValues:
        """The score of every head, from copies of the model's activations.

        Args:
            engine: runs the model.
            batch: the inputs.
            prepare: copies and changes the heads. Default: copies them unchanged.

        Returns:
            ``(input, layer, head)``, float64.

        Raises:
            Failed: as in `__call__`.
        """
        found = self.visit(engine, batch, lambda heads: self((prepare or copied)(heads)))
        return torch.stack(found, dim=1).double()

    def visit(
        self, engine: Engine, batch: TokenBatch, see: Callable[[HeadActivations], PerHead]
    ) -> list[PerHead]:
        """Runs the model and returns the result of ``see`` for each layer.

        Args:
            engine: runs the model.
            batch: the inputs.
            see: a function of a layer's heads.

        Returns:
            ``(batch, head)`` for each layer, in order.
        """
        found: list[PerHead] = []
        engine.run(batch, lambda heads: found.append(see(heads)))
        return found

    def __call__(self, heads: HeadActivations) -> PerHead:
        """The score of a layer's heads.

        Raises:
            Failed: the score raises an error, or returns something other than a floating-point
                tensor of finite numbers of shape ``(batch, head)``; ratios may be NaN.
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
        """The score of a layer's heads, finite or not.

        Args:
            heads: one layer's heads.

        Returns:
            ``(batch, head)``, of any floating-point dtype.

        Raises:
            Failed: the score raises an error, or returns something other than a floating-point
                tensor of that shape.
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
        """What the function returns; its errors become `Failed`."""
        try:
            return self.score.function(heads)
        except UserError as error:
            raise Failed(str(error)) from error
        except Exception as error:
            raise Failed(f"it raises {type(error).__name__}: {error}") from error


def copied(heads: HeadActivations) -> HeadActivations:
    """A copy of the heads; writing into its tensors does not change the model or other scores.

    Args:
        heads: one layer's heads.

    Returns:
        The heads with cloned tensors and no cached scores.
    """
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


def with_stored_pattern(heads: HeadActivations) -> HeadActivations:
    """A copy of the heads whose attention statistics are computed from a stored pattern.

    Args:
        heads: one layer's heads.

    Returns:
        The copy, with the pattern in ``attention.weights``.
    """
    own = copied(heads)
    return replace(own, attention=PatternStatistics(own.batch, heads.pattern.clone()))


def with_activations(
    heads: HeadActivations, values: KeyValueVectors, outputs: HeadVectors, pattern: Pattern
) -> HeadActivations:
    """The heads with other value vectors, outputs and attention weights.

    Args:
        heads: one layer's heads.
        values: ``(batch, pos, kv_head, d_head)``.
        outputs: ``(batch, pos, head, d_head)``.
        pattern: ``(batch, head, query, key)``.

    Returns:
        The heads, with no cached scores.
    """
    attention = PatternStatistics(heads.batch, pattern)
    return replace(heads, values=values, outputs=outputs, attention=attention, scored={})


@contextmanager
def one_thread_without_warnings() -> Iterator[None]:
    """Runs torch on one thread and hides warnings.

    On tiny models, more threads only wait for each other. The check itself reports what torch
    warns about, such as the standard deviation of a single number.

    Yields:
        Nothing; the former number of threads is restored at the end.
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
    """A batch of one input, with padding on either or both sides.

    Args:
        sample: token ids.
        left: number of padding tokens before the input.
        right: number of padding tokens after it.

    Returns:
        The batch, ``(1, pos)``.
    """
    tokens = torch.tensor([[0] * left + [*sample] + [0] * right])
    positions = torch.arange(tokens.shape[1])[None]
    return TokenBatch(tokens, (positions >= left) & (positions < left + len(sample)))


def _copied_batch(batch: TokenBatch) -> TokenBatch:
    return TokenBatch(batch.tokens.clone(), batch.mask.clone(), batch.rows)
