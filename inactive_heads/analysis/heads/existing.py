"""Which heads of a labelled array exist: layers may differ in their number of heads.

Arrays have a place for every head of the largest layer. Where layers differ, the coordinate
``n_heads`` along "layer" says how many heads each has. NaN does not say it: a ratio is NaN too where
it is undefined.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from inactive_heads.errors import UserError

LAYER_SIZES = ("n_heads", "n_key_value_heads", "d_head", "key_value_layer")
"""The coordinates along "layer" that say in what layers differ."""


def existing_heads(values: xr.DataArray) -> xr.DataArray | None:
    """Return which heads exist.

        run.zeroed.where(existing_heads(run.zeroed)).mean()  # the share of the heads that exist

    Args:
        values: an array with the dimensions layer and head, or a part of one.

    Returns:
        Booleans with the dimensions layer and head, as far as ``values`` has them; None if every
        layer has every head.
    """
    if "n_heads" not in values.coords or "head" not in {*values.dims, *values.coords}:
        return None
    exists = (values["head"] < values["n_heads"]).reset_coords(drop=True)
    return None if bool(exists.all()) else exists


def exists_at(values: xr.DataArray) -> np.ndarray:
    """Return which heads of a grid exist.

    Args:
        values: an array with the dimensions layer and head, and perhaps others.

    Returns:
        ``(layer, head)``, booleans.
    """
    exists = existing_heads(values)
    if exists is None:
        return np.ones((values.sizes["layer"], values.sizes["head"]), dtype=bool)
    return exists.transpose("layer", "head").to_numpy()


def check_absent(values: xr.DataArray, what: str) -> None:
    """Check that an array has nothing at heads that do not exist.

    Args:
        values: numbers or booleans, with the dimensions layer and head or without them.
        what: what it is, used in the error message.

    Raises:
        UserError: it has a number (of integers, other than 0) or true at such a head; the message
            names the head.
    """
    exists = existing_heads(values)
    if exists is None:
        return
    filled = values.notnull() if values.dtype.kind == "f" else values != 0
    wrong = (filled & ~exists).reset_coords(drop=True)
    wrong = wrong.any([dim for dim in wrong.dims if dim not in ("layer", "head")])
    if not wrong.any():
        return
    place = np.argwhere(wrong.to_numpy())[0].tolist()
    at = values.isel(dict(zip(wrong.dims, place, strict=True)))
    layer, head, own = (int(at[name]) for name in ("layer", "head", "n_heads"))
    raise UserError(
        f"the {what} have a value at L{layer}H{head}, and layer {layer} has heads 0 to {own - 1} "
        "(coordinate n_heads); leave out heads that a layer lacks"
    )
