"""Attention of a row of segments: each token sees its own segment's past and those above it.

Where the softmax is plain, no mask is formed and no key is copied for those that share it: the
flash kernel is called once for all segments of a length, causally within each, and once for
every segment with others below it, with the queries of all of them. Two softmaxes over
different keys, z with logsumexp l and z' with l', make that over both: s·z' + (1 - s)·z, where
s = e^l' / (e^l + e^l'). (Hydragen, arXiv 2402.05099, and FlashInfer's cascade attention.)

Any other softmax gets a mask. transformers describes one as a function of two positions, so
that a window is as wide here as in an input of its own.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.masking_utils import causal_mask_function

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention import AttentionInputs, attend, flash_attention
from inactive_heads.engines.base import SharingEngine
from inactive_heads.engines.prefix_tree import Row, Segment
from inactive_heads.errors import Notice, UserError

RowMask = Bool[Tensor, "1 1 query key"]
RowVectors = Float[Tensor, "1 head place d"]
Places = slice | Int[Tensor, "segment pos"]

ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3}
"""How far apart, as a share of their norm, logits computed in two correct ways may be."""

HALF_ROUNDING = 0.05
"""The same in half precision: 0.015 was seen in bfloat16, and 0.08 where something was wrong."""


class RowAttention:
    """Which keys each token of a row may see. The keys are those of ``before``, then the row's.

    Attributes:
        positions: of the row's tokens in the inputs that they belong to, ``(query,)``.
        kept: which keys the next row goes on from.
    """

    def __init__(self, row: Row, device: torch.device) -> None:
        self._row, self._segments = row, [*row.before, *row.segments]
        ends = list(accumulate(len(segment.tokens) for segment in self._segments))
        self._places = {
            segment: slice(end - len(segment.tokens), end)
            for segment, end in zip(self._segments, ends, strict=True)
        }
        self._n_before = ends[-1] - len(row.tokens)
        self._key_positions = _joined(
            [range(segment.start, segment.stop) for segment in self._segments], device
        )
        self.positions = self._key_positions[self._n_before :]
        places = [self._places[segment] for segment in row.after]
        self.kept = _joined([range(place.start, place.stop) for place in places], device)
        self._own = self._own_queries()
        self._above = self._queries_below()

    def mask(
        self,
        *,
        mask_function: Callable[..., Tensor],
        local_size: int | None = None,
        use_vmap: bool = False,
        **_sizes: Any,
    ) -> RowMask | None:
        """The mask that transformers asks for with these keywords; None where it is plain.

        Raises:
            ValueError: it is not a function of positions alone.
        """
        if use_vmap:
            raise ValueError("the model's attention mask is not a function of positions alone")
        longest = max(segment.stop for segment in self._row.segments)
        wide_enough = local_size is not None and longest <= local_size
        if mask_function is causal_mask_function or wide_enough:
            return None
        return self._masked(mask_function)

    def attend(self, inputs: AttentionInputs) -> HeadVectors:
        """The heads' outputs z, ``(1, query, head, d_head)``."""
        if inputs.plain and (z := self._flash(inputs)) is not None:
            return z
        mask = self._causal if inputs.mask is None else inputs.mask
        return attend(replace(inputs, mask=mask))[0]

    def _flash(self, inputs: AttentionInputs) -> HeadVectors | None:
        """Plain attention; None where PyTorch has no kernel that gives the logsumexp."""
        query, key, value = inputs.query, inputs.key, inputs.value
        _, n_heads, length, _ = query.shape
        z = query.new_empty(length, n_heads, value.shape[-1], dtype=torch.float32)
        lse = query.new_empty(length, n_heads, dtype=torch.float32)
        row = query, key[:, :, self._n_before :], value[:, :, self._n_before :]
        for at in self._own:
            q, k, v = (_one_by_one(part, at) for part in row)
            if (found := flash_attention(q, k, v, inputs.scale)) is None:
                return None
            z[at], lse[at] = found[0].float(), found[1]
        for queries, keys in self._above:
            q, k, v = query[:, :, queries], key[:, :, keys], value[:, :, keys]
            if (found := flash_attention(q, k, v, inputs.scale, causal=False)) is None:
                return None
            z_above, lse_above = found[0][0].float(), found[1][0]
            share = torch.sigmoid(lse_above - lse[queries])
            z[queries].lerp_(z_above, share[..., None])
            lse[queries] = torch.logaddexp(lse[queries], lse_above)
        return z[None].to(query.dtype)

    def _own_queries(self) -> list[Places]:
        """Where in the row the segments of each length stand."""
        starts: dict[int, list[int]] = {}
        for segment in self._row.segments:
            start = self._places[segment].start - self._n_before
            starts.setdefault(len(segment.tokens), []).append(start)
        device = self.positions.device
        return [
            slice(found[0], found[0] + length)
            if len(found) == 1
            else (torch.tensor(found)[:, None] + torch.arange(length)).to(device)
            for length, found in starts.items()
        ]

    def _queries_below(self) -> list[tuple[slice, slice]]:
        """For each segment with others below it in the row: their queries, and its keys.

        What is below a segment stands in one piece.
        """
        below: dict[Segment, slice] = {}
        for segment in self._row.segments:
            place = self._places[segment]
            for higher in segment.above:
                first = below.get(higher, place).start
                below[higher] = slice(first, place.stop)
        n = self._n_before
        return [
            (slice(queries.start - n, queries.stop - n), self._places[segment])
            for segment, queries in below.items()
        ]

    @cached_property
    def _causal(self) -> RowMask:
        return self._masked(causal_mask_function)

    def _masked(self, visible: Callable[..., Any]) -> RowMask:
        """True where a key stands in the query's segment or above it, and is ``visible``."""
        known = [
            [other is segment or other in segment.above for other in self._segments]
            for segment in self._row.segments
        ]
        device = self.positions.device
        lengths = torch.tensor([len(segment.tokens) for segment in self._segments])
        numbers = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        queries = numbers[self._n_before :] - len(self._row.before)
        related = torch.tensor(known)[queries][:, numbers].to(device)
        zero = self.positions.new_zeros(1, 1, 1, 1)
        query = rearrange(self.positions, "query -> 1 1 query 1")
        key = rearrange(self._key_positions, "key -> 1 1 1 key")
        return visible(zero, zero, query, key) & related


