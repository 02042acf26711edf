"""Reports from saved results: curves, scores and thresholds read from files, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.metrics import Tolerances
from inactive_heads.analysis.curves.model_comparison import compare_models, count_ranks
from inactive_heads.analysis.curves.ranking import rank_scores
from inactive_heads.analysis.curves.summary import summarize
from inactive_heads.analysis.curves.table import CURVE_KEYS, check_points, metrics_of, read_curves
from inactive_heads.analysis.heads.threshold_stability import read_thresholds, threshold_stability
from inactive_heads.analysis.heads.thresholds import choose_thresholds
from inactive_heads.checks import check_percents
from inactive_heads.errors import UserError
from inactive_heads.files import writable_folder, write_whole
from inactive_heads.names import REPORT_PERCENTS
from inactive_heads.provenance import as_attrs
from inactive_heads.report.page import render as page
from inactive_heads.report.page.model_results import ModelResults, labels
from inactive_heads.report.page.sections.curves import settings
from inactive_heads.scores.registry import REGISTRY
from inactive_heads.third_party import explained

_DIMS = ("score", "sample", "layer", "head")
_SHOWN = (
    *("revision", "architecture", "model_dtype", "device", "engine", "weight_processing", "bos"),
    "chat_template",
)
_TEXTS = ("texts", "texts_version", "texts_sha256")


@dataclass(frozen=True)
class SavedOptions:
    """The options of a report from saved results.

    Attributes:
        curves: CSV files; see `read_curves`.
        scores: NetCDF files written by ``scores.to_netcdf``, one for each model or checkpoint.
        thresholds: CSV files; see `read_thresholds`.
        out: the folder to write.
        percents: the percents of heads for which thresholds are chosen from the scores.
        at: the percent of heads that is shown first.
        within: by metric, how much worse still counts as unharmed; by default 1 point of accuracy
            and 0.05 nats of loss.
    """

    curves: Sequence[str] = ()
    scores: Sequence[str] = ()
    thresholds: Sequence[str] = ()
    out: str = "report"
    percents: Sequence[float] = REPORT_PERCENTS
    at: float = 10.0
    within: Tolerances = field(default_factory=dict)


def build_saved_report(options: SavedOptions) -> Path:
    """Write a report of saved results.

    Beside report.html, it writes the tables that the results allow: ranking.csv for curves,
    models.csv and ranks.csv for curves of several models, and threshold_stability.csv for
    thresholds.

    Args:
        options: the files, and how to show them.

    Returns:
        The path of report.html.

    Raises:
        UserError: a file cannot be read or lacks something (the message names the file and the
            row), two files hold the same point or checkpoint, a percent is not between 0 and 100 or
            is given twice, or the folder cannot be written.
    """
    folder = writable_folder(options.out)
    results = read_results(options)
    published = _thresholds(options.thresholds)
    html = page.render(
        results,
        percent=options.at,
        within=options.within,
        published_thresholds=published,
    )
    for name, table in _tables(results, published, options.within).items():
        write_whole(folder / name, table.to_csv(index=False))
    write_whole(folder / "report.html", html)
    return folder / "report.html"


def read_results(options: SavedOptions) -> list[ModelResults]:
    """The results in the files.

    Curves and scores of one model are combined if there are scores of only one checkpoint of it.

    Args:
        options: the files to read.

    Returns:
        The results of each model or checkpoint, first those with scores, in the order of the files,
        then those with curves only.

    Raises:
        UserError: a file cannot be read, two files hold the same point or checkpoint, or a percent
            is not between 0 and 100 or is given twice.
    """
    curves = _curves(options.curves)
    scored = [read_scores(path) for path in options.scores]
    percents = check_percents({0.0, options.at, *check_percents(options.percents)})
    names = [str(scores.attrs["model"]) for scores in scored]
    results = []
    for scores, name in zip(scored, names, strict=True):
        own = curves.get(name) if names.count(name) == 1 else None
        cuts = choose_thresholds(scores, percents)
        config: dict[str, Any] = {
            key.removeprefix("model_"): scores.attrs[key] for key in _SHOWN if scores.attrs.get(key)
        }
        config |= {"n_samples": scores.sizes["sample"], "definitions": _definitions(scores)}
        config |= {key: scores.attrs[key] for key in _TEXTS if key in scores.attrs}
        revision = str(scores.attrs.get("revision") or "")
        summary = _summary(own, cuts, options.at, name)
        results.append(ModelResults(name, revision, scores, cuts, own, summary, config))
    for name, own in curves.items():
        if names.count(name) != 1:
            summary = _summary(own, None, options.at, name)
            revision = "curves" if name in names else ""
            results.append(ModelResults(name, revision, curves=own, summary=summary))
    labels(results)  # raises an error if a model or checkpoint is given twice
    return results


def read_scores(path: str | Path) -> xr.DataArray:
    """The scores in a NetCDF file.

    Args:
        path: a file written by ``scores.to_netcdf``, such as a report's scores.nc.

    Returns:
        ``(score, sample, layer, head)``, as from `score_heads`. The attribute "model" is the file's
        name if the file does not name the model.

    Raises:
        UserError: the file cannot be read, or holds no scores.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of scores at {str(path)!r}")
    with explained(f"{str(path)!r} holds no scores", "write them with scores.to_netcdf(...)"):
        scores = xr.load_dataarray(path, engine="h5netcdf")
    if set(scores.dims) != set(_DIMS) or "inactive" not in scores.coords:
        raise UserError(
            f"{str(path)!r} has the dims {scores.dims} and coordinates {sorted(map(str, scores.coords))}; "
            f"scores have the dims {_DIMS} and say in 'inactive' on which side a head is inactive"
        )
    named = scores.attrs.get("model") or Path(path).stem
    scores = scores.assign_coords({dim: scores[dim] for dim in _DIMS})
    scores.attrs = as_attrs(scores.attrs)  # files of earlier versions have "dtype"
    return scores.transpose(*_DIMS).assign_attrs(model=str(named))


