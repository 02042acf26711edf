"""Attention outputs and exact attention statistics without holding the pattern.

For a plain causal softmax, with s_ij = scale · q_i·k_j and lse_i = logsumexp_j s_ij:

- A[i, 0] = exp(s_i0 - lse_i);
- entropy_i = lse_i - scale · q_i·(sum_j A_ij k_j), where the sum is attention with the keys as
  values.

Flash attention returns z and lse, so the weight of the first token costs one product with one
key, and the entropy attention with other values: a call of its own, or, where it is known to be
asked, the same call with values twice as wide. A softmax does not change when k_0 is subtracted
from every key; what the entropy comes from is computed so, or heads that look almost wholly at
the first token would lose their digits to cancellation.

Every other softmax (a sliding window, left padding, soft-capped logits, biases, learned sinks)
is computed as it is written, in float32, for a block of queries at a time.
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
"""Attention weights computed at a time: on a CPU, about what its caches hold."""

WIDEST = 256
"""The longest rows that flash attention takes."""

GROUPED_ON_CPU = torch.__version__ >= "2.9"
"""Whether PyTorch's CPU kernel takes fewer key than query heads (pytorch/pytorch#157893)."""


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """What one layer's attention is made of, after rotary embedding and before the softmax.

    Attributes:
        mask: true where a query may see a key, or what is added to the logits; None for a
            plain causal mask.
        softcap: logits become ``softcap · tanh(logits / softcap)``.
        sinks: one logit per head that takes part in the softmax and belongs to no token.
        first: position of each input's first real token.
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
        """Whether this is a causal softmax of the logits and nothing else."""
        return self.mask is None and self.softcap is None and self.sinks is None

    def of_head(self, head: int) -> AttentionInputs:
        """The same of one head alone, with the key/value head that it shares."""
        only = slice(head, head + 1)
        shared = head // (self.query.shape[1] // self.key.shape[1])
        group = slice(shared, shared + 1)
        mask = self.mask
        return replace(
            self,
            query=self.query[:, only],
            key=self.key[:, group],
            value=self.value[:, group],
            mask=mask if mask is None or mask.shape[1] == 1 else mask[:, only],
            sinks=None if self.sinks is None else self.sinks[only],
        )


def attend(
    inputs: AttentionInputs, *, with_entropy: bool = False
) -> tuple[HeadVectors, AttentionStatistics]:
    """The heads' outputs z, and the statistics of their attention weights, computed when asked.

    Where it is known that the entropy will be asked for, ``with_entropy`` computes it along
    with z, which costs less than a call for each.
    """
    if inputs.plain:
        if with_entropy and (both := _flash_with_entropy(inputs)) is not None:
            return both
        found = flash_attention(inputs.query, inputs.key, inputs.value, inputs.scale)
        if found is not None:
            z, lse = found
            return z, SoftmaxStatistics(
                inputs,
                first_weight=partial(_flash_first_weight, inputs, lse),
                entropies=partial(_flash_entropy, inputs),
            )
    return _block_attention(inputs)


def flash_attention(
    query: Queries, key: Keys, value: Values, scale: float, *, causal: bool = True
) -> tuple[HeadVectors, PerToken] | None:
    """Plain attention: z ``(batch, pos, head, d_head)`` and the logsumexp, float32.

    None where PyTorch has no such kernel. Not ``causal``, every query sees every key. The kernels
    are those behind PyTorch's ``scaled_dot_product_attention``, so z is what the model computes
    without us, to the bit; they are called by their own names because it does not hand out the
    logsumexp.
    """
    ops, device = torch.ops.aten, query.device.type
    if device == "cpu" and query.shape[-1] == value.shape[-1]:
        if not GROUPED_ON_CPU:
            key, value = _ungrouped(query, key, value)
        kernel = ops._scaled_dot_product_flash_attention_for_cpu
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)
    elif device == "cuda" and _takes(
        torch.backends.cuda.can_use_flash_attention, query, key, value, causal
    ):
        kernel = ops._scaled_dot_product_flash_attention
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)[:2]
    elif device == "cuda":
        key, value = _ungrouped(query, key, value)
        if not _takes(torch.backends.cuda.can_use_efficient_attention, query, key, value, causal):
            return None
        kernel = ops._scaled_dot_product_efficient_attention
        z, lse = kernel(query, key, value, None, True, 0.0, causal, scale=scale)[:2]
    else:
        return None
    lse = lse[..., : query.shape[2]].float()  # some kernels pad it
    return rearrange(z, "b head pos d -> b pos head d"), rearrange(lse, "b head pos -> b pos head")


@dataclass(frozen=True, eq=False)
class SoftmaxStatistics:
    """Statistics of a softmax, each computed when asked for by what the route to it leaves."""

    inputs: AttentionInputs
    first_weight: Callable[[], PerToken]
    entropies: Callable[[], PerToken]

    def pattern(self) -> Pattern:
        """The whole pattern, which nothing else here needs."""
        return _pattern(self.inputs)

    def pattern_of(self, head: int) -> HeadPattern:
        """One head's pattern, from its own queries and keys."""
        return rearrange(
            _pattern(self.inputs.of_head(head)), "batch 1 query key -> batch query key"
        )

    def first_token_weight(self) -> PerToken:
        """Weight of each input's first real token."""
        return self.first_weight()

    def entropy(self) -> PerToken:
        """Entropy of the weights of the keys; a sink's share is not among them."""
        return self.entropies()


