"""How far two sets of heads agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inactive_heads.analysis.heads.head_lists import as_mask, read_heads
from inactive_heads.errors import UserError, shortened


def head_set_iou(a: Any, b: Any) -> float:
    """Return intersection over union of two head sets; NaN if both are empty.

    Args:
        a: booleans of any shape, or a set of heads in any other form that `Fixed` takes.
        b: booleans of the same shape and labels, or a set of heads.

    Returns:
        A share of heads, 0 to 1, or NaN.

    Raises:
        UserError: one is no set of heads, or the two are masks of different shapes or labels.
    """
    both, first, second = _sizes(a, b)
    union = first + second - both
    return both / union if union else float("nan")


def head_set_precision(a: Any, of: Any) -> float:
    """Return the share of heads in ``a`` that are also in ``of``, 0 to 1; NaN if ``a`` is empty.

    Args:
        a: booleans of any shape, or a set of heads in any other form that `Fixed` takes.
        of: booleans of the same shape and labels, or a set of heads.

    Returns:
        The share, 0 to 1, or NaN.

    Raises:
        UserError: one is no set of heads, or the two are masks of different shapes or labels.
    """
    both, first, _ = _sizes(a, of)
    return both / first if first else float("nan")


def _sizes(a: Any, b: Any) -> tuple[int, int, int]:
    """The number of heads in both sets, in the first, and in the second."""
    if not (_is_mask(a) and _is_mask(b)):
        first, second = (set(read_heads(one).pairs) for one in (a, b))
        return len(first & second), len(first), len(second)
    # An array without names is in the order of the one with names.
    dims = next((one.dims for one in (a, b) if isinstance(one, xr.DataArray)), None)
    masks = [as_mask(one) for one in (a, b)]
    if masks[0].ndim != masks[1].ndim:
        raise UserError(f"sets of heads of different shapes: {masks[0].shape}, {masks[1].shape}")
    named = [
        mask
        if isinstance(one, xr.DataArray) or dims is None
        else xr.DataArray(mask.data, dims=dims)
        for mask, one in zip(masks, (a, b), strict=True)
    ]
    left, right = named[0].to_numpy(), _like(named[1], named[0]).to_numpy()
    return int((left & right).sum()), int(left.sum()), int(right.sum())


def _is_mask(heads: Any) -> bool:
    dtype = str(getattr(heads, "dtype", ""))
    whole_pairs = (
        not isinstance(heads, xr.DataArray) and "int" in dtype and heads.shape[-1:] == (2,)
    )
    return bool(dtype) and hasattr(heads, "shape") and not whole_pairs


def _like(mask: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """A mask with its dimensions and labels in the order of another's."""
    if set(mask.dims) != set(other.dims):
        raise UserError(f"sets of heads with different dimensions: {other.dims}, {mask.dims}")
    mask = mask.transpose(*other.dims)
    if mask.shape != other.shape:
        raise UserError(f"sets of heads of different shapes: {other.shape}, {mask.shape}")
    for dim in other.dims:
        if dim in mask.coords and dim in other.coords:
            own, wanted = (one[dim].to_numpy().tolist() for one in (mask, other))
            if sorted(own) != sorted(wanted):
                raise UserError(
                    f"sets of heads of different {dim}s: {shortened(wanted)}, {shortened(own)}"
                )
            mask = mask.isel({dim: np.array([own.index(one) for one in wanted], dtype=int)})
    return mask
