"""Altered copies of heads: how a score responds to them shows whether it keeps the contract."""

from __future__ import annotations

from dataclasses import replace

import torch

from inactive_heads.core.activations import HeadActivations
from inactive_heads.scores.check.trial import (
    copied,
    with_activations,
    with_stored_pattern,
)

ALTERED_HEAD = 1
"""The head that is made inactive, to check the side its score moves to."""


def spoil_padding(heads: HeadActivations) -> HeadActivations:
    """The heads, with NaN in v, z and attention weights at padding.

    Real queries give padding no weight, so nothing else becomes NaN.

    Args:
        heads: one layer's heads; not modified.

    Returns:
        A copy.
    """
    own = with_stored_pattern(heads)
    padding = ~own.batch.mask
    outside = padding[:, :, None, None]
    return with_activations(
        own,
        own.values.masked_fill(outside, torch.nan),
        own.outputs.masked_fill(outside, torch.nan),
        own.pattern.masked_fill(padding[:, None, :, None], torch.nan),
    )


def without_token_ids(heads: HeadActivations) -> HeadActivations:
    """The heads, with one meaningless token id everywhere, as an ActivationCache has none.

    Args:
        heads: one layer's heads; not modified.

    Returns:
        A copy.
    """
    own = copied(heads)
    return replace(own, batch=replace(own.batch, tokens=torch.full_like(own.batch.tokens, 33)))


def rounded(heads: HeadActivations, to: torch.dtype, held_in: torch.dtype) -> HeadActivations:
    """The heads, with numbers rounded to one dtype and stored in another.

    Args:
        heads: one layer's heads; not modified.
        to: the dtype to round to.
        held_in: the dtype to store the rounded numbers in.

    Returns:
        A copy.
    """
    own = with_stored_pattern(heads)
    values, outputs, pattern, weights, residual = (
        tensor.to(to).to(held_in)
        for tensor in (own.values, own.outputs, own.pattern, own.path.weights, own.stream())
    )
    return replace(
        with_activations(own, values, outputs, pattern),
        path=replace(own.path, weights=weights),
        stream=lambda: residual,
    )


def with_small_output(heads: HeadActivations) -> HeadActivations:
    """The heads, with v and z of one head scaled down to a thousandth.

    Args:
        heads: one layer's heads; not modified.

    Returns:
        A copy.
    """
    own = with_stored_pattern(heads)
    own.values[:, :, ALTERED_HEAD] *= 1e-3
    own.outputs[:, :, ALTERED_HEAD] *= 1e-3
    return own


def with_sink(heads: HeadActivations) -> HeadActivations:
    """The heads, with all attention of one head on a first token whose value is 0.

    Args:
        heads: one layer's heads; not modified.

    Returns:
        A copy.
    """
    own = with_stored_pattern(heads)
    pattern = own.pattern
    pattern[:, ALTERED_HEAD] = 0
    pattern[:, ALTERED_HEAD, :, 0] = 1
    own.values[:, 0, ALTERED_HEAD] = 0
    own.outputs[:, :, ALTERED_HEAD] = 0
    return with_activations(own, own.values, own.outputs, pattern)