def _pattern(inputs: AttentionInputs) -> Pattern:
    batch, heads, length, _ = inputs.query.shape
    n_keys = inputs.key.shape[2]
    pattern = torch.zeros(batch, heads, length, n_keys, device=inputs.query.device)
    for queries, keys, weights in _blocks(inputs):
        pattern[:, :, queries, keys] = weights
    return pattern


def _flash_first_weight(inputs: AttentionInputs, lse: PerToken) -> PerToken:
    """exp(s_i0 - lse_i); the first token of a plain softmax stands at position 0."""
    group = inputs.query.shape[1] // inputs.key.shape[1]
    first = repeat(inputs.key[:, :, :1].float(), "b kv 1 d -> b 1 (kv group) d", group=group)
    return torch.exp(inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), first) - lse)


def _flash_entropy(inputs: AttentionInputs) -> PerToken:
    """The entropy by a call of its own, with the shifted keys as values.

    In half precision the shift rounds the logits once more, as q and k were rounded: a mean
    entropy of a real model moves by 0.04% (median), one near 0.001 by up to 3%.
    """
    # The kernel reads rows of a head side by side faster than those of heads interleaved.
    shifted = (inputs.key - inputs.key[:, :, :1]).contiguous()
    found = flash_attention(inputs.query.contiguous(), shifted, shifted, inputs.scale)
    assert found is not None, "the kernel that gave z takes keys as values too"
    return _entropy_from(inputs, *found)


def _entropy_from(inputs: AttentionInputs, mean_key: HeadVectors, lse: PerToken) -> PerToken:
    """Log Σ_j exp(s'_ij) minus the mean of s'_ij, with s' the logits of the shifted keys."""
    mean_logit = inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), mean_key.float())
    return (lse - mean_logit).clamp(min=0)


def _by_position(query: Queries) -> HeadVectors:
    return rearrange(query, "b head pos d -> b pos head d").float()


def _flash_with_entropy(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics] | None:
    """z and both statistics from one call; None where PyTorch has no kernel that wide.

    The keys are attended as values beside the values, so that rows are twice as wide; the
    width that this gives queries and keys holds what the shift by k_0 loses to rounding:
    q·k'_j = [q, q]·[k', what k' rounded away]. In float32 that rest is 0.
    """
    key, width = inputs.key, inputs.value.shape[-1]
    if key.shape[-1] != width or width > WIDEST // 2:
        return None
    exact = key.float() - key[:, :, :1].float()
    shifted = exact.to(key.dtype)
    rest = (exact - shifted.float()).to(key.dtype)
    found = flash_attention(
        torch.cat([inputs.query, inputs.query], dim=-1),
        torch.cat([shifted, rest], dim=-1),
        torch.cat([inputs.value, shifted], dim=-1),
        inputs.scale,
    )
    if found is None:
        return None
    outputs, lse = found
    z, mean_key = outputs.split(width, dim=-1)
    return z, SoftmaxStatistics(
        inputs,
        first_weight=lambda: torch.exp(-lse),  # the first token's shifted logit is 0
        entropies=partial(_entropy_from, inputs, mean_key, lse),
    )


class _Block(NamedTuple):
    """Weights (float32) between some queries and the range of keys that they may see."""

    queries: slice
    keys: slice
    weights: Pattern


