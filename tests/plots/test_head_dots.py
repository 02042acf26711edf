"""The dots of a heatmap are at the heads of the set, by their labels."""

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih

VALUES = xr.DataArray(
    np.arange(8.0).reshape(2, 4),
    dims=("layer", "head"),
    coords={"layer": [3, 7], "head": range(4)},
)
MASK = VALUES.copy(data=[[False, True, False, False], [False, False, False, True]])


def dots(inactive, values=VALUES):
    trace = ih.plots.head_heatmap(values, inactive=inactive).data[1]
    return sorted(zip(trace.y, trace.x, strict=True))


@pytest.mark.parametrize(
    "heads",
    [
        MASK,
        MASK.T,
        MASK[::-1],
        MASK.where(MASK),
        MASK.where(MASK["head"] > 0),
        MASK.values,
        [(3, 1), (7, 3)],
        "L3H1 L7H3",
        MASK.sel(layer=[7, 3], head=[3, 1]),
    ],
)
def test_dots(heads):
    assert dots(heads) == [("3", "1"), ("7", "3")]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (MASK.values.T, r"shape \(4, 2\), the values \(layers, heads\) \(2, 4\)"),
        ([(4, 0)], "L4H0 is not among the values"),
        (VALUES / 10, "boolean .layer, head., not float64"),
    ],
)
def test_other_heads_are_refused(heads, message):
    with pytest.raises(ih.UserError, match=message):
        dots(heads)
