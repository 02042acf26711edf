"""Heads input by input: how often each is inactive, on which texts, and what that could save.

Masks come from `inactive_heads.analysis.heads.head_sets.inactive_at`: booleans with the dimensions
``(score, sample, layer, head)``. Shares are of the heads whose scores are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from einops import reduce
from scipy import stats

from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.thresholds import share_inactive
from inactive_heads.errors import UserError


def inactive_shares(inactive: xr.DataArray) -> xr.DataArray:
    """Return the share of inputs on which each head is inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        Shares between 0 and 1, ``(score, layer, head)``.
    """
    return share_inactive(inactive, "sample")


def layer_shares(inactive: xr.DataArray) -> xr.DataArray:
    """Return the share of each layer's (input, head) pairs that is inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        Shares between 0 and 1, ``(score, layer)``.
    """
    return share_inactive(inactive, ("sample", "head"))


def split_heads(inactive: xr.DataArray) -> pd.DataFrame:
    """Return how many heads are inactive on all inputs, on some, and on none.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        One row per score, with the columns score, always, sometimes and never (numbers of heads).
        Heads without a score are not counted.
    """
    shares, dims = inactive_shares(inactive), ("layer", "head")
    always, never = (shares == 1).sum(dims).to_numpy(), (shares == 0).sum(dims).to_numpy()
    total = shares.count(dims).to_numpy()
    return pd.DataFrame(
        {
            "score": inactive["score"].to_numpy(),
            "always": always,
            "sometimes": total - always - never,
            "never": never,
        }
    )


def group_shares(inactive: xr.DataArray, groups: Sequence[str] | None = None) -> xr.DataArray:
    """Return the share of (input, head) pairs that is inactive, for each group of inputs.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.
        groups: one label per input, such as its data set or subject; by default the coordinate
            ``group`` of ``inactive``.

    Returns:
        Shares between 0 and 1, ``(score, group)``, groups in order of appearance. The coordinate
        ``n`` is the number of inputs of each group.

    Raises:
        UserError: there are no labels, or not one for each input.
    """
    if groups is None:
        if "group" not in inactive.coords:
            raise UserError("the inputs have no groups: give one label for each of them")
        groups = [str(label) for label in inactive["group"].to_numpy()]
    if len(groups) != inactive.sizes["sample"]:
        raise UserError(f"{len(groups)} groups for {inactive.sizes['sample']} inputs")
    labels = list(dict.fromkeys(groups))
    at = np.array([labels.index(label) for label in groups])
    parts = [at == i for i in range(len(labels))]
    return xr.DataArray(
        _shares_of(inactive, parts),
        dims=("score", "group"),
        coords={
            "score": inactive["score"].to_numpy(),
            "group": labels,
            "n": ("group", np.bincount(at)),
        },
    )


def length_shares(
    inactive: xr.DataArray, n_tokens: Sequence[int] | None = None, *, bins: int = 5
) -> xr.DataArray:
    """Return the share of (input, head) pairs that is inactive, by length of the input.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.
        n_tokens: the length of each input; by default the coordinate ``n_tokens``.
        bins: the largest number of bins. Inputs are sorted by length into bins of about equal
            numbers of inputs; inputs of the same length share a bin.

    Returns:
        Shares between 0 and 1, ``(score, bin)``, with the coordinates ``shortest``, ``longest`` and
        ``mean`` (tokens) and ``n`` (inputs) of each bin.

    Raises:
        UserError: no lengths are known, or not one for each input.
    """
    lengths = _lengths(inactive, n_tokens)
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1]))
    at = np.unique(np.searchsorted(edges, lengths, side="left"), return_inverse=True)[1]
    parts = [at == i for i in range(at.max() + 1)]
    return xr.DataArray(
        _shares_of(inactive, parts),
        dims=("score", "bin"),
        coords={
            "score": inactive["score"].to_numpy(),
            "shortest": ("bin", [int(lengths[part].min()) for part in parts]),
            "longest": ("bin", [int(lengths[part].max()) for part in parts]),
            "mean": ("bin", [float(lengths[part].mean()) for part in parts]),
            "n": ("bin", [int(part.sum()) for part in parts]),
        },
    )


def length_correlations(
    scores: xr.DataArray, n_tokens: Sequence[int] | None = None
) -> xr.DataArray:
    """Return Spearman's correlation of each head's score with the length of the input.

    Args:
        scores: ``(score, sample, layer, head)``.
        n_tokens: the length of each input; by default the coordinate ``n_tokens``.

    Returns:
        Correlations between -1 and 1, ``(score, layer, head)``. NaN for a head with a NaN score or
        the same score on every input, and for all heads if all inputs have the same length.

    Raises:
        UserError: no lengths are known, or not one for each input.
    """
    values = scores.transpose("sample", "score", "layer", "head")
    ranks = stats.rankdata(values.to_numpy(), axis=0, nan_policy="propagate")
    lengths = stats.rankdata(_lengths(scores, n_tokens))
    ranks -= ranks.mean(axis=0)
    lengths -= lengths.mean()
    over = np.tensordot(lengths, ranks, axes=1)
    under = np.sqrt((ranks**2).sum(axis=0) * (lengths**2).sum())
    found = np.full(over.shape, np.nan)
    np.divide(over, under, out=found, where=under > 0)
    template = values.isel(sample=0, drop=True)
    return xr.DataArray(found, dims=template.dims, coords=template.coords, name="spearman")


def key_value_groups(inactive: xr.DataArray, n_key_value_heads: int | None = None) -> xr.DataArray:
    """Return where all query heads that share keys and values are inactive.

    The keys and values of such a group are not needed for that input. Consecutive query heads
    share keys and values. So do layers that read another layer's (coordinate ``key_value_layer``):
    their heads count in that layer's groups.

    Args:
        inactive: booleans with the dimensions layer and head, from `inactive_at`.
        n_key_value_heads: the number of key/value heads per layer; by default the coordinate of
            that name, by layer, or the attribute.

    Returns:
        Booleans with the dimension kv_head, the last one, in place of head; with the coordinate
        ``defined``, if a group does not exist, or no score of its heads is a number.

    Raises:
        UserError: the number is not known, or the query heads of a layer cannot be divided evenly
            into that many groups.
    """
    mask = inactive.transpose(..., "layer", "head")
    numbers = _key_value_heads(mask, n_key_value_heads)
    exists, values = exists_at(mask), mask.to_numpy()
    known = np.broadcast_to(exists, values.shape)
    if "defined" in mask.coords:
        known = known & mask["defined"].broadcast_like(mask).transpose(*mask.dims).to_numpy()
    unneeded = np.zeros((*values.shape[:-1], max(numbers)), dtype=bool)
    there = np.zeros_like(unneeded)
    for i, number in enumerate(numbers):
        own = int(exists[i].sum())
        if number < 1 or own % number:
            raise UserError(f"{own} heads do not part into {number} key/value groups")
        pattern = "... (kv group) -> ... kv"
        heads, scored = values[..., i, :own], known[..., i, :own]
        unneeded[..., i, :number] = reduce(heads, pattern, "min", kv=number)
        there[..., i, :number] = reduce(scored, pattern, "max", kv=number)
    _join_shared(mask, unneeded, there)
    coords: dict[Any, Any] = {
        name: mask[name] for name in mask.coords if "head" not in mask[name].dims
    }
    coords["kv_head"] = range(max(numbers))
    dims = (*mask.dims[:-1], "kv_head")
    if not there.all():
        coords["defined"] = (dims, there)
    return xr.DataArray(unneeded & there, dims=dims, coords=coords)


def _key_value_heads(mask: xr.DataArray, given: int | None) -> list[int]:
    """The number of key/value heads of every layer."""
    if given is None:
        if "n_key_value_heads" in mask.coords:
            return [int(number) for number in mask["n_key_value_heads"].to_numpy()]
        if (given := mask.attrs.get("n_key_value_heads")) is None:
            raise UserError("the number of key/value heads is not known: give n_key_value_heads")
    return [int(given)] * mask.sizes["layer"]


def _join_shared(mask: xr.DataArray, unneeded: np.ndarray, there: np.ndarray) -> None:
    """Counts the groups of layers that read another layer's keys and values in that layer's."""
    if "key_value_layer" not in mask.coords:
        return
    layers = mask["layer"].to_numpy().tolist()
    for i, owner in enumerate(mask["key_value_layer"].to_numpy().tolist()):
        if owner == layers[i] or owner not in layers:
            continue
        at = layers.index(owner)
        unneeded[..., at, :] &= unneeded[..., i, :]
        there[..., i, :] = False


def cache_shares(
    inactive: xr.DataArray,
    n_key_value_heads: int | None = None,
    n_tokens: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return how much of the KV cache belongs to groups of query heads that are all inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.
        n_key_value_heads: the number of key/value heads per layer; by default the coordinate of
            that name, by layer, or the attribute.
        n_tokens: the length of each input; by default the coordinate ``n_tokens``.

    Returns:
        One row per score, with the columns score and, in percent: cache, of the keys and values of
        all inputs together (longer inputs and wider heads hold more of them); always, of the groups
        that are inactive on every input, which could be dropped for any text like these.

    Raises:
        UserError: no lengths or no number of key/value heads are known, or the query heads cannot
            be divided evenly into that many groups.
    """
    groups = key_value_groups(inactive, n_key_value_heads)
    weights = _lengths(inactive, n_tokens).astype(float)
    dims = ("layer", "kv_head")
    width = groups.coords.get("d_head", xr.ones_like(groups["layer"])).reset_coords(drop=True)
    there = groups.coords.get("defined", xr.ones_like(groups)).reset_coords(drop=True)
    held = (there * width).sum(dims)
    freed = (groups.reset_coords(drop=True) * width).sum(dims)
    per_input = (freed / held.where(held > 0)).transpose("score", "sample").to_numpy()
    shares = share_inactive(groups, "sample").reset_coords(drop=True)
    always = ((shares == 1) * width).sum(dims) / (np.isfinite(shares) * width).sum(dims)
    return pd.DataFrame(
        {
            "score": inactive["score"].to_numpy(),
            "cache": 100 * per_input @ weights / weights.sum(),
            "always": 100 * always.to_numpy(),
        }
    )


def lengths_vary(values: xr.DataArray) -> bool:
    """Return whether the inputs have at least three different lengths, enough to look for a trend.

    Args:
        values: an array that may have the coordinate ``n_tokens``.
    """
    return "n_tokens" in values.coords and len(np.unique(values["n_tokens"])) > 2


def _shares_of(inactive: xr.DataArray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The shares of inactive (input, head) pairs in each part of the inputs: ``(score, part)``."""
    dims = ("sample", "layer", "head")
    shares = [share_inactive(inactive.isel(sample=part), dims).to_numpy() for part in parts]
    return np.stack(shares, axis=1)


def _lengths(values: xr.DataArray, n_tokens: Sequence[int] | None) -> np.ndarray:
    if n_tokens is None and "n_tokens" not in values.coords:
        raise UserError("the inputs' lengths are not known: give n_tokens, one for each of them")
    lengths = np.asarray(values["n_tokens"] if n_tokens is None else n_tokens)
    if lengths.shape != (values.sizes["sample"],):
        raise UserError(f"lengths of shape {lengths.shape} for {values.sizes['sample']} inputs")
    return lengths