def _one_by_one(row: RowVectors, at: Places) -> Float[Tensor, "segment head pos d"]:
    """Segments of one length as a batch; a single one is not copied."""
    if isinstance(at, slice):
        return row[:, :, at]
    return rearrange(row[0][:, at.to(row.device)], "head segment pos d -> segment head pos d")


def _joined(ranges: list[range], device: torch.device) -> Int[Tensor, " total"]:
    numbers = [number for span in ranges for number in span]
    return torch.tensor(numbers, dtype=torch.long, device=device)


def can_run_rows(engine: SharingEngine, network: PreTrainedModel) -> bool:
    """Whether a model run by rows gives the logits of its inputs run whole.

    By what it is made of, and tried on a few tokens. A model that cannot be run so at all
    fails in ways of its own; a `Notice` says how, and it can still be run whole.
    """
    try:
        return _sees_keys_alone(engine, network) and _rows_agree(engine)
    except (
        UserError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        warnings.warn(
            f"{type(network).__name__} runs every input whole, which is slower: what inputs begin "
            f"with cannot be shared ({type(error).__name__}: {error})",
            Notice,
            stacklevel=2,
        )
        return False


def _sees_keys_alone(engine: SharingEngine, network: PreTrainedModel) -> bool:
    """Whether tokens know of others by keys and values alone, and of positions by being told."""
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return False
    # What the model would keep from one token to the next: a state of another kind is shared
    # by all that follow in a row.
    layers = DynamicCache(config=network.config).layers
    kinds = {type(layer) for layer in layers}
    if len(layers) != len(engine.shape.layers) or kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
        return False
    # These turn keys by an angle that depends on the longest input that is run with them.
    found = [getattr(module, "rope_type", "default") for module in network.modules()]
    types = [kind for one in found for kind in (one.values() if isinstance(one, dict) else [one])]
    return not any("dynamic" in kind or kind == "longrope" for kind in types)


def _rows_agree(engine: SharingEngine) -> bool:
    """Whether three inputs that begin alike get the same logits by rows as each alone."""
    # From all over the vocabulary: its first tokens are special, and what models make of a text
    # of them may be decided by rounding.
    a, b, c, d, e, f, g, h, i, j = (engine.shape.d_vocab * n // 11 for n in range(1, 11))
    trunk = Segment([a, b, c], 0, None, [0, 1, 2])
    branch = Segment([d, e], 3, trunk, [0, 1])
    twigs = [Segment([f, g], 5, branch, [0]), Segment([h], 5, branch, [1])]
    other = Segment([i, f, j], 3, trunk, [2])
    rows = [
        Row([trunk, branch, twigs[0]], after=[trunk, branch]),
        Row([twigs[1], other], before=[trunk, branch]),
    ]
    alone = [[a, b, c, d, e, f, g], [a, b, c, d, e, h], [a, b, c, i, f, j]]
    if engine.shape.n_ctx < max(map(len, alone)):
        return False
    batch = TokenBatch.of(alone, device=engine.device)
    whole = engine.run(batch, keep=batch.mask).split([len(tokens) for tokens in alone])
    expected = torch.cat([whole[0], whole[1][5:], whole[2][3:]])
    parts, cache = [], None
    for row in rows:
        keep = torch.ones(1, len(row.tokens), dtype=torch.bool)
        logits, cache = engine.run_row(row, keep, lambda layer: None, cache)
        parts.append(logits)
    found = torch.cat(parts)
    allowed = ROUNDING.get(engine.dtype, HALF_ROUNDING)
    return bool((found - expected).norm() < allowed * expected.norm())
