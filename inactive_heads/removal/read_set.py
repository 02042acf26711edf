"""The set of heads that a caller gives to be removed."""

from __future__ import annotations

from typing import Any

import xarray as xr

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.analysis.heads.head_lists import read_heads
from inactive_heads.errors import UserError


def read_set(heads: Any, replacement: xr.DataArray | None) -> Fixed:
    """A set of heads, each given once, and what replaces their outputs.

    Args:
        heads: in any form that `Fixed` takes, or a `Fixed`.
        replacement: from `mean_head_outputs`; None for what the `Fixed` has, else zero.

    Returns:
        The set.

    Raises:
        UserError: it is no set of heads, a head is given twice, or a replacement is.
    """
    if isinstance(heads, Fixed):
        if replacement is None:
            return heads
        if heads.replacement is not None:
            raise UserError(
                "a replacement was given twice, by the Fixed and as replacement=; give it once"
            )
        return Fixed(heads.heads, replacement, heads.about, heads.mask_shape)
    if (twice := read_heads(heads).twice) is not None:
        layer, head = twice
        raise UserError(f"head L{layer}H{head} was given twice to be removed; give each head once")
    return Fixed(heads, replacement)
