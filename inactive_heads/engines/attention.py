"""Attention outputs and exact attention statistics without holding the pattern.

For a plain causal softmax, with s_ij = scale · q_i·k_j and lse_i = logsumexp_j s_ij:

- A[i, 0] = exp(s_i0 - lse_i);
- entropy_i = lse_i - scale · q_i·(sum_j A_ij k_j), where the sum is attention with the keys as
  values.

Flash attention returns z and lse. The weight of the first token then costs one product with one
key, and the entropy costs attention with other values: a second call, or, if it is known to be
needed, the same call with values twice as wide. Subtracting k_0 from every key does not change a
softmax. The entropy is computed from keys shifted in this way; otherwise heads that attend almost
wholly to the first token would lose digits to cancellation.

Any other softmax (a sliding window, left padding, soft-capped logits, biases, learned sinks) is
computed directly, in float32, one block of queries at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from inactive_heads.core.activations import AttentionStatistics
from inactive_heads.core.tensor_types import HeadPattern, HeadVectors, Pattern, PerRow, PerToken

Queries = Float[Tensor, "batch head query d_key"]
Keys = Float[Tensor, "batch kv_head key d_key"]
Values = Float[Tensor, "batch kv_head key d_head"]
AttentionMask = Bool[Tensor, "_ _ query key"] | Float[Tensor, "_ _ query key"]

BLOCK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Bytes of attention weights computed at a time: on a CPU, about what fits in its caches."""

MAX_WIDTH = 256
"""The widest query, key and value vectors that flash attention supports."""

GROUPED_ON_CPU = torch.__version__ >= "2.9"
"""Whether PyTorch's CPU kernel supports grouped-query attention (pytorch/pytorch#157893)."""


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """The inputs of one layer's attention, after rotary embedding and before the softmax.

    All tensors are on one device and, except for ``first`` and a boolean mask, in the model's dtype.
    Query heads that share a key/value head are adjacent.

    Attributes:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.
        scale: the factor on q·k.
        first: position of each input's first real token, ``(batch,)``; may be on another device.
        mask: true where a query may attend to a key, or numbers to add to the logits; None for a
            plain causal mask. Its first two axes are of size 1 or batch and head.
        softcap: logits become ``softcap · tanh(logits / softcap)``; None without.
        sinks: one logit per head that takes part in the softmax and belongs to no token; None
            without.
    """

    query: Queries = field(repr=False)
    key: Keys = field(repr=False)
    value: Values = field(repr=False)
    scale: float
    first: PerRow
    mask: AttentionMask | None = field(default=None, repr=False)
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = field(default=None, repr=False)

    @property
    def plain(self) -> bool:
        """Whether this is a plain causal softmax: no mask, soft cap or sinks."""
        return self.mask is None and self.softcap is None and self.sinks is None

    def of_head(self, head: int) -> AttentionInputs:
        """The inputs of one head, with the key/value head that it shares.

        Args:
            head: the query head's number in the layer.

        Returns:
            Views with one query head and one key/value head.
        """
        query_head = slice(head, head + 1)
        shared = head // (self.query.shape[1] // self.key.shape[1])
        kv_head = slice(shared, shared + 1)
        mask = self.mask
        return replace(
            self,
            query=self.query[:, query_head],
            key=self.key[:, kv_head],
            value=self.value[:, kv_head],
            mask=mask if mask is None or mask.shape[1] == 1 else mask[:, query_head],
            sinks=None if self.sinks is None else self.sinks[query_head],
        )


