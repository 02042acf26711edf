"""Heads input by input: how often each is inactive, on which texts, and what that could save.

Masks come from `inactive_heads.analysis.heads.head_sets.inactive_at`: booleans with the dimensions
``(score, sample, layer, head)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from einops import reduce
from scipy import stats

from inactive_heads.errors import UserError


def inactive_shares(inactive: xr.DataArray) -> xr.DataArray:
    """Return the share of inputs on which each head is inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        Shares between 0 and 1, ``(score, layer, head)``.
    """
    return inactive.mean("sample")


def layer_shares(inactive: xr.DataArray) -> xr.DataArray:
    """Return the share of each layer's (input, head) pairs that is inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        Shares between 0 and 1, ``(score, layer)``.
    """
    return inactive.mean(("sample", "head"))


def split_heads(inactive: xr.DataArray) -> pd.DataFrame:
    """Return how many heads are inactive on all inputs, on some, and on none.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.

    Returns:
        One row per score, with the columns score, always, sometimes and never (numbers of heads).
    """
    counts, n = inactive.sum("sample"), inactive.sizes["sample"]
    dims = ("layer", "head")
    always, never = (counts == n).sum(dims).to_numpy(), (counts == 0).sum(dims).to_numpy()
    total = inactive.sizes["layer"] * inactive.sizes["head"]
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
    per_sample = inactive.mean(("layer", "head")).transpose("score", "sample").to_numpy()
    shares = np.stack([per_sample[:, at == i].mean(axis=1) for i in range(len(labels))], axis=1)
    return xr.DataArray(
        shares,
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
    per_sample = inactive.mean(("layer", "head")).transpose("score", "sample").to_numpy()
    parts = [at == i for i in range(at.max() + 1)]
    return xr.DataArray(
        np.stack([per_sample[:, part].mean(axis=1) for part in parts], axis=1),
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


def key_value_groups(inactive: xr.DataArray, n_key_value_heads: int) -> xr.DataArray:
    """Return where all query heads that share keys and values are inactive.

    The keys and values of such a group are not needed for that input. Consecutive query heads
    share keys and values.

    Args:
        inactive: booleans with the dimension head, from `inactive_at`.
        n_key_value_heads: the number of key/value heads per layer.

    Returns:
        Booleans with the dimension kv_head, the last one, in place of head.

    Raises:
        UserError: the query heads cannot be divided evenly into that many groups.
    """
    n_heads = inactive.sizes["head"]
    if n_key_value_heads < 1 or n_heads % n_key_value_heads:
        raise UserError(f"{n_heads} heads do not part into {n_key_value_heads} key/value groups")
    mask = inactive.transpose(..., "head")
    pattern = "... (kv group) -> ... kv"
    return xr.DataArray(
        reduce(mask.to_numpy(), pattern, "min", kv=n_key_value_heads),
        dims=(*mask.dims[:-1], "kv_head"),
        coords={name: mask[name] for name in mask.coords if "head" not in mask[name].dims}
        | {"kv_head": range(n_key_value_heads)},
    )


def cache_shares(
    inactive: xr.DataArray, n_key_value_heads: int, n_tokens: Sequence[int] | None = None
) -> pd.DataFrame:
    """Return how much of the KV cache belongs to groups of query heads that are all inactive.

    Args:
        inactive: booleans ``(score, sample, layer, head)``, from `inactive_at`.
        n_key_value_heads: the number of key/value heads per layer.
        n_tokens: the length of each input; by default the coordinate ``n_tokens``.

    Returns:
        One row per score, with the columns score and, in percent: cache, of the keys and values of
        all inputs together (longer inputs hold more of them); always, of the groups that are
        inactive on every input, which could be dropped for any text like these.

    Raises:
        UserError: no lengths are known, or the query heads cannot be divided evenly into that many
            groups.
    """
    groups = key_value_groups(inactive, n_key_value_heads)
    weights = _lengths(inactive, n_tokens).astype(float)
    per_input = groups.mean(("layer", "kv_head")).transpose("score", "sample").to_numpy()
    always = groups.all("sample").mean(("layer", "kv_head"))
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


def _lengths(values: xr.DataArray, n_tokens: Sequence[int] | None) -> np.ndarray:
    if n_tokens is None and "n_tokens" not in values.coords:
        raise UserError("the inputs' lengths are not known: give n_tokens, one for each of them")
    lengths = np.asarray(values["n_tokens"] if n_tokens is None else n_tokens)
    if lengths.shape != (values.sizes["sample"],):
        raise UserError(f"lengths of shape {lengths.shape} for {values.sizes['sample']} inputs")
    return lengths