def _block_attention(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics]:
    """The outputs and the weight of the first token, from one pass over the blocks."""
    query, value = inputs.query, inputs.value.float()
    batch, heads, length, _ = query.shape
    z = query.new_empty(batch, length, heads, value.shape[-1])
    first_weight = torch.zeros(batch, length, heads, device=query.device)
    rows, first = torch.arange(batch, device=query.device), inputs.first.to(query.device)
    for queries, keys, weights in _blocks(inputs):
        grouped = _grouped(weights, value.shape[1])
        summed = einsum(grouped, value[:, :, keys], "b kv group q k, b kv k d -> b q kv group d")
        z[:, queries] = rearrange(summed, "b q kv group d -> b q (kv group) d")
        visible = (first >= keys.start) & (first < keys.stop)
        place = torch.where(visible, first - keys.start, 0)
        seen = rearrange(weights[rows, :, :, place], "b head q -> b q head")
        first_weight[:, queries] = torch.where(visible[:, None, None], seen, 0)
    return z, SoftmaxStatistics(
        inputs, first_weight=lambda: first_weight, entropies=partial(_block_entropy, inputs)
    )


def _block_entropy(inputs: AttentionInputs) -> PerToken:
    parts = [torch.special.entr(block.weights).sum(dim=-1) for block in _blocks(inputs)]
    return rearrange(torch.cat(parts, dim=2), "b head q -> b q head")


def _blocks(inputs: AttentionInputs) -> Iterator[_Block]:
    key = inputs.key.float()
    batch, kv, n_keys, _ = key.shape
    _, heads, length, _ = inputs.query.shape
    query = _grouped(inputs.query.float() * inputs.scale, kv)
    bytes_per_query = 4 * batch * heads * n_keys
    size = max(16, BLOCK_BYTES.get(key.device.type, 1 << 22) // bytes_per_query)
    for start in range(0, length, size):
        queries = slice(start, min(start + size, length))
        allowed, keys = _visible(inputs, queries)
        logits = einsum(
            query[:, :, :, queries], key[:, :, keys], "b kv group q d, b kv k d -> b kv group q k"
        )
        logits = rearrange(logits, "b kv group q k -> b (kv group) q k")
        yield _Block(queries, keys, _softmax(logits, allowed, inputs.softcap, inputs.sinks))


def _visible(inputs: AttentionInputs, queries: slice) -> tuple[AttentionMask, slice]:
    """The mask of these queries, and the range of keys that any of them may see."""
    if inputs.mask is None:
        positions = torch.arange(queries.stop, device=inputs.query.device)
        causal = positions[queries, None] >= positions
        return causal[None, None], slice(0, queries.stop)
    allowed = inputs.mask[:, :, queries].to(inputs.query.device)
    if allowed.dtype != torch.bool:
        return allowed, slice(0, allowed.shape[-1])
    seen = torch.nonzero(reduce(allowed, "b head q k -> k", "any")).flatten().tolist()
    keys = slice(seen[0], seen[-1] + 1) if seen else slice(0, allowed.shape[-1])
    return allowed[..., keys], keys


def _softmax(
    logits: Pattern, allowed: AttentionMask, softcap: float | None, sinks: Tensor | None
) -> Pattern:
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if allowed.dtype == torch.bool:
        # Not -inf: a query that is padding may see no key at all, and must stay finite.
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    else:
        logits = logits + allowed
    if sinks is None:
        return torch.softmax(logits, dim=-1)
    batch, _, length, _ = logits.shape
    column = repeat(sinks.to(logits), "head -> b head q 1", b=batch, q=length)
    return torch.softmax(torch.cat([logits, column], dim=-1), dim=-1)[..., :-1]


def _grouped(per_head: Tensor, kv: int) -> Tensor:
    """The heads that share a key/value head, as an axis of their own."""
    return rearrange(per_head, "b (kv group) pos d -> b kv group pos d", kv=kv)


def _ungrouped(query: Queries, key: Keys, value: Values) -> tuple[Tensor, Tensor]:
    """Keys and values repeated for the heads of a group."""
    group = query.shape[1] // key.shape[1]
    if group == 1:
        return key, value
    repeated = "b kv pos d -> b (kv group) pos d"
    return repeat(key, repeated, group=group), repeat(value, repeated, group=group)


def _takes(kernel: object, query: Queries, key: Keys, value: Values, causal: bool) -> bool:
    """Whether a CUDA kernel takes these tensors, by PyTorch's own rules."""
    grouped = query.shape[1] != key.shape[1]
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, causal, grouped)
    return query.shape[-1] % 8 == 0 and kernel(params)  # type: ignore[operator]
