"""Builds a report: runs the sweeps, summarizes their results, and writes the files."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.analysis.curves.summary import summarize, with_certainty
from inactive_heads.analysis.heads.threshold_stability import thresholds_by_task
from inactive_heads.analysis.heads.thresholds import choose_thresholds, select_heads
from inactive_heads.files import writable_folder, write_whole
from inactive_heads.names import PAPER_SCORES, TEXT_LOSS
from inactive_heads.provenance import now, versions
from inactive_heads.report.answer import answer_of, head_labels
from inactive_heads.report.mean_outputs import keep_means
from inactive_heads.report.options import ReportOptions
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.page.render import render
from inactive_heads.report.prepare import PreparedReport, prepare_report
from inactive_heads.report.text_groups import scores_by_kind
from inactive_heads.scores.score_heads import labelled_scores, score_heads
from inactive_heads.sweeps.executors import choose_executor
from inactive_heads.sweeps.grid import make_grid
from inactive_heads.sweeps.head_to_head import challenges
from inactive_heads.sweeps.job import Executor
from inactive_heads.sweeps.results import Sweep, save_items
from inactive_heads.sweeps.run_folder import Finished, RunFolder, open_run
from inactive_heads.sweeps.sweep import run_sweep
from inactive_heads.tasks.bundled_texts import about_texts


def build_reports(
    several: Sequence[ReportOptions],
    out: str | Path,
    *,
    announce: Callable[[str], None] = lambda text: None,
) -> tuple[Path, pd.DataFrame]:
    """Score and ablate models, and write a report of all of them.

    As far as possible, options are checked before a model is loaded. Each model's folder keeps
    every finished unit of work, so that an interrupted report can be resumed.

    Args:
        several: the options for each model, with a folder for each.
        out: the folder for the page that shows all models.
        announce: called with the plan of each model before its work begins.

    Returns:
        The path of report.html, and the summary table of all models, with one row per model, task
        and score.

    Raises:
        UserError: an option is invalid, a model, task or text cannot be loaded, or a folder cannot
            be written, is in use, or holds a report with other settings.
    """
    for options in several:
        options.check()
    folder = writable_folder(out)
    results = []
    for options in several:
        prepared = prepare_report(options)
        with open_run(options.out, prepared.settings) as run:
            announce(prepared.plan(run.n_finished))
            if prepared.means is not None:
                keep_means(prepared.means, run.folder)
            executor = choose_executor(options.execution, prepared.job.model)
            sweeps = _run_sweeps(prepared, run, executor)
            scores = _text_scores(prepared, sweeps, run)
            found = _conclude(prepared, sweeps, scores)
            found = _with_effects(found, prepared, run, executor)
            _write(prepared, found, run.folder)
            results.append(found)
    html = render(results, percent=several[0].at, within=several[0].within)
    write_whole(folder / "report.html", html)
    summary = pd.concat([one.summary for one in results], ignore_index=True)
    if len(results) > 1:
        for name, column in (("curves", "curves"), ("thresholds", "by_task")):
            table = pd.concat([getattr(one, column) for one in results], ignore_index=True)
            write_whole(folder / f"{name}.csv", table.to_csv(index=False))
        write_whole(folder / "summary.csv", summary.to_csv(index=False))
    return folder / "report.html", summary


def _run_sweeps(prepared: PreparedReport, run: RunFolder, executor: Executor) -> dict[str, Sweep]:
    """Run the sweep of every task, and update the curves in the folder after every point."""
    job = prepared.job
    sweeps: dict[str, Sweep] = {}

    def save_curves(rows: pd.DataFrame) -> None:
        curves = pd.concat([*(done.curves for done in sweeps.values()), rows], ignore_index=True)
        write_whole(run.folder / "curves.csv", curves.to_csv(index=False))

    for name, grid in prepared.grids.items():
        sweeps[name] = run_sweep(job, name, grid, run, executor, on_point=save_curves)
    save_items(run.folder, list(sweeps.values()))
    return sweeps


def _text_scores(
    prepared: PreparedReport, sweeps: dict[str, Sweep], run: RunFolder
) -> xr.DataArray:
    """The scores of the texts: from the sweep on text loss, or from a pass of their own."""
    names, options, model = prepared.scores, prepared.options, prepared.job.model
    swept = sweeps[TEXT_LOSS].scores if TEXT_LOSS in sweeps else None
    if swept is not None:
        scores = swept.sel(score=names)
    else:
        if (finished := run.read("scores")) is None:
            batch_size = options.execution.batch_size
            found = score_heads(
                model, prepared.samples, scores=prepared.drawn, batch_size=batch_size
            )
            finished = Finished({}, found.values)
            run.write("scores", finished)
        scores = labelled_scores(
            finished.array,
            prepared.drawn,
            model.shape,
            list(map(len, prepared.samples)),
            provenance=model.provenance,
        )
    scores.attrs |= about_texts(options.texts.source)
    return scores


def _conclude(
    prepared: PreparedReport, sweeps: dict[str, Sweep], scores: xr.DataArray
) -> ModelResults:
    """The results to show, computed from the sweeps and scores; nothing is run or written."""
    options, job = prepared.options, prepared.job
    thresholds = choose_thresholds(scores, options.all_percents)
    curves = pd.concat([done.curves for done in sweeps.values()], ignore_index=True)
    rankings = {  # a ranking needs several items, and a percent above 0
        name: done.ranking(within=options.within.get(done.metric))
        for name, done in sweeps.items()
        if job.tasks[name].n_items > 1 and prepared.grids[name].percents
    }
    summary = with_certainty(summarize(curves, thresholds, percent=options.at), rankings)
    sets = {name: select_heads(scores, name, options.at) for name in prepared.scores}
    summary["heads"] = [
        head_labels(sets[name]) if name in sets else "" for name in summary["score"]
    ]
    by_task = thresholds_by_task(
        {name: _paper_scores(done) for name, done in sweeps.items()},
        [percent for percent in options.all_percents if percent > 0],
        model=job.model.name,
    )
    return ModelResults(
        options.called or job.model.name,
        revision=(
            options.checkpoint or options.model.revision or str(job.model.provenance["revision"])
        ),
        scores=scores,
        inputs=scores_by_kind(list(job.tasks.values()), list(sweeps.values()), prepared.scores),
        thresholds=thresholds,
        curves=curves,
        summary=summary,
        by_task=by_task,
        challenges=challenges(sweeps, rankings),
        answer=answer_of(scores, summary, options.at),
        config=_config(prepared),
    )


def _with_effects(
    found: ModelResults, prepared: PreparedReport, run: RunFolder, executor: Executor
) -> ModelResults:
    """The results with what zeroing the report's one set of heads does on every task."""
    answer, options, job = found.answer, prepared.options, prepared.job
    assert answer is not None
    file, source = str(Path(options.out) / "heads.json"), str(options.model.source or "")
    answer = replace(answer, file=file, source=source)
    if not answer.heads.any():
        return replace(found, answer=answer)
    grid = make_grid(
        job.model,
        scores=[score for score in prepared.drawn if score.name == answer.score],
        percents=[answer.percent],
        mode="fixed",
        calibration=found.scores,
        replacement=prepared.means,
        shard_tokens=options.execution.shard_tokens,
        seed=options.seed,
    )
    curves = [run_sweep(job, name, grid, run, executor).curves for name in prepared.grids]
    rows = pd.concat([one[one["percent"] > 0] for one in curves], ignore_index=True)
    return replace(found, answer=replace(answer, effects=rows))


