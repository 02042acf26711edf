"""Sets of heads in the forms that people have them in, read as (layer, head) pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.existing import check_absent
from inactive_heads.errors import UserError, shortened

_LABEL = re.compile(r"L(\d+)H(\d+)")
_DIMS = ("layer", "head")
_WAYS = "give (layer, head) pairs such as [(5, 3)], or a boolean mask (layer, head)"


class HeadList(NamedTuple):
    """A set of heads.

    Attributes:
        pairs: ``(layer, head)``, each once, sorted.
        shape: the number of layers and of heads that a model must have for the set to fit it; None
            where the set does not say.
        twice: a pair that was given more than once; None if there is none.
    """

    pairs: list[tuple[int, int]]
    shape: tuple[int | None, int | None] = (None, None)
    twice: tuple[int, int] | None = None


def read_heads(heads: Any) -> HeadList:
    """Return a set of heads as pairs.

        read_heads([(11, 0), (5, 3)]).pairs  # [(5, 3), (11, 0)]
        read_heads("L5H3, L11H0").pairs  # the same

    Args:
        heads: pairs of whole numbers or labels such as "L5H3", in any collection or an array
            ``(head, 2)``; a dictionary layer → heads; a table with the columns layer and head; or a
            mask ``(layer, head)`` of booleans (or of 0 and 1). A DataArray goes by the names of its
            dimensions and by its labels; without labels, a mask has all layers and heads of a
            model. A missing value (NaN) in a mask is no head.

    Returns:
        The pairs, and the shape of the model as far as a mask tells it.

    Raises:
        UserError: it is none of these; the message has the value.
    """
    heads = _plain(heads)
    if isinstance(heads, pd.DataFrame) and set(_DIMS) <= set(heads.columns):
        heads = list(heads[list(_DIMS)].itertuples(index=False, name=None))
    if isinstance(heads, pd.MultiIndex) and set(heads.names) == set(_DIMS):
        heads = list(heads.reorder_levels(list(_DIMS)))
    if isinstance(heads, pd.DataFrame) or (
        isinstance(heads, pd.Series) and isinstance(heads.index, pd.MultiIndex)
    ):
        heads = heads.to_xarray() if isinstance(heads, pd.Series) else xr.DataArray(heads)
    if isinstance(heads, xr.DataArray):
        return _of_labelled_mask(heads)
    if isinstance(heads, np.ndarray):
        return _of_array(heads)
    if isinstance(heads, str):
        heads = re.split(r"[\s,]+", heads.strip()) if heads.strip() else []
    if isinstance(heads, PurePath | xr.Dataset) or not isinstance(heads, Iterable):
        raise UserError(f"{shortened(heads)} is no set of heads; {_WAYS}, or Fixed.load(FILE)")
    if isinstance(heads, Mapping):
        heads = [pair for layer, own in heads.items() for pair in _of_layer(layer, own)]
    return _of_pairs(heads)


def as_mask(heads: Any) -> xr.DataArray:
    """Return a mask of heads, checked to hold nothing but true and false.

    Args:
        heads: a DataArray, array or tensor of booleans (or of 0 and 1), of any shape.

    Returns:
        Booleans, with the labels of ``heads`` if it has any. A missing value (NaN) is false.

    Raises:
        UserError: it holds anything else.
    """
    heads = _plain(heads)
    if not isinstance(heads, xr.DataArray):
        heads = xr.DataArray(heads)
    return heads.copy(data=_booleans(heads.to_numpy()))


def _plain(heads: Any) -> Any:
    """A tensor as an array, without importing torch; anything else as it is."""
    if not callable(getattr(heads, "detach", None)):
        return heads
    found = heads.detach().cpu()
    return (found.float() if found.is_floating_point() else found).numpy()


def _of_labelled_mask(mask: xr.DataArray) -> HeadList:
    if set(mask.dims) != set(_DIMS):
        hint = ""
        if "sample" in mask.dims:
            hint = '; for the heads of most inputs write mask.mean("sample") > 0.5'
        elif {*_DIMS} < {*mask.dims}:
            hint = "; choose one of each other dimension with .sel"
        raise UserError(
            f"a set of heads has the dimensions ('layer', 'head'), not {mask.dims}{hint}"
        )
    mask = mask.transpose(*_DIMS)
    chosen = _booleans(mask.to_numpy())
    check_absent(mask.copy(data=chosen), "heads of the mask")
    layers, heads = (_labels(mask, dim) for dim in _DIMS)
    pairs = [(layers[row], heads[column]) for row, column in np.argwhere(chosen)]
    size = [None if dim in mask.coords else mask.sizes[dim] for dim in _DIMS]
    return HeadList(sorted(pairs), (size[0], size[1]))


def _labels(mask: xr.DataArray, dim: str) -> list[int]:
    labels = mask[dim].to_numpy().tolist()
    for label in labels:
        if not _is_index(label):
            raise UserError(f"the mask of heads has the {dim} {shortened(label)}, not a number")
        if labels.count(label) > 1:
            raise UserError(f"the mask of heads has the {dim} {label} twice")
    return labels


def _of_array(array: np.ndarray) -> HeadList:
    whole = np.issubdtype(array.dtype, np.integer)
    if whole and array.ndim == 2 and array.shape[1] == 2:
        # The heads of a model with two heads per layer, or pairs?
        if not len(array) or (array > 1).any() or (array < 0).any():
            return _of_pairs(tuple(row) for row in array.tolist())
        raise UserError(
            f"the array {shortened(array.tolist())} may be pairs or a mask; give pairs as a list of "
            "tuples, or the mask as booleans"
        )
    if array.ndim == 1 and array.dtype.kind in "OU":
        return _of_pairs(array.tolist())
    if array.ndim != 2 or array.dtype.kind not in "biufO":
        raise UserError(
            f"a mask of heads is boolean (layer, head), not {array.dtype} of shape {array.shape}; "
            f"{_WAYS}"
        )
    chosen = _booleans(array)
    pairs = [(int(layer), int(head)) for layer, head in np.argwhere(chosen)]
    return HeadList(pairs, (array.shape[0], array.shape[1]))


def _booleans(values: np.ndarray) -> np.ndarray:
    """A mask's values; missing ones are false."""
    if values.dtype == bool:
        return values
    if values.dtype == object:
        missing = pd.isna(values)
        odd = [one for one in values[~missing].tolist() if not isinstance(one, bool | np.bool_)]
        if not odd:
            return np.where(missing, False, values).astype(bool)
        raise UserError(f"a mask of heads is true or false, not {shortened(odd[0])}")
    if np.issubdtype(values.dtype, np.integer):
        odd = values[(values != 0) & (values != 1)].tolist()
        if not odd:
            return values.astype(bool)
        raise UserError(f"a mask of heads is true or false (1 or 0), not {odd[0]}")
    if values.dtype.kind == "f" and np.isnan(values).any():
        # What `where` makes of booleans: 1, 0, and NaN where they were masked.
        known = values[~np.isnan(values)]
        if known.size and np.isin(known, (0, 1)).all():
            return values == 1
    raise UserError(
        f"a mask of heads is boolean (layer, head), not {values.dtype}; compare scores with a "
        "threshold, as select_heads does"
    )


