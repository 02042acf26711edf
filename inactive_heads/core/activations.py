"""`HeadActivations`, one layer's heads on one batch: all that a score function sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from einops import einsum, reduce, repeat
from jaxtyping import Float
from torch import Tensor

from inactive_heads.core.attention_statistics import AttentionStatistics
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


@dataclass(eq=False)
class HeadActivations:
    """The activations of one layer's heads on one batch of inputs.

    A visitor gets one for every layer. Its tensors are the model's own, so do not modify them.
    Access statistics during the visit; afterwards they may no longer be computable.

    These invariants hold:

    - Statistics are float32 for models of any dtype. Only ``values``, ``outputs``, ``stream()`` and
      ``path.weights`` keep the model's dtype.
    - Statistics are per query head. With grouped-query attention, ``v`` and ``v_norm`` are repeated
      for the query heads that share a key/value head.
    - Values at padding are undefined and may be NaN. `mean_over_tokens`, `at_first_token` and
      `at_last_token` never read them.
    - Activations already reflect the ablations in earlier layers, and not this layer's own.
    - Statistics are computed on first access and kept, so that scores share them, except for
      ``pattern``: each access computes or converts it again.

    Attributes:
        layer: the layer's number in the model.
        batch: the inputs, with the mask of real tokens.
        values: value vectors as the model computed them, ``(batch, pos, kv_head, d_head)``.
        outputs: head outputs as they enter W_O, ``(batch, pos, head, d_head)``: after any gate or
            norm that the model puts there.
        attention: where the attention statistics come from.
        path: W_O, and anything else between z and the residual stream.
        stream: returns the residual stream, ``(batch, pos, d_model)``, as the model computed it.
        scored: scores already computed on these heads, by score, for scores that build on them.
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
        """Number of query heads in the layer."""
        return self.outputs.shape[2]

    @cached_property
    def v(self) -> HeadVectors:
        """Value vectors, ``(batch, pos, head, d_head)``, float32 (``hook_v``)."""
        group = self.n_heads // self.values.shape[2]
        return repeat(self.values.float(), "b pos kv d -> b pos (kv group) d", group=group)

    @cached_property
    def z(self) -> HeadVectors:
        """Head outputs as they enter W_O, ``(batch, pos, head, d_head)``, float32 (``hook_z``).

        The sums of value vectors by attention weights, except in models that put a gate, a norm or
        a scale between attention and W_O: there, what comes out of it.
        """
        return self.outputs.float()

    @cached_property
    def result(self) -> ResultVectors:
        """Head outputs after W_O, ``(batch, pos, head, d_model)``, float32 (``hook_result``).

        As large as ``n_heads`` residual streams; `result_norm` gives the norms without it.
        """
        weights = self.path.weights.float()
        return einsum(
            self.z, weights, "b pos head d_head, head d_head d_model -> b pos head d_model"
        )

    @cached_property
    def residual(self) -> Residual:
        """The residual stream that the layer adds to, ``(batch, pos, d_model)``, float32.

        TransformerLens's ``hook_resid_pre``.
        """
        return self.stream().to(self.outputs.device, torch.float32)

    @property
    def pattern(self) -> Pattern:
        """Attention weights, ``(batch, head, query, key)``, float32 (``hook_pattern``).

        The largest tensor here; `first_token_weight`, `entropy` and `pattern_of` do without it.
        """
        return self.attention.pattern()

    def pattern_of(self, head: int) -> HeadPattern:
        """The attention weights of one head; no other head's are computed.

        Args:
            head: the query head's number in the layer.

        Returns:
            ``(batch, query, key)``, float32.
        """
        return self.attention.pattern_of(head)

    @cached_property
    def first_token_weight(self) -> PerToken:
        """Weight of every query for the first token, ``A[i, 0]``, as ``(batch, pos, head)``."""
        return self.attention.first_token_weight()

    @cached_property
    def entropy(self) -> PerToken:
        """Entropy of every query's attention weights, ``(batch, pos, head)``, in nats."""
        return self.attention.entropy()

    @property
    def entropy_asked(self) -> bool:
        """Whether `entropy`, the one expensive statistic, has been accessed."""
        return "entropy" in vars(self)

    @cached_property
    def v_norm(self) -> PerToken:
        """L2 norm of every token's value vector, ``(batch, pos, head)``."""
        norm = _norms(self.values)
        group = self.n_heads // self.values.shape[2]
        return repeat(norm, "b pos kv -> b pos (kv group)", group=group)

    @cached_property
    def z_norm(self) -> PerToken:
        """L2 norm of every token's head output z, ``(batch, pos, head)``."""
        return _norms(self.outputs)

    @cached_property
    def result_norm(self) -> PerToken:
        """L2 norm of every token's head output after W_O, ``(batch, pos, head)``.

        Computed with a root of the Gram matrix W_O W_Oᵀ, without any vector of size d_model.
        """
        return rooted_norm(self.z, self.path.root)

    @cached_property
    def written_norm(self) -> PerToken:
        """L2 norm of what each head adds to the residual stream, ``(batch, pos, head)``.

        Equal to `result_norm`, except in models that normalise the attention output first (Gemma 2
        and 3, OLMo 2), where it is the norm of the head's share of the normalised output, or
        multiply it (Granite).

        Raises:
            UserError: what the heads write is not known.
        """
        if self.path.adds_results:
            return self.result_norm
        scale = self.path.written_scale(self._total)
        return scale.abs() * rooted_norm(self.z, self.path.written_root)

    @cached_property
    def residual_norm(self) -> PerToken:
        """L2 norm of the residual stream that the heads add to, ``(batch, pos, 1)``, float32."""
        return _norms(self.stream())[..., None].to(self.outputs.device)

    @cached_property
    def updated(self) -> Residual:
        """The residual stream after all heads have added to it, ``(batch, pos, d_model)``."""
        return self.residual + self.path.written(self._total)

    @cached_property
    def read_norm(self) -> PerToken:
        """How much of each head later layers read, ``|g w| / |x|``, as ``(batch, pos, head)``.

        w is what the head adds to the residual stream, x the stream after all heads have added to
        it, and g the gains of the norms through which the stream is read from here on: those after
        attention in this block and those of all later blocks, combined by root mean square.

        Raises:
            UserError: what the heads write, or how later layers read it, is not known.
        """
        return self.read_norm_of(self.z)

    def read_norm_of(self, z: HeadVectors) -> PerToken:
        """The `read_norm` of other vectors in place of z, measured against the same stream.

            deviation = heads.read_norm_of(heads.z - mean)  # what is read of a deviation from it

        Args:
            z: vectors in the space of head outputs, ``(batch, pos, head, d_head)``, float32.

        Returns:
            ``(batch, pos, head)``, float32.

        Raises:
            UserError: as `read_norm`.
        """
        scale = self.path.written_scale(self._total) * self.path.read_scale(self.updated)
        return scale.abs() * rooted_norm(z, self.path.read_root)

    @cached_property
    def _total(self) -> Residual:
        """The attention output: all heads' results and b_O, before any norm."""
        return self.path.total(self.z)

    def is_finite(self, index: int) -> bool:
        """Whether an input's value vectors and head outputs, and W_O, are finite.

        Args:
            index: the input's place in the batch.

        Returns:
            False if W_O has NaN or infinity, or the others have it at a real token: the fault is
            the model's, and no score's.
        """
        real = self.batch.mask[index]
        both = [one[index][real.to(one.device)] for one in (self.values, self.outputs)]
        return all(bool(one.isfinite().all()) for one in (*both, self.path.weights))

    def mean_over_tokens(self, values: PerToken) -> PerHead:
        """The mean of a per-token quantity over each input's real tokens.

        Args:
            values: ``(batch, pos, head)``; at padding they may be NaN.

        Returns:
            ``(batch, head)``, in the unit of ``values``.
        """
        if self.batch.unpadded:
            return reduce(values, "batch pos head -> batch head", "mean")
        # torch.where rather than a product: padding may hold NaN, and NaN * 0 is NaN.
        real = torch.where(self.batch.mask.to(values.device)[:, :, None], values, 0)
        total = reduce(real, "batch pos head -> batch head", "sum")
        return total / self.batch.n_tokens.to(values.device)[:, None]

    def at_first_token(self, values: PerToken) -> PerHead:
        """A per-token quantity at each input's first real token.

        Args:
            values: ``(batch, pos, head)``.

        Returns:
            ``(batch, head)``, in the unit of ``values``.
        """
        return self._at(values, self.batch.first)

    def at_last_token(self, values: PerToken) -> PerHead:
        """A per-token quantity at each input's last real token.

        Args:
            values: ``(batch, pos, head)``.

        Returns:
            ``(batch, head)``, in the unit of ``values``.
        """
        return self._at(values, self.batch.last)

    @staticmethod
    def _at(values: PerToken, positions: PerRow) -> PerHead:
        positions = positions.to(values.device)
        return values[torch.arange(len(values), device=values.device), positions]


def _norms(vectors: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes"]:
    """L2 norms in float32, computed in float64 for vectors in float64."""
    wide = torch.promote_types(vectors.dtype, torch.float32)
    return torch.linalg.vector_norm(vectors, dim=-1, dtype=wide).float()
