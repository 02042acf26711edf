"""The report as one HTML file that opens offline: sentences, tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from inactive_heads.analysis.curves.metrics import Tolerances
from inactive_heads.analysis.curves.model_comparison import count_ranks
from inactive_heads.analysis.heads.threshold_stability import (
    COLUMNS,
    thresholds_of_curves,
    thresholds_table,
)
from inactive_heads.errors import UserError
from inactive_heads.html import as_json, environment, source
from inactive_heads.names import OURS, is_baseline
from inactive_heads.report.answer import answer_of
from inactive_heads.report.page.model_results import ModelResults, checkpoints_of, labels
from inactive_heads.report.page.parts import Chart, Table, plain_figure
from inactive_heads.report.page.payload import curve_charts, heads_payload
from inactive_heads.report.page.run_details import facts_of, facts_of_models
from inactive_heads.report.page.sections.challenge import challenge_section
from inactive_heads.report.page.sections.curves import Setting, comparison, settings
from inactive_heads.report.page.sections.distributions import checkpoint_section, score_sections
from inactive_heads.report.page.sections.head_sets import input_sections
from inactive_heads.report.page.sections.thresholds import stability
from inactive_heads.report.page.summary_tables import ranking_tables, summary_tables
from inactive_heads.report.page.verdict import Answers, compared, verdict

FEW = 3
"""The largest number of models that each get a sentence of their own at the top of the page."""


def render(
    results: Sequence[ModelResults],
    *,
    percent: float,
    within: Tolerances | None = None,
    published_thresholds: pd.DataFrame | None = None,
    definitions: Mapping[str, str] | None = None,
) -> str:
    """Return the report's HTML: one self-contained page on one model or many.

    Parts without data are left out. All data is shown as text, never interpreted as HTML.

    Args:
        results: the results of all models and checkpoints.
        percent: the percent of heads that the sentences and the summary describe, and that the page
            shows first.
        within: how much worse still counts as unharmed; by default 1 point of accuracy and 0.05
            nats of loss.
        published_thresholds: thresholds to show beside those of the results: a table with the
            columns task, model, score, percent and threshold.
        definitions: score → its definition in words; by default those of the configs.

    Returns:
        The HTML of the page.

    Raises:
        UserError: nothing is given, ``percent`` is not among the percents of the thresholds, two
            results are of the same model and revision, or a curve cannot be ranked.
    """
    tolerances: Tolerances = {} if within is None else within
    models = dict(zip(labels(results), results, strict=True))
    if not models and published_thresholds is None:
        raise UserError("there is nothing to report: no result was given")
    curves, summary = _joined(models, "curves"), _joined(models, "summary")
    texts = dict(chain.from_iterable(one.config.get("definitions", {}).items() for one in results))
    texts |= definitions or {}
    payloads = {label: _heads(one, percent, texts) for label, one in models.items()}
    found = settings(curves, tolerances)
    charts = [] if curves is None else curve_charts(curves)
    thresholds = _thresholds(models, curves, published_thresholds)
    first = comparison(found, tolerances)
    last = [
        *challenge_section(models),
        *score_sections(models, percent),
        *checkpoint_section(checkpoints_of(results), percent),
        *input_sections(models),
        *stability(thresholds),
    ]
    tables = _tables(summary, curves, found, tolerances, several=len(models) > 1)
    parts = [part for section in (*first, *last) for part in section.parts]
    answers = {
        label: one.answer or answer_of(one.scores, one.summary, percent)
        for label, one in models.items()
        if one.scores is not None and payloads[label] is not None
    }
    answer = next(iter(answers.values())) if len(models) == 1 and answers else None
    choices = _choices(models, payloads, summary, found, parts, percent)
    if answer is not None and answer.score in choices["scores"]:
        choices["score"] = answer.score
    facts = [config for one in results if (config := _plain_config(one.config))]
    drawn = {
        "models": payloads,
        "charts": [{"model": chart["model"], "figure": chart["figure"]} for chart in charts],
        "figures": [plain_figure(part.figure) for part in parts if isinstance(part, Chart)],
        "tables": [part.csv for part in (*tables, *parts) if isinstance(part, Table)],
    }
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            models=list(models),
            verdict=_words(found, summary, curves, answers, len(models), tolerances),
            facts=(
                facts_of_models({label: _plain_config(one.config) for label, one in models.items()})
                if len(facts) > 1
                else facts_of(facts[0] if facts else {})
            ),
            tables=tables,
            with_summary=summary is not None,
            charts=charts,
            heads=next((payload for payload in payloads.values() if payload), None),
            answer=answer,
            first=first,
            last=last,
            choices=choices,
            ours=OURS,
            percent=percent,
            definitions={name: text for name, text in texts.items() if text},
            # Marked safe: files of the package, and data whose "<" as_json has escaped.
            data=Markup(as_json(drawn)),
            style=Markup(source("report.css")),
            script=Markup(source("look.js") + source("report.js")),
            plotly=Markup(get_plotlyjs()) if any(payloads.values()) or charts or parts else "",
        )
    )


def _joined(models: Mapping[str, ModelResults], name: str) -> pd.DataFrame | None:
    """The curves or summaries of all models in one table, each model under its label."""
    found = [
        table.assign(model=label)
        for label, one in models.items()
        if (table := getattr(one, name)) is not None and not table.empty
    ]
    return pd.concat(found, ignore_index=True) if found else None


def _heads(
    one: ModelResults, percent: float, definitions: Mapping[str, str]
) -> dict[str, Any] | None:
    if one.scores is None or one.thresholds is None:
        return None
    known = [float(value) for value in one.thresholds["percent"].to_numpy()]
    if not np.isclose(known, percent).any():
        raise UserError(f"percent={percent} is not one of the thresholds' shares {known}")
    return heads_payload(one.scores, one.thresholds, definitions)


def _thresholds(
    models: Mapping[str, ModelResults],
    curves: pd.DataFrame | None,
    published: pd.DataFrame | None,
) -> pd.DataFrame:
    """The thresholds of all models on all data sets, as one table."""
    known = _joined(models, "by_task")
    tables = [] if known is None else [known]
    if curves is not None:
        own_tables = [] if known is None else known["model"].unique()
        tables.append(thresholds_of_curves(curves[~curves["model"].isin(own_tables)]))
    for label, one in models.items():
        own = None if curves is None else set(curves.loc[curves["model"] == label, "task"])
        # The task text-loss has the same texts; their thresholds must not count twice.
        if one.thresholds is None or (own and "text-loss" in own):
            continue
        name = str(one.config.get("texts") or "texts")
        tables.append(thresholds_table(one.thresholds, model=label, task=name))
    if published is not None:
        tables.append(published)
    kept = [table for table in tables if len(table)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=COLUMNS)


def _tables(
    summary: pd.DataFrame | None,
    curves: pd.DataFrame | None,
    found: Sequence[Setting],
    within: Tolerances,
    *,
    several: bool,
) -> list[Table]:
    """The tables of each model: its summary at one percent or, without one, its ranking."""
    tables = [] if summary is None else summary_tables(summary, curves, within, several=several)
    known = set() if summary is None else set(summary["model"])
    for one in found:
        rest = one.ranking[~one.ranking["model"].isin(known)]
        tables += ranking_tables(rest, one.metric, within, several=several)
    return tables


def _choices(
    models: Mapping[str, ModelResults],
    payloads: Mapping[str, dict[str, Any] | None],
    summary: pd.DataFrame | None,
    found: Sequence[Setting],
    parts: Sequence[Any],
    percent: float,
) -> dict[str, Any]:
    """The models, scores and percents that the reader can choose, and the first choice of each."""
    drawn = [payload for payload in payloads.values() if payload]
    scores = [score["name"] for payload in drawn for score in payload["scores"]]
    scores += [part.shown.score for part in parts if part.shown.score is not None]
    # Lines of the curves can be chosen too, except baselines', which always stand out.
    scores += [name for one in found for name in one.ranking["score"] if not is_baseline(name)]
    percents = {one for payload in drawn for one in payload["percents"]}
    percents |= {part.shown.percent for part in parts if part.shown.percent is not None}
    known = [*models, *(part.shown.model for part in parts if part.shown.model is not None)]
    names, named = list(dict.fromkeys(scores)), list(dict.fromkeys(known))
    return {
        "models": named if len(named) > 1 else [],
        "scores": names,
        "score": _best(summary, found, names),
        "percents": sorted(percents),
        "percent": min(percents, key=lambda one: abs(one - percent), default=percent),
    }


def _best(summary: pd.DataFrame | None, found: Sequence[Setting], names: list[str]) -> str:
    """The score that the page shows first: the best of those that it can draw."""
    if found and found[0].n_models > 1:
        ranked = list(count_ranks(found[0].ranking)["score"])
    else:
        ranked = (
            [] if summary is None else list(summary.sort_values("rank", kind="stable")["score"])
        )
    return next((str(name) for name in chain(ranked, names) if name in names), "")


def _words(
    found: Sequence[Setting],
    summary: pd.DataFrame | None,
    curves: pd.DataFrame | None,
    answers: Answers,
    n_models: int,
    within: Tolerances,
) -> list[str]:
    words = [compared(one.ranking, one.title, one.metric) for one in found if one.n_models > 1]
    if summary is not None and n_models <= FEW and summary["rank"].notna().any():
        words += verdict(summary[summary["rank"].notna()], curves, answers, within)
    if not words and not found:
        words = verdict(None, None)
    return words


def _plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "definitions"}
