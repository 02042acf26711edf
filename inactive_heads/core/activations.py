"""What one layer's heads did on one batch: the only thing a score function sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from einops import einsum, rearrange, reduce, repeat

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import OutputPath, rooted_norm
from inactive_heads.core.tensor_types import (
    HeadPattern,
    HeadVectors,
    KeyValueVectors,
    Pattern,
    PerHead,
    PerRow,
    PerToken,
    Residual,
    ResultVectors,
)


@runtime_checkable
class AttentionStatistics(Protocol):
    """Where a layer's attention weights come from: a pattern, or something that needs none."""

    def pattern(self) -> Pattern: ...
    def pattern_of(self, head: int) -> HeadPattern: ...
    def first_token_weight(self) -> PerToken: ...
    def entropy(self) -> PerToken: ...


@dataclass(frozen=True, eq=False)
class PatternStatistics:
    """Attention statistics read off the whole pattern of a layer."""

    batch: TokenBatch
    weights: Pattern

    def pattern(self) -> Pattern:
        return self.weights.float()

    def pattern_of(self, head: int) -> HeadPattern:
        return self.weights[:, head].float()

    def first_token_weight(self) -> PerToken:
        rows = torch.arange(len(self.weights), device=self.weights.device)
        first = self.weights[rows, :, :, self.batch.first.to(self.weights.device)]
        return rearrange(first.float(), "batch head query -> batch query head")

    def entropy(self) -> PerToken:
        # Keys that are padding have weight 0 and add nothing: 0 log 0 = 0.
        terms = torch.special.entr(self.weights.float())
        return reduce(terms, "batch head query key -> batch query head", "sum")


