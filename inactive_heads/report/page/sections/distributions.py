"""The sections that compare models by their scores: distributions, distances, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads import plots
from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.head_sets import inactive_at
from inactive_heads.analysis.heads.per_input import inactive_shares
from inactive_heads.analysis.models.checkpoints import (
    changed_heads,
    checkpoint_shares,
    inactive_states,
    transition_counts,
    turning_heads,
)
from inactive_heads.analysis.models.distances import layer_distances, model_distances
from inactive_heads.analysis.models.families import finetuned_pairs, scale_steps
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


def score_sections(models: Mapping[str, ModelResults], percent: float) -> list[Section]:
    """Return the sections that compare the score distributions of several models.

    Args:
        models: label → results; those without scores are left out.
        percent: the percent of heads at which base and finetuned models are compared.

    Returns:
        Sections on distributions, on distances and, if models form such pairs, on finetuning; none
        with fewer than two scored models.
    """
    scored = {label: one.scores for label, one in models.items() if one.scores is not None}
    if len(scored) < 2:
        return []
    names = list(dict.fromkeys(str(n) for one in scored.values() for n in one["score"].to_numpy()))
    cdfs = [
        Chart(
            f"{name}: distribution in every model",
            plots.score_cdfs(scored, name),
            shown=Shown(score=name),
        )
        for name in names
        if any(_has_values(one, name) for one in scored.values())
    ]
    distances = model_distances(scored)
    sections = [
        Section("cdfs", "How the score spreads in every model", cdfs, _CDFS),
        Section("distances", "How alike models are", _distances(distances), _DISTANCES),
    ]
    if tuned := finetuned_pairs(list(scored)):
        parts = _finetuned(models, tuned, percent)
        if parts:
            sections.append(Section("finetuning", "What finetuning changes", parts, _FINETUNING))
    return sections


def checkpoint_section(
    checkpoints: Mapping[str, Sequence[ModelResults]], percent: float
) -> list[Section]:
    """Return the section on heads across the checkpoints of each model.

    Heads are inactive according to the thresholds of the last checkpoint.

    Args:
        checkpoints: model → results of its checkpoints, in order, from `checkpoints_of`.
        percent: which of the thresholds' percents to use.

    Returns:
        One section; none without checkpoints.

    Raises:
        UserError: checkpoints of a model differ in their layers, heads or scores.
    """
    parts: Parts = []
    for model, results in checkpoints.items():
        course = [(one.revision, one.scores) for one in results if one.scores is not None]
        cuts = results[-1].thresholds
        assert cuts is not None  # checkpoints_of keeps only results with thresholds
        parts += _course(model, course, cuts, percent)
    if not parts:
        return []
    return [Section("checkpoints", "Over training", parts, _TRAINING)]


def _course(
    model: str, course: Sequence[tuple[str, xr.DataArray]], cuts: xr.DataArray, percent: float
) -> Iterator[Table | Chart]:
    shares = checkpoint_shares(course, cuts, percent)
    states = inactive_states(course, cuts, percent)
    title = f"{model}: share inactive at the last checkpoint’s thresholds for {percent:g}%"
    yield Chart(title, plots.checkpoint_lines(shares))
    frame = frame_of(100 * shares, "score", "checkpoint").reset_index()
    labels = [str(label) for label in shares["checkpoint"].to_numpy()]
    columns = {"score": ("score", "")} | {label: (label, ".2f") for label in labels}
    yield frame_table(title, frame, columns, folded=True)
    counts, turning = transition_counts(states), turning_heads(states)
    for name in states["score"].to_numpy().tolist():
        shown = Shown(score=name)
        yield Chart(
            f"{model}, {name}: heads that turn", plots.transition_bars(counts, name), shown=shown
        )
        own = turning[turning["score"] == name]
        if own.empty:
            continue
        back = int(own["back"].sum())
        yield Chart(
            f"{model}, {name}: the heads that turn, checkpoint by checkpoint",
            plots.turning_heatmap(states, name),
            note=f"{len(own)} heads turn; {back} of them end as they began.",
            shown=shown,
        )
        named = own.assign(head=_names(own), back=own["back"].map({True: "yes", False: "no"}))
        heading = {"head": ("head", ""), "turns": ("turns", ".0f"), "back": ("back", "")}
        heading |= {"path": ("path", "")}
        yield frame_table(
            f"{model}, {name}: heads that turn", named, heading, folded=True, shown=shown
        )


def _distances(distances: xr.DataArray) -> Parts:
    parts: Parts = []
    labels = [str(label) for label in distances["model"].to_numpy()]
    for words, pairs in (
        ("a model and its finetuned form", finetuned_pairs(labels)),
        ("from one size to the next", scale_steps(labels)),
    ):
        if not pairs:
            continue
        title = f"Distances between {words}" if "form" in words else f"Distances {words}"
        parts.append(Chart(title, plots.distance_pairs(distances, pairs), wide=True))
        frame = pd.DataFrame(
            {
                f"{one} → {other}": distances.sel(model=one, other=other).to_numpy()
                for one, other in pairs
            }
        )
        columns = {"score": ("score", "")} | {name: (name, ".4g") for name in frame.columns}
        frame.insert(0, "score", distances["score"].to_numpy())
        parts.append(frame_table(title, frame, columns, folded=True))
    for name in distances["score"].to_numpy().tolist():
        one = distances.sel(score=name)
        if not np.isfinite(one.where(one["model"] != one["other"])).any():
            continue
        shown, title = Shown(score=name), f"{name}: Wasserstein distance of every two models"
        parts.append(Chart(title, plots.distance_matrix(distances, name), shown=shown, wide=True))
        table = frame_of(one, "model", "other")
        parts.append(square_table(title, table, shown))
    return parts


def _finetuned(
    models: Mapping[str, ModelResults], pairs: Sequence[tuple[str, str]], percent: float
) -> Parts:
    """Distances by layer and changed heads, for the pairs that have the same layers and heads."""
    by_layer: dict[str, xr.DataArray] = {}
    changes: Parts = []
    for base, tuned in pairs:
        first, second, cuts = models[base].scores, models[tuned].scores, models[base].thresholds
        if first is None or second is None or not _same_heads(first, second):
            continue
        label = f"{base} → {tuned}"
        by_layer[label] = layer_distances(first, second)
        shared = by_layer[label]["score"].to_numpy()
        if cuts is None or not len(shared):
            continue
        first, second = first.sel(score=shared), second.sel(score=shared)
        masks = [inactive_shares(inactive_at(one, cuts, percent)) for one in (first, second)]
        changed = changed_heads(first, second, cuts, percent)
        for name in masks[0]["score"].to_numpy().tolist():
            shown, own = Shown(score=name), changed[changed["score"] == name]
            figure = plots.change_heatmap(*(mask.sel(score=name) for mask in masks))
            turned = int((own["change"] > 0).sum())
            note = (
                f"At the base’s threshold for {percent:g}%, {turned} heads turned inactive and "
                f"{len(own) - turned} active on most inputs."
            )
            title = f"{label}, {name}: change in % of inputs on which a head is inactive"
            changes.append(Chart(title, figure, note=note, shown=shown))
            named = own.assign(head=_names(own))
            columns = {"head": ("head", "")}
            columns |= {side: (f"{side}, %", ".1f") for side in ("before", "after", "change")}
            if len(own):
                title = f"{label}, {name}: heads that changed"
                changes.append(frame_table(title, named, columns, folded=True, shown=shown))
    lines: Parts = []
    for name in dict.fromkeys(
        n for one in by_layer.values() for n in one["score"].to_numpy().tolist()
    ):
        title, shown = f"{name}: distance by layer", Shown(score=str(name))
        lines.append(Chart(title, plots.layer_distance_lines(by_layer, str(name)), shown=shown))
        frame = pd.concat(
            [
                one.sel(score=name).to_series().rename("distance").reset_index().assign(pair=pair)
                for pair, one in by_layer.items()
                if name in one["score"].to_numpy()
            ]
        )
        columns = {"pair": ("pair", ""), "layer": ("layer", ".0f"), "distance": ("distance", ".4g")}
        lines.append(frame_table(title, frame, columns, folded=True, shown=shown))
    return lines + changes


def _same_heads(first: xr.DataArray, second: xr.DataArray) -> bool:
    alike = all(
        first[dim].to_numpy().tolist() == second[dim].to_numpy().tolist()
        for dim in ("layer", "head")
    )
    return alike and bool((exists_at(first) == exists_at(second)).all())


def _names(rows: pd.DataFrame) -> list[str]:
    return [f"L{layer}H{head}" for layer, head in zip(rows["layer"], rows["head"], strict=True)]


def _has_values(scores: xr.DataArray, name: str) -> bool:
    if name not in scores["score"].to_numpy():
        return False
    return bool(np.isfinite(scores.sel(score=name)).any())


_CDFS = (
    "One line a model: at a value on the axis below, how much of its heads and inputs score up to "
    "that value. Lines that lie on each other are models whose heads are spread alike, and a "
    "threshold of one does for the other."
)
_DISTANCES = (
    "The Wasserstein-1 distance of two models’ distributions over inputs, layers and heads: by how "
    "much, on average, one distribution’s values have to move to become the other, in the score’s "
    "own unit; 0 is the same. Dark is near. Which models are finetuned forms or sizes of one family "
    "is told by their names; there each row is coloured by its own largest distance, since scores "
    "have units of their own."
)
_FINETUNING = (
    "Both models are judged by the base’s thresholds. The lines tell in which layers the score’s "
    "distribution moved most. In the maps, blue heads are inactive on more inputs than before, red "
    "ones on fewer."
)
_TRAINING = (
    "All checkpoints are judged by one threshold, the last checkpoint’s, so that a change is one of "
    "the heads and not of the threshold. A head counts as inactive at a checkpoint if it is so on "
    "more than half of the inputs; a head turns where that changes. Dark is inactive."
)
