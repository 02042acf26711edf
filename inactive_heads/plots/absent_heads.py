"""How heads that a layer lacks look in a heatmap: an empty cell with a stroke through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inactive_heads.analysis.heads.existing import exists_at


def strokes(values: xr.DataArray) -> list[dict[str, Any]]:
    """Return the shape that crosses out the heads that do not exist.

    Args:
        values: an array with the dimensions layer and head; see `existing_heads`. Cells are at
            whole numbers, as on axes of categories.

    Returns:
        One shape for a figure's layout; none if all heads exist.
    """
    places = np.argwhere(~exists_at(values)).tolist()
    if not places:
        return []
    path = "".join(
        f"M{column - 0.4:g},{row + 0.4:g}L{column + 0.4:g},{row - 0.4:g}" for row, column in places
    )
    return [
        {"type": "path", "path": path, "layer": "below", "line": {"color": "#808080", "width": 1}}
    ]


def hover_texts(grid: xr.DataArray, texts: list[list[str]]) -> list[list[str]]:
    """Return hover texts that say which heads do not exist.

    Args:
        grid: ``(layer, head)``.
        texts: the texts of all cells, layer by layer.

    Returns:
        The texts, those of heads that do not exist replaced.
    """
    exists = exists_at(grid)
    layers, heads = (grid[dim].to_numpy().tolist() for dim in ("layer", "head"))
    return [
        [
            text
            if exists[i, j]
            else f"L{layers[i]}H{heads[j]}<br>no such head: layer {layers[i]} has {exists[i].sum()}"
            for j, text in enumerate(row)
        ]
        for i, row in enumerate(texts)
    ]