@dataclass(eq=False)
class HeadActivations:
    """What the heads of one layer did on one batch of inputs.

    Everything is float32 and per query head: with grouped-query attention, ``v`` and what
    comes of it is repeated for the heads of a group. Statistics are computed when first asked
    for and kept, so that scores share them. Values at padding are undefined: use
    `mean_over_tokens`, `at_first_token` and `at_last_token`, which never read them.

    Attributes:
        layer: which layer of the model.
        batch: the inputs, with the mask of real tokens.
        v: value vectors, ``(batch, pos, head, d_head)`` (``hook_v``).
        z: head outputs before W_O, ``(batch, pos, head, d_head)`` (``hook_z``).
        result: head outputs after W_O, ``(batch, pos, head, d_model)`` (``hook_result``); as
            large as ``n_heads`` residual streams: `result_norm` is there without it.
        residual: the residual stream that the layer's output is added to, ``(batch, pos,
            d_model)`` (``hook_resid_pre``).
        path: W_O, and what else lies between z and the residual stream.
        scored: what scores have been computed on these heads, so that others share them.
        pattern: attention weights, ``(batch, head, query, key)`` (``hook_pattern``).
    """

    layer: int
    batch: TokenBatch
    values: KeyValueVectors = field(repr=False)
    outputs: HeadVectors = field(repr=False)
    attention: AttentionStatistics = field(repr=False)
    path: OutputPath = field(repr=False)
    stream: Callable[[], Residual] = field(repr=False)
    scored: dict[object, PerHead] = field(default_factory=dict, repr=False)

    @property
    def n_heads(self) -> int:
        return self.outputs.shape[2]

    @cached_property
    def v(self) -> HeadVectors:
        group = self.n_heads // self.values.shape[2]
        return repeat(self.values.float(), "b pos kv d -> b pos (kv group) d", group=group)

    @cached_property
    def z(self) -> HeadVectors:
        return self.outputs.float()

    @cached_property
    def result(self) -> ResultVectors:
        weights = self.path.weights.float()
        return einsum(
            self.z, weights, "b pos head d_head, head d_head d_model -> b pos head d_model"
        )

    @cached_property
    def residual(self) -> Residual:
        return self.stream().to(self.outputs.device, torch.float32)

    @property
    def pattern(self) -> Pattern:
        return self.attention.pattern()

    def pattern_of(self, head: int) -> HeadPattern:
        """Attention weights of one head, ``(batch, query, key)``; no other head's are computed."""
        return self.attention.pattern_of(head)

    @cached_property
    def first_token_weight(self) -> PerToken:
        """Weight every query gives to the first token, ``A[i, 0]``."""
        return self.attention.first_token_weight()

    @cached_property
    def entropy(self) -> PerToken:
        """Entropy of every query's attention, in nats."""
        return self.attention.entropy()

    @property
    def entropy_asked(self) -> bool:
        """Whether anyone has asked for the entropy, the one statistic that costs much."""
        return "entropy" in vars(self)

    @cached_property
    def v_norm(self) -> PerToken:
        """L2 norm of every token's value vector."""
        norm = torch.linalg.vector_norm(self.values, dim=-1, dtype=torch.float32)
        group = self.n_heads // self.values.shape[2]
        return repeat(norm, "b pos kv -> b pos (kv group)", group=group)

    @cached_property
    def z_norm(self) -> PerToken:
        """L2 norm of every token's head output."""
        return torch.linalg.vector_norm(self.outputs, dim=-1, dtype=torch.float32)

    @cached_property
    def result_norm(self) -> PerToken:
        """L2 norm of every token's head output after W_O.

        By the root of the Gram matrix W_O W_Oᵀ: no vector of size d_model is formed.
        """
        return rooted_norm(self.z, self.path.root)

    @cached_property
    def written_norm(self) -> PerToken:
        """L2 norm of what each head adds to the residual stream at every token.

        `result_norm`, but for models that normalise attention's output first (Gemma 2 and 3,
        OLMo 2): there it is the head's part of what that norm gives.
        """
        if self.path.norm is None and self.path.multiplier == 1:
            return self.result_norm
        return self.path.written_scale(self._total) * rooted_norm(self.z, self.path.written_root)

    @cached_property
    def residual_norm(self) -> PerToken:
        """L2 norm of the residual stream that the heads add to, ``(batch, pos, 1)``."""
        norm = torch.linalg.vector_norm(self.stream(), dim=-1, keepdim=True, dtype=torch.float32)
        return norm.to(self.outputs.device)

    @cached_property
    def updated(self) -> Residual:
        """The residual stream with what all heads add to it, ``(batch, pos, d_model)``."""
        return self.residual + self.path.written(self._total)

    @cached_property
    def read_norm(self) -> PerToken:
        """How much of each head later layers read: ``|g w| / |x|`` at every token.

        w is what the head adds to the residual stream, x the stream with all heads, and g the
        gains (root mean square) of the norms through which layers read it from here on: of
        this block after its attention, and of all later ones.
        """
        return self.read_norm_of(self.z)

    def read_norm_of(self, z: HeadVectors) -> PerToken:
        """The `read_norm` of other head outputs, in the place of part of these.

        Of ``heads.z - mean``, how much is read of what a head's output differs from a mean.
        """
        scale = self.path.written_scale(self._total) * self.path.read_scale(self.updated)
        return scale * rooted_norm(z, self.path.read_root)

    @cached_property
    def _total(self) -> Residual:
        return self.path.total(self.z)

    def mean_over_tokens(self, values: PerToken) -> PerHead:
        """Mean of a per-token quantity over each input's real tokens, ``(batch, head)``."""
        if self.batch.unpadded:
            return reduce(values, "batch pos head -> batch head", "mean")
        # where, not a product: padding may hold NaN, and NaN * 0 is NaN.
        real = torch.where(self.batch.mask.to(values.device)[:, :, None], values, 0)
        total = reduce(real, "batch pos head -> batch head", "sum")
        return total / self.batch.n_tokens.to(values.device)[:, None]

    def at_first_token(self, values: PerToken) -> PerHead:
        """A per-token quantity at each input's first token, ``(batch, head)``."""
        return self._at(values, self.batch.first)

    def at_last_token(self, values: PerToken) -> PerHead:
        """A per-token quantity at each input's last token, ``(batch, head)``."""
        return self._at(values, self.batch.last)

    @staticmethod
    def _at(values: PerToken, positions: PerRow) -> PerHead:
        positions = positions.to(values.device)
        return values[torch.arange(len(values), device=values.device), positions]