def _of_pairs(heads: Iterable[Any]) -> HeadList:
    given = Counter(map(_pair, heads))
    twice = next((pair for pair, times in given.items() if times > 1), None)
    return HeadList(sorted(given), twice=twice)


def _of_layer(layer: Any, heads: Any) -> list[tuple[Any, Any]]:
    if isinstance(heads, str | bytes | Mapping) or not isinstance(heads, Iterable):
        raise UserError(
            f"heads of layer {shortened(layer)} are a list such as [0, 3], not {shortened(heads)}"
        )
    return [(layer, head) for head in heads]


def _pair(head: Any) -> tuple[int, int]:
    if isinstance(head, str) and (found := _LABEL.fullmatch(head)):
        return int(found[1]), int(found[2])
    try:
        if isinstance(head, str | bytes | Mapping | set):
            raise TypeError
        layer, index = head
    except (TypeError, ValueError):
        hint = "; a single head is [(5, 3)]" if _is_index(head) else ""
        raise UserError(
            f"heads are a boolean mask or a list of (layer, head) pairs, not {shortened(head)}{hint}"
        ) from None
    if not (_is_index(layer) and _is_index(index)):
        raise UserError(
            f"{shortened(head)} is no head: layer and head are whole numbers from 0, as in (5, 3)"
        )
    return int(layer), int(index)


def _is_index(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= 0