def _curves(paths: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The curves in the files, by model."""
    if not paths:
        return {}
    table = pd.concat([read_curves(path) for path in paths], ignore_index=True)
    check_points(table, str(list(paths)))
    return {str(model): group for model, group in table.groupby("model", sort=False)}


def _thresholds(paths: Sequence[str]) -> pd.DataFrame | None:
    tables = [read_thresholds(path) for path in paths]
    return pd.concat(tables, ignore_index=True) if tables else None


def _summary(
    curves: pd.DataFrame | None, cuts: xr.DataArray | None, percent: float, model: str
) -> pd.DataFrame | None:
    """The summary at one percent of heads; None if a curve has no point for that percent."""
    if curves is None:
        return None if cuts is None else summarize(None, cuts, percent=percent).assign(model=model)
    has = np.isclose(curves["percent"].astype(float), percent)
    scores = curves.groupby([*CURVE_KEYS, "score"])["score"].size()
    if len(curves[has].groupby([*CURVE_KEYS, "score"])) < len(scores):
        return None
    return summarize(curves, cuts, percent=percent)


def _tables(
    results: Sequence[ModelResults],
    published: pd.DataFrame | None,
    within: Tolerances,
) -> dict[str, pd.DataFrame]:
    """The tables to write beside the page, by file name."""
    curves = [one.curves for one in results if one.curves is not None]
    tables: dict[str, pd.DataFrame] = {}
    if curves:
        every = pd.concat(curves, ignore_index=True)
        rankings = [
            rank_scores(every, metric=metric, within=within.get(metric))
            for metric in metrics_of(every)
        ]
        tables["ranking.csv"] = pd.concat(rankings, ignore_index=True)
        several = [one for one in settings(every, within) if one.n_models > 1]
        for name, measure in (("models.csv", compare_models), ("ranks.csv", count_ranks)):
            parts = [measure(one.ranking).assign(task=one.task, mode=one.mode) for one in several]
            if parts:
                tables[name] = pd.concat(parts, ignore_index=True)
    if published is not None:
        tables["threshold_stability.csv"] = threshold_stability(published)
    return tables


def _definitions(scores: xr.DataArray) -> dict[str, str]:
    names = scores["score"].to_numpy().tolist()
    return {name: REGISTRY[name].definition for name in names if name in REGISTRY}