def attend(
    inputs: AttentionInputs, *, with_entropy: bool = False
) -> tuple[HeadVectors, AttentionStatistics]:
    """The head outputs z, and statistics of the attention weights.

    Args:
        inputs: the inputs of the layer's attention.
        with_entropy: compute the entropy along with z, which is cheaper than computing each by
            itself. Set it if the entropy will be needed.

    Returns:
        z, ``(batch, pos, head, d_head)``, in the dtype of the queries, and the statistics, each
        computed when it is called for.
    """
    if inputs.plain:
        if with_entropy and (both := _flash_with_entropy(inputs)) is not None:
            return both
        output = flash_attention(inputs.query, inputs.key, inputs.value, inputs.scale)
        if output is not None:
            z, lse = output
            return z, SoftmaxStatistics(
                inputs,
                first_weight=partial(_flash_first_weight, inputs, lse),
                entropies=partial(_flash_entropy, inputs),
            )
    return _block_attention(inputs)


def flash_attention(
    query: Queries, key: Keys, value: Values, scale: float, *, causal: bool = True
) -> tuple[HeadVectors, PerToken] | None:
    """Plain attention by a fused kernel, with the logsumexp of the logits.

    The kernels are those behind PyTorch's ``scaled_dot_product_attention``, so z is bit for bit what
    the model computes by itself. They are called directly because that function does not return the
    logsumexp.

    Args:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.
        scale: the factor on q·k.
        causal: whether query i attends to keys 0 to i; otherwise to every key.

    Returns:
        z, ``(batch, pos, head, d_head)``, in the dtype of the queries, and the logsumexp,
        ``(batch, pos, head)``, float32, in nats. None if PyTorch has no kernel for these inputs.
    """
    ops, device = torch.ops.aten, query.device.type
    if device == "cpu" and query.shape[-1] == value.shape[-1]:
        if not GROUPED_ON_CPU:
            key, value = _repeat_kv_heads(query, key, value)
        kernel = ops._scaled_dot_product_flash_attention_for_cpu
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)
    elif device == "cuda" and _supports(
        torch.backends.cuda.can_use_flash_attention, query, key, value, causal
    ):
        kernel = ops._scaled_dot_product_flash_attention
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)[:2]
    elif device == "cuda":
        key, value = _repeat_kv_heads(query, key, value)
        can_use = torch.backends.cuda.can_use_efficient_attention
        if not _supports(can_use, query, key, value, causal):
            return None
        kernel = ops._scaled_dot_product_efficient_attention
        z, lse = kernel(query, key, value, None, True, 0.0, causal, scale=scale)[:2]
    else:
        return None
    lse = lse[..., : query.shape[2]].float()  # some kernels pad it
    return rearrange(z, "b head pos d -> b pos head d"), rearrange(lse, "b head pos -> b pos head")


@dataclass(frozen=True, eq=False)
class SoftmaxStatistics:
    """Attention statistics computed on demand, from the inputs or from what computing z left.

    Nothing is cached: each call computes its statistic again. Statistics are float32. Queries that
    are padding have undefined, finite statistics.

    Attributes:
        inputs: the inputs of the layer's attention.
        first_weight: returns the weight of each input's first real token, ``(batch, pos, head)``.
        entropies: returns the entropies, ``(batch, pos, head)``, in nats.
    """

    inputs: AttentionInputs
    first_weight: Callable[[], PerToken]
    entropies: Callable[[], PerToken]

    def pattern(self) -> Pattern:
        """The attention weights after the softmax, which no other statistic here needs.

        Returns:
            ``(batch, head, query, key)``, float32. With sinks, rows sum to less than 1.
        """
        return _pattern(self.inputs)

    def pattern_of(self, head: int) -> HeadPattern:
        """The attention weights of one head, computed from its own queries and keys.

        Args:
            head: the query head's number in the layer.

        Returns:
            ``(batch, query, key)``, float32.
        """
        return rearrange(
            _pattern(self.inputs.of_head(head)), "batch 1 query key -> batch query key"
        )

    def first_token_weight(self) -> PerToken:
        """The weight that every query gives to its input's first real token.

        Returns:
            ``(batch, pos, head)``, float32.
        """
        return self.first_weight()

    def entropy(self) -> PerToken:
        """The entropy of every query's weights; a sink's weight is left out.

        Returns:
            ``(batch, pos, head)``, float32, in nats.
        """
        return self.entropies()


