"""Attention over a row of segments: a token attends to its own segment and to those above it.

For a plain softmax, no mask is formed and no shared key is copied. The flash kernel is called once
for all segments of the same length, causally within each, and once for every segment that has
descendants, with the queries of all of them. Two softmaxes over different keys, z with logsumexp l
and z' with l', combine to the softmax over both: s·z' + (1 - s)·z, where s = e^l' / (e^l + e^l').
(Hydragen, arXiv 2402.05099, and FlashInfer's cascade attention.)

Any other softmax gets a mask. transformers defines a mask as a function of two positions, so a
sliding window is as wide here as in a separate input.
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
from inactive_heads.engines.attention.attend import attend, flash_attention
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import SharingEngine
from inactive_heads.engines.prefix_tree import Row, Segment
from inactive_heads.errors import Notice, UserError

RowMask = Bool[Tensor, "1 1 query key"]
RowVectors = Float[Tensor, "1 head place d"]
Indices = slice | Int[Tensor, "segment pos"]
"""Where segments of one length are in a row: a slice for one, an index tensor for several."""

ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3}
"""The largest difference, relative to their norm, between logits computed in two correct ways."""

HALF_ROUNDING = 0.05
"""The same in half precision: 0.015 was seen in bfloat16, and 0.08 where something was wrong."""


class RowAttention:
    """Which keys each token of a row may attend to, and attention over them.

    Keys are in the order of the cache: those of ``row.before``, then the row's own. All tensors are
    on ``device``.

    Args:
        row: the segments to run.
        device: where the model takes its tokens.

    Attributes:
        positions: positions of the row's tokens in the inputs that they belong to, ``(query,)``.
        kept: indices of the keys that the next row needs, ``(kept,)``.
        n_keys: how many keys there are, with those of the cache.
    """

    def __init__(self, row: Row, device: torch.device) -> None:
        self._row, self._segments = row, [*row.before, *row.segments]
        ends = list(accumulate(len(segment.tokens) for segment in self._segments))
        self._keys_of = {
            segment: slice(end - len(segment.tokens), end)
            for segment, end in zip(self._segments, ends, strict=True)
        }
        self.n_keys = ends[-1]
        self._n_before = ends[-1] - len(row.tokens)
        self._key_positions = _concatenated(
            [range(segment.start, segment.stop) for segment in self._segments], device
        )
        self.positions = self._key_positions[self._n_before :]
        kept = [self._keys_of[segment] for segment in row.after]
        self.kept = _concatenated([range(keys.start, keys.stop) for keys in kept], device)
        self._segments_by_length = self._group_by_length()
        self._descendants = self._find_descendants()

    def mask(
        self,
        *,
        mask_function: Callable[..., Tensor],
        local_size: int | None = None,
        use_vmap: bool = False,
        **_sizes: Any,
    ) -> RowMask | None:
        """The mask function that transformers calls.

        Args:
            mask_function: whether a query may attend to a key, from ``(batch, head, query position,
                key position)``.
            local_size: width of a sliding window in tokens; None without one.
            use_vmap: whether ``mask_function`` depends on more than positions.

        Returns:
            ``(1, 1, query, key)``, true where a query may attend to a key; None if attention is
            plainly causal along each input.

        Raises:
            ValueError: the mask is not a function of positions alone.
        """
        if use_vmap:
            raise ValueError("the model's attention mask is not a function of positions alone")
        longest = max(segment.stop for segment in self._row.segments)
        wide_enough = local_size is not None and longest <= local_size
        if mask_function is causal_mask_function or wide_enough:
            return None
        return self._masked(mask_function)

    def attend(self, inputs: AttentionInputs) -> HeadVectors:
        """Attention of the row's queries.

        Args:
            inputs: queries of the row, keys and values of the cache and the row.

        Returns:
            The head outputs z, ``(1, query, head, d_head)``, in the dtype of the queries.
        """
        if inputs.plain and (z := self._flash(inputs)) is not None:
            return z
        mask = self._causal if inputs.mask is None else inputs.mask
        return attend(replace(inputs, mask=mask))[0]

    def _flash(self, inputs: AttentionInputs) -> HeadVectors | None:
        """Plain attention; None if PyTorch has no kernel that returns the logsumexp."""
        query, key, value = inputs.query, inputs.key, inputs.value
        _, n_heads, length, _ = query.shape
        z = query.new_empty(length, n_heads, value.shape[-1], dtype=torch.float32)
        lse = query.new_empty(length, n_heads, dtype=torch.float32)
        row = query, key[:, :, self._n_before :], value[:, :, self._n_before :]
        for at in self._segments_by_length:
            q, k, v = (_as_batch(part, at) for part in row)
            if (output := flash_attention(q, k, v, inputs.scale)) is None:
                return None
            z[at], lse[at] = output[0].float(), output[1]
        for queries, keys in self._descendants:
            q, k, v = query[:, :, queries], key[:, :, keys], value[:, :, keys]
            if (output := flash_attention(q, k, v, inputs.scale, causal=False)) is None:
                return None
            z_above, lse_above = output[0][0].float(), output[1][0]
            weight_above = torch.sigmoid(lse_above - lse[queries])
            z[queries].lerp_(z_above, weight_above[..., None])
            lse[queries] = torch.logaddexp(lse[queries], lse_above)
        return z[None].to(query.dtype)

    def _group_by_length(self) -> list[Indices]:
        """Indices in the row of the segments of each length."""
        starts: dict[int, list[int]] = {}
        for segment in self._row.segments:
            start = self._keys_of[segment].start - self._n_before
            starts.setdefault(len(segment.tokens), []).append(start)
        device = self.positions.device
        return [
            slice(same[0], same[0] + length)
            if len(same) == 1
            else (torch.tensor(same)[:, None] + torch.arange(length)).to(device)
            for length, same in starts.items()
        ]

    def _find_descendants(self) -> list[tuple[slice, slice]]:
        """For each segment with descendants in the row, their queries and its keys.

        The descendants of a segment are adjacent.
        """
        below: dict[Segment, slice] = {}
        for segment in self._row.segments:
            own = self._keys_of[segment]
            for ancestor in segment.above:
                first = below.get(ancestor, own).start
                below[ancestor] = slice(first, own.stop)
        n = self._n_before
        return [
            (slice(queries.start - n, queries.stop - n), self._keys_of[segment])
            for segment, queries in below.items()
        ]

    @cached_property
    def _causal(self) -> RowMask:
        return self._masked(causal_mask_function)

    def _masked(self, visible: Callable[..., Any]) -> RowMask:
        """True where a key is in the query's segment or above it, and is ``visible``."""
        same_or_above = [
            [other is segment or other in segment.above for other in self._segments]
            for segment in self._row.segments
        ]
        device = self.positions.device
        lengths = torch.tensor([len(segment.tokens) for segment in self._segments])
        segment_of_key = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        segment_of_query = segment_of_key[self._n_before :] - len(self._row.before)
        on_path = torch.tensor(same_or_above)[segment_of_query][:, segment_of_key].to(device)
        zero = self.positions.new_zeros(1, 1, 1, 1)
        query = rearrange(self.positions, "query -> 1 1 query 1")
        key = rearrange(self._key_positions, "key -> 1 1 1 key")
        return visible(zero, zero, query, key) & on_path


