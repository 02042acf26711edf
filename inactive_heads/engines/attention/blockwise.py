"""Attention with any softmax, computed directly in float32, one block of queries at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from inactive_heads.core.tensor_types import HeadPattern, HeadVectors, Pattern, PerToken
from inactive_heads.engines.attention.inputs import AttentionInputs, AttentionMask
from inactive_heads.engines.attention.selected import for_every_head

BLOCK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Bytes of attention weights computed at a time: on a CPU, about what fits in its caches."""


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


class _Block(NamedTuple):
    """Attention weights (float32) of a range of queries over the range of keys visible to them."""

    queries: slice
    keys: slice
    weights: Pattern


def block_attention(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics]:
    """The head outputs z, and statistics of the attention weights, for any kind of softmax.

    z and the weight of the first token come from one pass over blocks of queries. The entropy and
    the pattern take a second pass, if they are asked for.

    Args:
        inputs: the inputs of the layer's attention.

    Returns:
        z, ``(batch, pos, head, d_head)``, computed in float32 and stored in the dtype of the
        queries, and the statistics.
    """
    query, value = inputs.query, inputs.value.float()
    batch, heads, length, _ = query.shape
    z = query.new_empty(batch, length, heads, value.shape[-1])
    first_weight = torch.empty(batch, length, heads, device=query.device)
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
        if inputs.softcap is not None:
            logits = inputs.softcap * torch.tanh(logits / inputs.softcap)
        if inputs.bias is not None:
            logits = logits + inputs.bias[:, :, queries, keys].to(logits)
        yield _Block(queries, keys, _softmax(logits, mask, _sinks(inputs, queries)))


def _visible(inputs: AttentionInputs, queries: slice) -> tuple[AttentionMask, slice]:
    """The mask of these queries, cut to the range of keys that any of them may attend to."""
    if inputs.mask is None:
        positions = torch.arange(queries.stop, device=inputs.query.device)
        causal = positions[queries, None] >= positions
        return causal[None, None], slice(0, queries.stop)
    mask = for_every_head(inputs.mask[:, :, queries], inputs.query.shape[1])
    mask = mask.to(inputs.query.device)
    if mask.dtype != torch.bool:
        return mask, slice(0, mask.shape[-1])
    visible = torch.nonzero(reduce(mask, "b head q k -> k", "any")).flatten().tolist()
    keys = slice(visible[0], visible[-1] + 1) if visible else slice(0, mask.shape[-1])
    return mask[..., keys], keys


def _sinks(inputs: AttentionInputs, queries: slice) -> Tensor | None:
    """The sinks of these queries, ``(batch, head, query, 1)`` or with axes of size 1."""
    if inputs.sinks is None or inputs.sinks.ndim == 4:
        return None if inputs.sinks is None else inputs.sinks[:, :, queries]
    return rearrange(inputs.sinks, "head -> 1 head 1 1")


def _softmax(logits: Pattern, mask: AttentionMask, sinks: Tensor | None) -> Pattern:
    if mask.dtype == torch.bool:
        # Not -inf: a query that is padding may have no key at all, and must stay finite.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    else:
        logits = logits + mask
    if sinks is None:
        return torch.softmax(logits, dim=-1)
    column = sinks.to(logits).expand(*logits.shape[:3], 1)
    return torch.softmax(torch.cat([logits, column], dim=-1), dim=-1)[..., :-1]


def _split_groups(per_head: Tensor, kv: int) -> Tensor:
    """Splits the head axis into key/value heads and the query heads that share each."""
    return rearrange(per_head, "b (kv group) pos d -> b kv group pos d", kv=kv)
