"""What a set of heads has in common: the traits of its heads beside those of all other heads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.per_input import key_value_groups, length_correlations


class _Trait(NamedTuple):
    """A score that describes a head, and its name in words."""

    score: str
    words: str


TRAITS = (
    _Trait("AWFT", "attention to the first token (AWFT)"),
    _Trait("AEQD", "entropy of attention, nats (AEQD)"),
    _Trait("FTVVN (LN)", "norm of v₀ / layer mean (FTVVN (LN))"),
    _Trait("AVVN (LN)", "norm of values / layer mean (AVVN (LN))"),
    _Trait("AHON (LN)", "norm of outputs / layer mean (AHON (LN))"),
)
"""The scores that describe heads, each averaged over the inputs."""

DEPTH = "depth: 0 first layer, 1 last"
LENGTH = "correlation of its score with the length of the text"
GROUP = "in a key/value group that is inactive as a whole, %"


def head_traits(scores: xr.DataArray, score: str, heads: xr.DataArray) -> pd.DataFrame:
    """Return the typical head of a set beside the typical other head.

        heads = ih.select_heads(scores, "AHON (LN)", percent=10)
        head_traits(scores, "AHON (LN)", heads)

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`; traits whose score is missing
            are left out.
        score: the score that chose the set.
        heads: the set, booleans ``(layer, head)``, as `select_heads` returns it.

    Returns:
        One row per trait, with the columns trait, inactive and others: the median over the heads of
        the set and over all other heads. Heads whose trait is not known are left out of a median;
        NaN if none is left. For whole key/value groups, inactive is the percent of the set's heads
        that are in one, and others is NaN.
    """
    chosen = heads.transpose("layer", "head").to_numpy().astype(bool)
    others = exists_at(scores) & ~chosen
    known = set(scores["score"].to_numpy().tolist())
    values = {
        trait.words: scores.sel(score=trait.score)
        .mean("sample")
        .transpose("layer", "head")
        .to_numpy()
        for trait in TRAITS
        if trait.score in known
    }
    n_layers = scores.sizes["layer"]
    if n_layers > 1:
        depth = np.arange(n_layers) / (n_layers - 1)
        values[DEPTH] = np.broadcast_to(depth[:, None], chosen.shape)
    if "n_tokens" in scores.coords and len(np.unique(scores["n_tokens"])) > 2:
        correlations = length_correlations(scores.sel(score=[score])).squeeze("score")
        values[LENGTH] = correlations.transpose("layer", "head").to_numpy()
    rows = [(words, _median(grid[chosen]), _median(grid[others])) for words, grid in values.items()]
    if (whole := in_whole_groups(heads)) is not None:
        share = 100 * int(whole.sum()) / chosen.sum() if chosen.any() else float("nan")
        rows.append((GROUP, share, float("nan")))
    return pd.DataFrame(rows, columns=["trait", "inactive", "others"])


def in_whole_groups(heads: xr.DataArray) -> xr.DataArray | None:
    """Return which heads of a set are in a key/value group that is in the set as a whole.

    Nothing outside the set reads the keys and values of such a group.

    Args:
        heads: the set, booleans ``(layer, head)``, with what scores say of key/value heads.

    Returns:
        Booleans ``(layer, head)``; None if that is not known, or if no two heads share keys and
        values.
    """
    numbers = heads.coords.get("n_key_value_heads", heads.attrs.get("n_key_value_heads"))
    if numbers is None:
        return None
    heads = heads.transpose("layer", "head")
    sizes = exists_at(heads).sum(axis=1) // np.asarray(numbers)
    layers = heads["layer"].to_numpy().tolist()
    owners = heads.coords.get("key_value_layer", heads["layer"]).to_numpy().tolist()
    if (sizes == 1).all() and owners == layers:
        return None
    groups = key_value_groups(heads).transpose("layer", "kv_head").to_numpy()
    whole = np.zeros(heads.shape, dtype=bool)
    for row, (owner, size) in enumerate(zip(owners, sizes.tolist(), strict=True)):
        at = layers.index(owner) if owner in layers else row
        own = np.repeat(groups[at], size)[: heads.sizes["head"]]
        whole[row, : len(own)] = own
    return heads.copy(data=whole & heads.to_numpy())


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
