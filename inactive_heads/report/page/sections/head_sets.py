"""The sections on the heads of single models: agreement of scores, and heads input by input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from inactive_heads import plots
from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.head_sets import fixed_agreement, inactive_at, score_agreement
from inactive_heads.analysis.heads.per_input import (
    cache_shares,
    group_shares,
    length_shares,
    lengths_vary,
    split_heads,
)
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.page.parts import (
    Chart,
    Section,
    Shown,
    Table,
    frame_of,
    frame_table,
    square_table,
)

Parts = list[Table | Chart]
"""The parts of a section."""


def input_sections(models: Mapping[str, ModelResults]) -> list[Section]:
    """Return the sections of all scored models; each part is shown for its own model and percent.

    Args:
        models: label → results; those without scores or thresholds are left out.

    Returns:
        Up to five sections: agreement of scores, how often heads are inactive, dependence on the
        text, KV cache, and fixed against per-input sets. Sections without parts are left out.
    """
    agreement: Parts = []
    split: Parts = []
    texts: Parts = []
    cache: Parts = []
    fixed: Parts = []
    for label, one in models.items():
        if one.scores is None or one.thresholds is None:
            continue
        model = label if len(models) > 1 else None
        where = f"{label}, " if len(models) > 1 else ""
        for percent in one.thresholds["percent"].to_numpy().astype(float).tolist():
            shown, at = Shown(model=model, percent=percent), f"{where}{percent:g}% of heads"
            inactive = inactive_at(one.scores, one.thresholds, percent)
            # At 0% every set is empty.
            if percent > 0 and inactive.sizes["score"] > 1:
                agreement += _agreement(inactive, at, shown)
            if inactive.sizes["sample"] < 2 or percent == 0:
                continue
            table = split_heads(inactive)
            title = f"Always, sometimes, never: {at}"
            split.append(Chart(title, plots.head_split(table), shown=shown))
            columns = {"score": ("score", "")}
            columns |= {name: (name, ".0f") for name in ("always", "sometimes", "never")}
            split.append(frame_table(title, table, columns, folded=True, shown=shown))
            grouped = one.scores if one.inputs is None else one.inputs
            texts += _groups(inactive_at(grouped, one.thresholds, percent), at, shown)
            texts += _lengths(inactive, at, shown)
            cache += _cache(inactive, one.scores.attrs.get("n_key_value_heads"), at, shown)
            table = fixed_agreement(one.scores, percent, thresholds=one.thresholds)
            columns = {"score": ("score", ""), "iou": ("IoU", ".3f")}
            columns |= {"precision": ("precision", ".3f"), "recall": ("recall", ".3f")}
            fixed.append(
                frame_table(
                    f"Fixed against per input: {at}", table, columns, shown=shown, late=True
                )
            )
    every = [
        ("sets", "Do scores choose the same heads?", agreement, _SETS),
        ("split", "Always, sometimes and never inactive", split, _SPLIT),
        ("texts", "How it depends on the text", texts, _TEXTS),
        ("cache", "Keys and values that no active head reads", cache, _CACHE),
        ("fixed", "One set for all inputs, or one for each?", fixed, _FIXED),
    ]
    return [Section(name, title, parts, how) for name, title, parts, how in every if parts]


def _agreement(inactive: xr.DataArray, at: str, shown: Shown) -> Iterator[Table | Chart]:
    found = score_agreement(inactive)
    for name, words in (("iou", "Intersection over union"), ("precision", "Precision")):
        table = frame_of(found[name], "score", "other")
        title = f"{words} of head sets: {at}"
        yield Chart(title, plots.agreement_heatmap(table), shown=shown, wide=True)
        yield square_table(title, table, shown)


def _groups(inactive: xr.DataArray, at: str, shown: Shown) -> Iterator[Table | Chart]:
    if "group" in inactive.coords and len(np.unique(inactive["group"])) > 1:
        shares = group_shares(inactive)
        title = f"Share inactive by kind of text: {at}"
        yield Chart(title, plots.group_heatmap(shares), shown=shown, wide=True)
        frame = frame_of(100 * shares, "group", "score").reset_index()
        columns = {"group": ("text", "")}
        columns |= {str(name): (str(name), ".2f") for name in shares["score"].to_numpy()}
        yield frame_table(title, frame, columns, folded=True, shown=shown)


def _lengths(inactive: xr.DataArray, at: str, shown: Shown) -> Iterator[Table | Chart]:
    if lengths_vary(inactive):
        shares = length_shares(inactive)
        title = f"Share inactive by length: {at}"
        yield Chart(title, plots.length_lines(shares), shown=shown)
        frame = frame_of(100 * shares, "bin", "score").reset_index(drop=True)
        spans = {name: shares[name].to_numpy() for name in ("shortest", "longest", "n")}
        frame = frame.assign(**spans)
        columns = {name: (f"{name}, tokens", ".0f") for name in ("shortest", "longest")}
        columns |= {"n": ("inputs", ".0f")}
        columns |= {str(name): (str(name), ".2f") for name in shares["score"].to_numpy()}
        yield frame_table(title, frame, columns, folded=True, shown=shown)


def _cache(inactive: xr.DataArray, told: Any, at: str, shown: Shown) -> Iterator[Table | Chart]:
    by_layer = inactive.coords.get("n_key_value_heads")
    if (told is None and by_layer is None) or "n_tokens" not in inactive.coords:
        return  # files from elsewhere may lack them
    number = None if told is None else int(told)
    table = cache_shares(inactive, number)
    numbers = np.asarray(number if by_layer is None else by_layer)
    groups = sorted(set((exists_at(inactive).sum(axis=1) // numbers).tolist()))
    heads = f"{groups[0]} query heads share" if groups[-1] > 1 else "every head has its own"
    if len(groups) > 1:
        heads = f"{groups[0]} to {groups[-1]} query heads, by layer, share"
    title, note = f"Share of the KV cache: {at}", f"In this model {heads} keys and values."
    if "key_value_layer" in inactive.coords:
        n_shared = int((inactive["key_value_layer"] != inactive["layer"]).sum())
        note += f" {n_shared} of {inactive.sizes['layer']} layers read another layer’s."
    columns = {"score": ("score", ""), "cache": ("on the inputs, %", ".2f")}
    columns |= {"always": ("on every input, %", ".2f")}
    yield Chart(title, plots.cache_bars(table), note=note, shown=shown)
    yield frame_table(title, table, columns, folded=True, shown=shown)


_SETS = (
    "Each score, at its own threshold for the chosen share, calls a set of (input, head) pairs "
    "inactive. Intersection over union tells how far two sets are the same (1) or have nothing in "
    "common (0). Precision is not symmetric: the share of the set of the score on the left that is "
    "also in the set of the score below."
)
_SPLIT = (
    "A head is always inactive if the score calls it so on every input, never if on none. Many "
    "heads under “sometimes” speak for choosing heads anew for each input; many under “always” for "
    "heads that could be removed."
)
_TEXTS = (
    "How much of the model each score calls inactive on texts of one kind or length, with one "
    "threshold for all. Scores that depend on the length of the input by their definition (averages "
    "over tokens, weights of the first token) show it here."
)
_CACHE = (
    "Query heads that share keys and values make a group. Where all heads of a group are inactive, "
    "nothing active reads its part of the KV cache for that input: “on the inputs” is the share of "
    "all the inputs’ keys and values of which that is true, “on every input” the share of groups for "
    "which it is true of every input. It is an upper bound of what could be saved: a head is called "
    "inactive from a whole input, after its keys were read."
)
_FIXED = (
    "The fixed set has the heads that the score calls inactive by their averages over the inputs. "
    "IoU is its intersection over union with an input’s own set, precision the share of the fixed "
    "set that is inactive on an input, recall the share of an input’s inactive heads that the fixed "
    "set has. All three are means over the inputs."
)
