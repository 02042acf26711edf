"""The data that the page draws, as compact JSON that is safe inside a ``<script>`` element."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads import plots
from inactive_heads.analysis.curves.metrics import LOSS
from inactive_heads.analysis.curves.table import CURVE_KEYS, metrics_of
from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.head_sets import fixed_sets, inactive_counts
from inactive_heads.analysis.heads.histogram import histogram
from inactive_heads.analysis.heads.per_input import length_correlations, lengths_vary
from inactive_heads.analysis.heads.traits import head_traits, in_whole_groups
from inactive_heads.report.page.parts import group_title, plain_figure


def heads_payload(
    scores: xr.DataArray, thresholds: xr.DataArray, definitions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the numbers behind the page's heatmaps and histograms of one model's heads.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        thresholds: ``(score, percent)``. Scores without a threshold are left out.
        definitions: score → its definition in words; may lack scores.

    Returns:
        ``scores``, one entry per score; ``percents``; ``layers``; and the numbers of ``heads`` and
        ``samples``. An entry has its name, side, definition and colour; ``mean``, over inputs,
        layer by layer and head by head; ``cuts`` and ``counts`` (of inactive inputs, `packed`, in
        the order of ``mean``), one per percent; ``sets`` and ``groups``, the fixed set of each
        percent and its heads in whole key/value groups, as `packed_bits`; ``traits``, the medians
        of `head_traits` for each percent; ``lengths``, the packed correlations with the
        length, if lengths vary; ``known``, the packed numbers of inputs whose score is a number, if
        some are not; and ``bars``, histogram and quantiles, if any value is finite. If layers
        differ in their heads, ``n_heads`` has the number of each layer.
    """
    known = [name for name in scores["score"].to_numpy() if name in thresholds["score"].to_numpy()]
    scores = scores.sel(score=known).transpose("score", "sample", "layer", "head")
    thresholds = thresholds.sel(score=known)
    percents = [float(percent) for percent in thresholds["percent"].to_numpy()]
    lengths = length_correlations(scores).to_numpy() if lengths_vary(scores) else None
    counts = [inactive_counts(scores, thresholds, percent).to_numpy() for percent in percents]
    sets = fixed_sets(scores, percents)
    exists = exists_at(scores)
    entries = []
    for i, name in enumerate(str(name) for name in scores["score"].to_numpy()):
        values = scores.to_numpy()[i].astype(float)
        entry = {
            "name": name,
            "side": str(scores["inactive"].to_numpy()[i]),
            "about": definitions.get(name, ""),
            "color": plots.line_style(name)["color"],
            "mean": values.mean(axis=0).ravel(),
            "cuts": thresholds.transpose("score", "percent").to_numpy()[i],
            "counts": [packed(count[i], scores.sizes["sample"]) for count in counts],
            "sets": [packed_bits(one) for one in sets.sel(score=name).to_numpy()],
            "traits": [
                head_traits(scores, name, one)[["inactive", "others"]].to_numpy()
                for one in sets.sel(score=name)
            ],
        }
        known_inputs = np.isfinite(values).sum(axis=0)
        whole = [in_whole_groups(one) for one in sets.sel(score=name)]
        if whole[0] is not None:
            entry["groups"] = [packed_bits(one.to_numpy()) for one in whole if one is not None]
        if (known_inputs < len(values))[exists].any():
            entry["known"] = packed(known_inputs, len(values))
        if lengths is not None and np.isfinite(lengths[i]).any():
            entry["lengths"] = packed_correlations(lengths[i])
        if np.isfinite(values).any():
            edges, bars, beyond = histogram(values)
            quantiles = np.quantile(values[np.isfinite(values)], np.linspace(0, 1, 101))
            entry["bars"] = {"low": edges[0], "high": edges[-1], "n": bars, "beyond": beyond}
            entry["bars"]["quantiles"] = quantiles
        entries.append(entry)
    differing = {} if exists.all() else {"n_heads": exists.sum(axis=1)}
    return {
        **differing,
        "traits": head_traits(scores, known[0], sets[0, 0])["trait"].tolist() if known else [],
        "scores": entries,
        "percents": percents,
        "layers": [str(layer) for layer in scores["layer"].to_numpy()],
        "heads": scores.sizes["head"],
        "samples": scores.sizes["sample"],
    }


def packed(counts: np.ndarray, largest: int) -> str:
    """Return integers from 0 to ``largest`` as base64.

    Args:
        counts: the integers, in C order.
        largest: decides the width: 1, 2 or 4 bytes each, little-endian.

    Returns:
        Base64 text.
    """
    width = "u1" if largest < 2**8 else "<u2" if largest < 2**16 else "<u4"
    return base64.b64encode(counts.astype(width).tobytes()).decode("ascii")


def packed_bits(mask: np.ndarray) -> str:
    """Return booleans as base64, eight to a byte, the first one in the highest bit.

    Args:
        mask: booleans, in C order.

    Returns:
        Base64 text.
    """
    return base64.b64encode(np.packbits(mask.ravel()).tobytes()).decode("ascii")


def packed_correlations(values: np.ndarray) -> str:
    """Return numbers from -1 to 1 in hundredths as base64, one signed byte each.

    Args:
        values: the numbers, in C order; those that are not finite become -128.

    Returns:
        Base64 text.
    """
    hundredths = np.where(np.isfinite(values), np.round(100 * values), -128).astype("i1")
    return base64.b64encode(hundredths.tobytes()).decode("ascii")


def curve_charts(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the page's charts of curves, one per model, task, mode and metric or effect.

    Args:
        curves: the curves of all models.

    Returns:
        One entry per chart: ``model``, ``title``, ``what`` (the quantity drawn), ``effect``
        (whether it is one other than the metric) and ``figure``. Effects come last, a model's loss
        before its accuracy.

    Raises:
        UserError: a curve cannot be drawn.
    """
    charts: list[dict[str, Any]] = []
    models = list(dict.fromkeys(curves["model"].astype(str)))
    for keys, group in curves.groupby(CURVE_KEYS, sort=False, dropna=False):
        about = {"model": str(keys[0]), "title": group_title(keys, len(models) > 1)}
        for metric in metrics_of(group):
            figure = plain_figure(plots.accuracy_curves(group, metric))
            charts.append(about | {"what": metric, "effect": False, "figure": figure})
        for effect, name in plots.EFFECTS.items():
            if effect in group and group[effect].notna().any():
                figure = plain_figure(plots.effect_curves(group, effect))
                what = name.rpartition(",")[0]
                charts.append(about | {"what": what, "effect": True, "figure": figure})
    charts.sort(key=lambda one: (one["effect"], models.index(one["model"]), one["what"] != LOSS))
    return charts