def _write(prepared: PreparedReport, found: ModelResults, folder: Path) -> None:
    """Write the files of one model, other than its curves and items."""
    assert found.scores is not None
    assert found.summary is not None
    assert found.by_task is not None
    assert found.answer is not None
    config = {**found.config, "asked": prepared.options.asked}
    found.scores.to_netcdf(folder / "scores.nc", engine="h5netcdf")
    write_whole(folder / "summary.csv", found.summary.to_csv(index=False))
    write_whole(folder / "thresholds.csv", found.by_task.to_csv(index=False))
    write_whole(folder / "config.json", json.dumps(config, indent=1, default=str) + "\n")
    shape, answer = prepared.job.model.shape, found.answer
    sizes = {"n_layers": shape.n_layers, "n_heads": shape.n_heads}
    chosen = {"score": answer.score, "percent": answer.percent, "created": now()}
    about = {"model": prepared.job.model.name, **sizes, **chosen}
    if answer.tied:
        about["tied_with"] = list(answer.tied)
    if prepared.means is not None:
        about["replacement"] = prepared.options.replacement
    Fixed(answer.heads, about=about).save(folder / "heads.json")


def _paper_scores(done: Sweep) -> xr.DataArray:
    """The paper's scores of a task's inputs."""
    assert done.scores is not None, "a report's sweeps score all heads along the way"
    return done.scores.sel(score=list(PAPER_SCORES))


def _config(prepared: PreparedReport) -> dict[str, Any]:
    """The facts that identify the run, for ``config.json``."""
    samples, tasks = prepared.samples, prepared.job.tasks
    return {
        **prepared.job.model.provenance,
        **about_texts(prepared.options.texts.source),
        "n_texts": len(samples),
        "n_tokens": sum(map(len, samples)),
        "tasks": {name: {**one.task.about, "n": one.n_items} for name, one in tasks.items()},
        "seed": prepared.options.seed,
        "versions": {name.removeprefix("version_"): value for name, value in versions().items()},
        "time": now(),
        "command": _command(),
        "replacement": prepared.options.replacement,
        "definitions": {score.name: score.definition for score in prepared.drawn},
    }


def _command() -> str:
    """The command line that repeats this report."""
    program = Path(sys.argv[0]).name
    started = "python -m inactive_heads.report" if program == "__main__.py" else program
    return shlex.join([*started.split(), *sys.argv[1:]])
