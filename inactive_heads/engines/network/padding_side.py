"""Padding on the left is moved to the right for a run, and what a visitor sees is moved back.

In a causal model no real token reads what stands after it. Before it, only attention is told what is
padding: positions learned by place, convolutions and recurrent states are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import AttentionStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadPattern, Pattern, PerToken, TokenMask
from inactive_heads.engines.base import Silence, Visitor

Places = Int[Tensor, "batch pos"]
"""Where each position of a layout stands in another."""


def padded_right(
    batch: TokenBatch, visitor: Visitor | None, keep: TokenMask
) -> tuple[TokenBatch, Visitor | None, TokenMask]:
    """What to run in place of a batch that may have padding on the left.

    Args:
        batch: the inputs.
        visitor: sees heads in the layout of ``batch``.
        keep: ``(batch, pos)``, true at the tokens after which logits are wanted.

    Returns:
        The inputs with all padding on the right, a visitor that moves heads back for the given one,
        and ``keep`` moved; all three as they are if there is no padding on the left.
    """
    if not batch.padded_left:
        return batch, visitor, keep
    place, first = torch.arange(batch.mask.shape[1], device=batch.mask.device), batch.first[:, None]
    length = batch.mask.shape[1]
    there, back = (place + first) % length, (place - first) % length
    moved = TokenBatch(_moved(batch.tokens, there), _moved(batch.mask, there), batch.rows)
    seen = None if visitor is None else _MovedBack(visitor, batch, back)
    return moved, seen, _moved(keep, there.to(keep.device))


def _moved(per_position: Tensor, places: Places) -> Tensor:
    """``(batch, pos, ...)`` in another layout."""
    places = places.to(per_position.device)
    return per_position[torch.arange(len(places), device=places.device)[:, None], places]


@dataclass(eq=False)
class _MovedBack:
    """A visitor that sees heads in the layout of the batch as it was given."""

    visitor: Visitor
    batch: TokenBatch
    places: Places

    def __call__(self, heads: HeadActivations) -> Silence | None:
        return self.visitor(
            replace(
                heads,
                batch=self.batch,
                values=_moved(heads.values, self.places),
                outputs=_moved(heads.outputs, self.places),
                attention=_MovedStatistics(heads.attention, self.places),
                stream=lambda: _moved(heads.stream(), self.places),
            )
        )


@dataclass(frozen=True, eq=False)
class _MovedStatistics:
    statistics: AttentionStatistics
    places: Places

    def pattern(self) -> Pattern:
        by_query = _moved(self.statistics.pattern().transpose(1, 2), self.places).transpose(1, 2)
        by_key = _moved(by_query.movedim(3, 1), self.places)
        return by_key.movedim(1, 3)

    def pattern_of(self, head: int) -> HeadPattern:
        by_query = _moved(self.statistics.pattern_of(head), self.places)
        return _moved(by_query.mT, self.places).mT

    def first_token_weight(self) -> PerToken:
        return _moved(self.statistics.first_token_weight(), self.places)

    def entropy(self) -> PerToken:
        return _moved(self.statistics.entropy(), self.places)