def _pattern(inputs: AttentionInputs) -> Pattern:
    batch, heads, length, _ = inputs.query.shape
    n_keys = inputs.key.shape[2]
    pattern = torch.zeros(batch, heads, length, n_keys, device=inputs.query.device)
    for queries, keys, weights in _blocks(inputs):
        pattern[:, :, queries, keys] = weights
    return pattern


def _flash_first_weight(inputs: AttentionInputs, lse: PerToken) -> PerToken:
    """exp(s_i0 - lse_i). Without left padding the first token is at position 0."""
    group = inputs.query.shape[1] // inputs.key.shape[1]
    first = repeat(inputs.key[:, :, :1].float(), "b kv 1 d -> b 1 (kv group) d", group=group)
    return torch.exp(inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), first) - lse)


def _flash_entropy(inputs: AttentionInputs) -> PerToken:
    """The entropy by a second call, with the shifted keys as values.

    In half precision the shift rounds the logits once more, as q and k were rounded: a real model's
    mean entropies move by 0.04% (median), one near 0.001 by up to 3%.
    """
    # The kernel is faster if each head's vectors are contiguous than if heads are interleaved.
    shifted = (inputs.key - inputs.key[:, :, :1]).contiguous()
    output = flash_attention(inputs.query.contiguous(), shifted, shifted, inputs.scale)
    assert output is not None, "the kernel that gave z takes keys as values too"
    return _entropy_from(inputs, *output)


def _entropy_from(inputs: AttentionInputs, mean_key: HeadVectors, lse: PerToken) -> PerToken:
    """Log Σ_j exp(s'_ij) minus the mean of s'_ij under A, where s' are the shifted keys' logits."""
    mean_logit = inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), mean_key.float())
    return (lse - mean_logit).clamp(min=0)


def _by_position(query: Queries) -> HeadVectors:
    return rearrange(query, "b head pos d -> b pos head d").float()


def _flash_with_entropy(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics] | None:
    """z and both statistics from one call; None if PyTorch has no kernel of twice the width.

    The shifted keys are appended to the values, which doubles the width. The same width in queries
    and keys is used for what the shift by k_0 loses to rounding: q·k'_j = [q, q]·[k', residual of
    k']. In float32 that residual is 0.
    """
    key, width = inputs.key, inputs.value.shape[-1]
    if key.shape[-1] != width or width > MAX_WIDTH // 2:
        return None
    exact = key.float() - key[:, :, :1].float()
    shifted = exact.to(key.dtype)
    residual = (exact - shifted.float()).to(key.dtype)
    output = flash_attention(
        torch.cat([inputs.query, inputs.query], dim=-1),
        torch.cat([shifted, residual], dim=-1),
        torch.cat([inputs.value, shifted], dim=-1),
        inputs.scale,
    )
    if output is None:
        return None
    z_and_mean_key, lse = output
    z, mean_key = z_and_mean_key.split(width, dim=-1)
    return z, SoftmaxStatistics(
        inputs,
        first_weight=lambda: torch.exp(-lse),  # the first token's shifted logit is 0
        entropies=partial(_entropy_from, inputs, mean_key, lse),
    )


class _Block(NamedTuple):
    """Attention weights (float32) of a range of queries over the range of keys visible to them."""

    queries: slice
    keys: slice
    weights: Pattern


def _block_attention(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics]:
    """z and the first token's weight, from one pass over blocks of queries."""
    query, value = inputs.query, inputs.value.float()
    batch, heads, length, _ = query.shape
    z = query.new_empty(batch, length, heads, value.shape[-1])
    first_weight = torch.zeros(batch, length, heads, device=query.device)
    rows, first = torch.arange(batch, device=query.device), inputs.first.to(query.device)
    for queries, keys, weights in _blocks(inputs):
        grouped = _split_groups(weights, value.shape[1])
        summed = einsum(grouped, value[:, :, keys], "b kv group q k, b kv k d -> b q kv group d")
        z[:, queries] = rearrange(summed, "b q kv group d -> b q (kv group) d")
        visible = (first >= keys.start) & (first < keys.stop)
        index = torch.where(visible, first - keys.start, 0)
        weight = rearrange(weights[rows, :, :, index], "b head q -> b q head")
        first_weight[:, queries] = torch.where(visible[:, None, None], weight, 0)
    return z, SoftmaxStatistics(
        inputs, first_weight=lambda: first_weight, entropies=partial(_block_entropy, inputs)
    )


