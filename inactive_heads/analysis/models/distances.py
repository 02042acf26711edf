"""How differently models score their heads: Wasserstein-1 distances of score distributions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.errors import UserError


def score_distances(first: xr.DataArray, second: xr.DataArray) -> pd.Series:
    """Return how differently two models (or data sets) score their heads, for each score.

        score_distances(ih.score_heads(base, texts), ih.score_heads(instruct, texts))

    Args:
        first: scores with the dimension score, such as ``(score, sample, layer, head)``.
        second: scores of the other model; shapes may differ.

    Returns:
        For each score that both have, the Wasserstein-1 distance of the two distributions over
        inputs, layers and heads, in the score's own unit. Values that are not finite are left out.
    """
    shared = [name for name in first["score"].to_numpy() if name in set(second["score"].to_numpy())]
    found = [_distance(first.sel(score=name), second.sel(score=name)) for name in shared]
    return pd.Series(found, index=pd.Index(shared, name="score"), name="wasserstein", dtype=float)


def model_distances(models: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Return the distance of every two models, for each score.

    Args:
        models: label → scores with the dimension score.

    Returns:
        Wasserstein-1 distances ``(score, model, other)``, in each score's own unit; 0 on the
        diagonal. Scores are those of any model, in order of appearance; NaN where a model lacks the
        score.
    """
    scores = list(dict.fromkeys(name for one in models.values() for name in _names(one)))
    labels = list(models)
    found = np.full((len(scores), len(labels), len(labels)), np.nan)
    for row, name in enumerate(scores):
        # Sort once per model, not once per pair.
        values = {
            i: _sorted(models[label].sel(score=name))
            for i, label in enumerate(labels)
            if name in _names(models[label])
        }
        for i in values:
            found[row, i, i] = 0.0
        for i, j in combinations(values, 2):
            found[row, [i, j], [j, i]] = wasserstein(values[i], values[j])
    return xr.DataArray(
        found,
        dims=("score", "model", "other"),
        coords={"score": scores, "model": labels, "other": labels},
        name="wasserstein",
    )


def layer_distances(first: xr.DataArray, second: xr.DataArray) -> xr.DataArray:
    """Return the distances of two models of the same shape, layer by layer.

    Args:
        first: scores ``(score, sample, layer, head)`` of one model.
        second: scores of the other, such as its finetuned form.

    Returns:
        Wasserstein-1 distances of each layer's distributions over inputs and heads,
        ``(score, layer)``, for the scores that both have. NaN where one side has no finite value.

    Raises:
        UserError: the models differ in their layers.
    """
    layers = [one["layer"].to_numpy().tolist() for one in (first, second)]
    if layers[0] != layers[1]:
        raise UserError(
            f"only models with the same layers compare, not {layers[0]} and {layers[1]}"
        )
    shared = [name for name in _names(first) if name in set(_names(second))]
    found = [
        [
            _distance(first.sel(score=name, layer=layer), second.sel(score=name, layer=layer))
            for layer in layers[0]
        ]
        for name in shared
    ]
    return xr.DataArray(
        np.array(found).reshape(len(shared), len(layers[0])),
        dims=("score", "layer"),
        coords={"score": shared, "layer": layers[0]},
        name="wasserstein",
    )


def wasserstein(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Wasserstein-1 distance of two samples: the mean difference of their quantiles.

    The result is exact for samples of any sizes. `scipy.stats.wasserstein_distance` gives the same,
    but sorts on every call and takes ten times as long.

    Args:
        first: finite numbers in ascending order.
        second: the same, of any length.

    Returns:
        The distance, in the unit of the samples; NaN if one of them is empty.
    """
    if not (len(first) and len(second)):
        return float("nan")
    if len(first) == len(second):
        return float(np.abs(first - second).mean())
    left, right, widths = _steps(len(first), len(second))
    return float(np.abs(first[left] - second[right]) @ widths)


@lru_cache(maxsize=64)
def _steps(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where quantile functions of n and m values are constant: indices into both, and widths."""
    # Integers in units of 1 / (n m), so that equal edges compare equal.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    return (ends - 1) // m, (ends - 1) // n, np.diff(ends, prepend=0) / (n * m)


def _distance(first: xr.DataArray, second: xr.DataArray) -> float:
    return wasserstein(_sorted(first), _sorted(second))


def _names(scores: xr.DataArray) -> list[str]:
    return [str(name) for name in scores["score"].to_numpy()]


def _sorted(values: xr.DataArray) -> np.ndarray:
    flat = np.asarray(values.to_numpy(), dtype=float).ravel()
    return np.sort(flat[np.isfinite(flat)])