def _as_batch(row: RowVectors, at: Indices) -> Float[Tensor, "segment head pos d"]:
    """Segments of one length as a batch; a single one is not copied."""
    if isinstance(at, slice):
        return row[:, :, at]
    return rearrange(row[0][:, at.to(row.device)], "head segment pos d -> segment head pos d")


def _concatenated(ranges: list[range], device: torch.device) -> Int[Tensor, " total"]:
    numbers = [number for span in ranges for number in span]
    return torch.tensor(numbers, dtype=torch.long, device=device)


def can_run_rows(engine: SharingEngine, network: PreTrainedModel) -> bool:
    """Whether a model gives the same logits for rows of segments as for whole inputs.

    Decided by the model's architecture and by a test on a few tokens. If the test raises an error,
    a `Notice` quotes it; whole inputs can still be run.

    Args:
        engine: runs the model.
        network: the model.

    Returns:
        Whether `SharingEngine.run_row` may be used.
    """
    try:
        return _shares_only_keys(engine, network) and _rows_agree(engine)
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


def _shares_only_keys(engine: SharingEngine, network: PreTrainedModel) -> bool:
    """Whether only keys and values pass between tokens, and positions are an argument."""
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return False
    if scales_by_place(network):
        return False
    # Any other kind of state (such as a convolution's) would leak between the segments of a row.
    layers = DynamicCache(config=network.config).layers
    kinds = {type(layer) for layer in layers}
    return len(layers) == len(engine.shape.layers) and kinds <= {
        DynamicLayer,
        DynamicSlidingWindowLayer,
    }


def scales_by_place(network: PreTrainedModel) -> bool:
    """Whether queries are scaled by their place in the cache, as in Llama 4, not by position.

    A test on a few tokens cannot see that: the scale is 1 in the first thousands of places.

    Args:
        network: the model.
    """
    return bool(getattr(network.config.get_text_config(), "attn_temperature_tuning", False))


def _rows_agree(engine: SharingEngine) -> bool:
    """Whether three inputs with shared prefixes get the same logits in rows as each alone."""
    # Spread over the vocabulary: its first tokens are special, and after a text of special tokens
    # rounding may decide the prediction.
    a, b, c, d, e, f, g, h, i, j = (engine.shape.d_vocab * n // 11 for n in range(1, 11))
    trunk = Segment([a, b, c], 0, None, [0, 1, 2])
    branch = Segment([d, e], 3, trunk, [0, 1])
    twigs = [Segment([f, g], 5, branch, [0]), Segment([h], 5, branch, [1])]
    other = Segment([i, f, j], 3, trunk, [2])
    rows = [
        Row([trunk, branch, twigs[0]], after=[trunk, branch]),
        Row([twigs[1], other], before=[trunk, branch]),
    ]
    inputs = [[a, b, c, d, e, f, g], [a, b, c, d, e, h], [a, b, c, i, f, j]]
    if engine.shape.n_ctx < max(map(len, inputs)):
        return False
    batch = TokenBatch.of(inputs, device=engine.device)
    whole = engine.run(batch, keep=batch.mask).split([len(tokens) for tokens in inputs])
    expected = torch.cat([whole[0], whole[1][5:], whole[2][3:]])
    parts, cache = [], None
    for row in rows:
        keep = torch.ones(1, len(row.tokens), dtype=torch.bool)
        logits, cache = engine.run_row(row, keep, lambda layer: None, cache)
        parts.append(logits)
    by_rows = torch.cat(parts)
    allowed = ROUNDING.get(engine.dtype, HALF_ROUNDING)
    return bool((by_rows - expected).norm() < allowed * expected.norm())
