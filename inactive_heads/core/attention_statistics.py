"""Statistics of a layer's attention weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange, reduce

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadPattern, Pattern, PerToken


@runtime_checkable
class AttentionStatistics(Protocol):
    """Statistics of one layer's attention weights, computed with or without the whole pattern.

    Everything is float32 and per query head. Rows of queries that are padding are undefined; keys
    that are padding have weight 0 for real queries.
    """

    def pattern(self) -> Pattern:
        """The attention weights after the softmax.

        Returns:
            ``(batch, head, query, key)``, float32. Rows sum to 1, or to less with attention sinks
            that are no tokens.
        """
        ...

    def pattern_of(self, head: int) -> HeadPattern:
        """The attention weights of one head.

        Args:
            head: the query head's number in the layer.

        Returns:
            ``(batch, query, key)``, float32.
        """
        ...

    def first_token_weight(self) -> PerToken:
        """The weight that every query gives to its input's first real token, ``A[i, 0]``.

        Returns:
            ``(batch, query, head)``, float32, from 0 to 1.
        """
        ...

    def entropy(self) -> PerToken:
        """The entropy of every query's weights.

        Returns:
            ``(batch, query, head)``, float32, in nats.
        """
        ...


@dataclass(frozen=True, eq=False)
class PatternStatistics:
    """Attention statistics computed from the whole pattern of a layer.

    Real queries must have weight 0 at keys that are padding. Statistics are float32 for weights of
    any dtype.

    Attributes:
        batch: the inputs.
        weights: attention weights, ``(batch, head, query, key)``.
    """

    batch: TokenBatch
    weights: Pattern

    def pattern(self) -> Pattern:
        """The attention weights after the softmax.

        Returns:
            ``weights`` in float32, ``(batch, head, query, key)``.
        """
        return self.weights.float()

    def pattern_of(self, head: int) -> HeadPattern:
        """The attention weights of one head.

        Args:
            head: the query head's number in the layer.

        Returns:
            ``(batch, query, key)``, float32.
        """
        return self.weights[:, head].float()

    def first_token_weight(self) -> PerToken:
        """The weight that every query gives to its input's first real token, ``A[i, 0]``.

        Returns:
            ``(batch, query, head)``, float32.
        """
        rows = torch.arange(len(self.weights), device=self.weights.device)
        first = self.weights[rows, :, :, self.batch.first.to(self.weights.device)]
        return rearrange(first.float(), "batch head query -> batch query head")

    def entropy(self) -> PerToken:
        """The entropy of every query's weights.

        Returns:
            ``(batch, query, head)``, float32, in nats.
        """
        # Keys that are padding have weight 0 and contribute nothing: 0 log 0 = 0.
        terms = torch.special.entr(self.weights.float())
        return reduce(terms, "batch head query key -> batch query head", "sum")
