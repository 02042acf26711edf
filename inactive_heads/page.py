"""The report as one HTML file that opens offline: words, tables and charts of what was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from inactive_heads.analysis import CURVE_KEYS, Metric, within_column
from inactive_heads.errors import UserError
from inactive_heads.page_data import as_json, curve_charts, group_title, heads_payload
from inactive_heads.verdict import BOUNDS, CHANGE, DIGITS, metric_of, start_row, verdict

_WITHIN: dict[Metric, str] = {"accuracy": "1 point", "loss": "0.05 nats"}
_NAMES = {"num_fewshot": "shots (num_fewshot)", "bos": "BOS token", "n_samples": "samples"}


@dataclass(frozen=True)
class Cell:
    """A cell of the table: what is shown, and the number it is sorted by."""

    text: str
    key: float | str


def render(
    *,
    scores: xr.DataArray | None,
    thresholds: xr.DataArray | None,
    curves: pd.DataFrame | None,
    summary: pd.DataFrame | None,
    config: Mapping[str, Any],
    percent: float,
    definitions: Mapping[str, str] | None = None,
) -> str:
    """The report's HTML: one self-contained page, with everything it needs inside.

    ``percent`` is the share of heads the words and the table speak of, and the one that the page
    shows first. ``config`` says what was run, as nested as it likes; ``definitions`` maps scores'
    names to text (default: ``config["definitions"]``). Parts whose data is None or empty are left
    out. Everything given is shown as text, never read as HTML.

    ``UserError`` where ``percent`` is not among the thresholds' shares.
    """
    curves = None if curves is None or curves.empty else curves
    summary = None if summary is None or summary.empty else summary
    texts = {**config.get("definitions", {}), **(definitions or {})}
    heads = None
    if scores is not None and thresholds is not None:
        shares = [float(share) for share in thresholds["percent"].to_numpy()]
        if not np.isclose(shares, percent).any():
            raise UserError(f"percent={percent} is not one of the thresholds' shares {shares}")
        heads = heads_payload(scores, thresholds, texts)
    charts = [] if curves is None else curve_charts(curves)
    drawn = {"heads": heads, "charts": [chart["figure"] for chart in charts], "percent": percent}
    named = [] if heads is None else [score["name"] for score in heads["scores"]]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            model=_model(scores, curves, config),
            verdict=verdict(summary, curves),
            facts=_facts({key: config[key] for key in config if key != "definitions"}),
            tables=[] if summary is None else _tables(summary, curves),
            charts=charts,
            heads=heads,
            names=named,
            chosen=_best(summary, named),
            percent=percent,
            definitions={name: text for name, text in texts.items() if text},
            # What is marked safe here is the package's own, or has lost its "<" to as_json.
            data=Markup(as_json(drawn)),
            style=Markup(_source("report.css")),
            script=Markup(_source("report.js")),
            plotly=Markup(get_plotlyjs()) if heads or charts else "",
        )
    )


def _tables(summary: pd.DataFrame, curves: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The summary as tables of cells, one per model, task and mode; or of thresholds alone."""
    if summary["rank"].isna().all():
        rows = [
            [Cell(row["score"], row["score"]), _number(row["threshold"])]
            for _, row in summary.iterrows()
        ]
        return [
            {"title": "Thresholds", "note": "", "columns": ["score", "threshold"], "rows": rows}
        ]
    tables, several = [], summary["model"].drop_duplicates().size > 1
    for keys, group in summary.groupby(CURVE_KEYS, sort=False, dropna=False):
        metric, start = metric_of(group), start_row(keys, curves)
        unit = "accuracy, %" if metric == "accuracy" else "loss, nats/token"
        intervals = group[list(BOUNDS[metric])].notna().all(axis=None)
        unit += " [95%\u00a0interval]" if intervals else ""
        columns = ["rank", "score", unit, "change", "zeroed, %", "normalized AUC"]
        columns += [f"% zeroable within {_WITHIN[metric]}", "threshold"]
        note = "" if start is None else f"No head zeroed: {_interval(start, metric)}"
        if start is not None and np.isfinite(count := float(start.get("n", np.nan))):
            note += f", n = {count:.0f}"
        rows = [_cells(row, metric) for _, row in group.sort_values("rank").iterrows()]
        title = group_title(keys, several)
        tables.append({"title": title, "note": note, "columns": columns, "rows": rows})
    return tables


def _cells(row: pd.Series, metric: Metric) -> list[Cell]:
    return [
        _number(row["rank"], ".0f"),
        Cell(str(row["score"]), str(row["score"])),
        Cell(_interval(row, metric), float(row[metric])),
        Cell(_change(row, metric), float(row[f"{metric}_change"])),
        _number(row["percent_zeroed"], ".1f"),
        _number(row["normalized_auc"], f".{DIGITS[metric]}f"),
        _number(row[within_column(metric)], ".1f"),
        _number(row["threshold"]),
    ]


def _number(value: float, style: str = ".3g") -> Cell:
    text = f"{value:{style}}".replace("-", "−") if np.isfinite(value) else "–"
    return Cell(text, float(value))


def _interval(row: pd.Series, metric: Metric) -> str:
    """``61.2 [54.0, 68.1]``, or the value alone where its interval is not known."""
    digits = DIGITS[metric]
    value, low, high = (float(row[name]) for name in (metric, *BOUNDS[metric]))
    text = f"{value:.{digits}f}"
    return text if np.isnan(low + high) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _change(row: pd.Series, metric: Metric) -> str:
    """``+0.064 [0.031, 0.098]``: the change from the baseline, with its paired interval."""
    digits, change = DIGITS[metric], row[f"{metric}_change"]
    low, high = (float(row.get(name, np.nan)) for name in CHANGE)
    if not np.isfinite(change):
        return "–"
    text = f"{change:+.{digits}f}"
    text += "" if np.isnan(low + high) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text.replace("-", "−")


def _best(summary: pd.DataFrame | None, names: list[str]) -> str:
    """The score that the page shows first: the best of those it can draw."""
    ranked = [] if summary is None else summary.sort_values("rank")["score"]
    return next((name for name in chain(ranked, names) if name in names), "")


def _model(
    scores: xr.DataArray | None, curves: pd.DataFrame | None, config: Mapping[str, Any]
) -> str:
    attrs = {} if scores is None else scores.attrs
    named = config.get("model") or attrs.get("model")
    if isinstance(named, Mapping):
        named = named.get("name")
    if not named and curves is not None:
        named = ", ".join(str(model) for model in curves["model"].unique())
    return str(named or "a language model")


def _facts(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What was run, as (heading, [(name, value)]): plain settings first, then nested ones."""
    plain = [(_label(key), _text(value)) for key, value in config.items() if not _nested(value)]
    groups = [("", plain)] if plain else []
    for key, value in config.items():
        if _nested(value) and value:
            groups.append((_label(key), [(_label(k), _text(v)) for k, v in _flat(value)]))
    return groups


def _nested(value: object) -> bool:
    return isinstance(value, Mapping)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _label(key: object) -> str:
    return _NAMES.get(str(key), str(key).replace("_", " "))


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)


@cache
def _environment() -> Environment:
    # Autoescape is on for every file: jinja's own choice goes by the ending, and misses ".j2".
    loader = PackageLoader("inactive_heads", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def _source(name: str) -> str:
    """A stylesheet or script of the package as it is, not read as a template."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