def _block_entropy(inputs: AttentionInputs) -> PerToken:
    entropies = [torch.special.entr(block.weights).sum(dim=-1) for block in _blocks(inputs)]
    return rearrange(torch.cat(entropies, dim=2), "b head q -> b q head")


def _blocks(inputs: AttentionInputs) -> Iterator[_Block]:
    key = inputs.key.float()
    batch, kv, n_keys, _ = key.shape
    _, heads, length, _ = inputs.query.shape
    query = _split_groups(inputs.query.float() * inputs.scale, kv)
    bytes_per_query = 4 * batch * heads * n_keys
    size = max(16, BLOCK_BYTES.get(key.device.type, 1 << 22) // bytes_per_query)
    for start in range(0, length, size):
        queries = slice(start, min(start + size, length))
        mask, keys = _visible(inputs, queries)
        logits = einsum(
            query[:, :, :, queries], key[:, :, keys], "b kv group q d, b kv k d -> b kv group q k"
        )
        logits = rearrange(logits, "b kv group q k -> b (kv group) q k")
        yield _Block(queries, keys, _softmax(logits, mask, inputs.softcap, inputs.sinks))


def _visible(inputs: AttentionInputs, queries: slice) -> tuple[AttentionMask, slice]:
    """The mask of these queries, cut to the range of keys that any of them may attend to."""
    if inputs.mask is None:
        positions = torch.arange(queries.stop, device=inputs.query.device)
        causal = positions[queries, None] >= positions
        return causal[None, None], slice(0, queries.stop)
    mask = inputs.mask[:, :, queries].to(inputs.query.device)
    if mask.dtype != torch.bool:
        return mask, slice(0, mask.shape[-1])
    visible = torch.nonzero(reduce(mask, "b head q k -> k", "any")).flatten().tolist()
    keys = slice(visible[0], visible[-1] + 1) if visible else slice(0, mask.shape[-1])
    return mask[..., keys], keys


def _softmax(
    logits: Pattern, mask: AttentionMask, softcap: float | None, sinks: Tensor | None
) -> Pattern:
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if mask.dtype == torch.bool:
        # Not -inf: a query that is padding may have no key at all, and must stay finite.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    else:
        logits = logits + mask
    if sinks is None:
        return torch.softmax(logits, dim=-1)
    batch, _, length, _ = logits.shape
    column = repeat(sinks.to(logits), "head -> b head q 1", b=batch, q=length)
    return torch.softmax(torch.cat([logits, column], dim=-1), dim=-1)[..., :-1]


def _split_groups(per_head: Tensor, kv: int) -> Tensor:
    """Splits the head axis into key/value heads and the query heads that share each."""
    return rearrange(per_head, "b (kv group) pos d -> b kv group pos d", kv=kv)


def _repeat_kv_heads(query: Queries, key: Keys, value: Values) -> tuple[Tensor, Tensor]:
    """Keys and values, repeated for the query heads that share them."""
    group = query.shape[1] // key.shape[1]
    if group == 1:
        return key, value
    repeated = "b kv pos d -> b (kv group) pos d"
    return repeat(key, repeated, group=group), repeat(value, repeated, group=group)


def _supports(kernel: object, query: Queries, key: Keys, value: Values, causal: bool) -> bool:
    """Whether a CUDA kernel supports these tensors, by PyTorch's own rules."""
    grouped = query.shape[1] != key.shape[1]
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, causal, grouped)
    return query.shape[-1] % 8 == 0 and kernel(params)  # type: ignore[operator]
