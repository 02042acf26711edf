"""A report about one model's heads: scores, thresholds, ablations, and the page that shows them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.analysis.curves.summary import best_of, summarize, with_certainty
from inactive_heads.analysis.heads.threshold_stability import thresholds_by_task
from inactive_heads.analysis.heads.thresholds import choose_thresholds, select_heads
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.files import digest_of, writable_folder, write_whole
from inactive_heads.models.load import load_model
from inactive_heads.models.model import Model
from inactive_heads.provenance import now, versions
from inactive_heads.report.options import ReportOptions, check_options, percents_of
from inactive_heads.report.page import render as page
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.text_groups import scores_by_kind
from inactive_heads.scores.paper import PAPER_SCORES, get_scores
from inactive_heads.scores.registry import REGISTRY
from inactive_heads.scores.score_heads import labelled_scores, score_heads
from inactive_heads.sweeps.cost import describe, plan_sweep, seconds_per_token
from inactive_heads.sweeps.executors import choose_executor
from inactive_heads.sweeps.grid import RANDOM, Grid, make_grid
from inactive_heads.sweeps.head_to_head import challenges
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.results import Sweep, save_items
from inactive_heads.sweeps.run_folder import Finished, RunFolder, open_run
from inactive_heads.sweeps.sweep import run_settings, run_sweep
from inactive_heads.tasks.base import Task, TextTask
from inactive_heads.tasks.load import load_task
from inactive_heads.tasks.texts import cut_at_random, cut_to, load_texts

SWEPT_SCORES = ("AHON (LN)", "LTHON (LN)", "AHRN (LN)", "AVVN (LN)", "AEQD", "AWFT", RANDOM)
"""What a report ablates questions by unless told: one score of each kind, and the baseline.

Next-token loss, which is cheaper, is measured for all fifteen.
"""

SPANS = {"bundled": (64, 256), "fineweb-edu": (10, 3000)}
"""Between how many tokens texts are cut at random; a user's own are not."""

DEFAULT_TEXTS, DEFAULT_QUESTIONS = 10, 30
"""Sizes of a report's bundled data, such that it takes minutes on two cores."""


def build_reports(
    several: Sequence[ReportOptions],
    out: str | Path,
    *,
    announce: Callable[[str], None] = lambda text: None,
) -> tuple[Path, pd.DataFrame]:
    """Score, ablate and write everything; the path of report.html and the summary table.

    What is cheap to check is checked before a model is loaded. The folder keeps every
    finished unit of work, so that an interrupted report goes on where it was. ``announce`` is
    given the plan before the work begins.

    Args:
        several: what is asked of each model, its ``out`` a folder of its own.
        out: where the page is written that shows all of them.
        announce: told the plan of each model before its work begins.

    Raises:
        UserError: whatever of the options, the models or the data is wrong, or a folder holds
            a report with other settings.
    """
    for options in several:
        check_options(options)
    place = writable_folder(out)
    results = []
    for options in several:
        prepared = prepare_report(options)
        with open_run(options.out, prepared.settings) as run:
            announce(prepared.plan(run.n_finished))
            results.append(_run_model(prepared, run))
    write_whole(
        place / "report.html", page.render(results, percent=several[0].at, within=several[0].within)
    )
    summary = pd.concat([one.summary for one in results], ignore_index=True)
    if len(results) > 1:
        for name, column in (("curves", "curves"), ("thresholds", "by_task")):
            table = pd.concat([getattr(one, column) for one in results], ignore_index=True)
            write_whole(place / f"{name}.csv", table.to_csv(index=False))
        write_whole(place / "summary.csv", summary.to_csv(index=False))
    return place / "report.html", summary


def plan_report(options: ReportOptions) -> str:
    """What `build_reports` would do and how long it would take, in words."""
    check_options(options)
    return prepare_report(options).plan(0)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A report's model, texts and tasks, loaded and tokenized."""

    options: ReportOptions
    samples: list[list[int]]
    job: Job
    grids: dict[str, Grid]

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the report's numbers."""
        scored = {"samples": digest_of(self.samples), "at": self.options.at}
        return run_settings(self.job, self.grids) | scored

    def plan(self, finished: int) -> str:
        """What is to be done, in words."""
        plans = {name: plan_sweep(self.job, name, grid) for name, grid in self.grids.items()}
        return describe(plans, seconds_per_token(self.job), finished)


def prepare_report(options: ReportOptions) -> Prepared:
    """Load what the report is about and see what there is to do."""
    texts = _texts(options)
    questions = [_questions(options, name) for name in options.tasks if name != "text-loss"]
    model = load_model(
        options.model,
        engine=options.engine,
        dtype=options.dtype,
        device=options.device,
        device_map=options.device_map,
        revision=options.revision,
        tokenizer=options.tokenizer,
        bos=options.bos,
        chat_template=options.chat_template,
        trust_remote_code=options.trust_remote_code,
    )
    samples = _samples(options, model, texts)
    tasks: list[Task] = [*questions]
    if "text-loss" in options.tasks:
        tasks.append(TextTask("text-loss", samples, {"texts": options.texts}))
    grids = {task.name: _grid(options, model, task) for task in tasks}
    swept = [
        *get_scores(_drawn(options)),
        *(score for grid in grids.values() for score in grid.scores),
    ]
    job = Job(
        model,
        {task.name: PreparedTask.of(model, task) for task in tasks},
        {score.name: score for score in swept},
        options.batch_size,
    )
    return Prepared(options, samples, job, grids)


def _run_model(prepared: Prepared, run: RunFolder) -> ModelResults:
    options, job, folder = prepared.options, prepared.job, run.folder
    executor = choose_executor(
        options.executor,
        model=job.model,
        workers=options.workers,
        ray_address=options.ray_address,
        gpus_per_worker=options.gpus_per_worker,
    )
    sweeps: list[Sweep] = []

    def keep(rows: pd.DataFrame) -> None:
        curves = pd.concat([*(done.curves for done in sweeps), rows], ignore_index=True)
        write_whole(folder / "curves.csv", curves.to_csv(index=False))

    for name, grid in prepared.grids.items():
        sweeps.append(run_sweep(job, name, grid, run, executor, on_point=keep))
    save_items(folder, sweeps)
    curves = pd.concat([done.curves for done in sweeps], ignore_index=True)
    scores = _scores(prepared, sweeps, run)
    scores.attrs["texts"] = options.texts
    thresholds = choose_thresholds(scores, percents_of(options))
    scores.to_netcdf(folder / "scores.nc", engine="h5netcdf")

    rankings = {  # one item says nothing about others, and one share makes no curve
        name: done.ranking(within=options.within.get(done.metric))
        for name, done in zip(prepared.grids, sweeps, strict=True)
        if job.tasks[name].n_items > 1 and prepared.grids[name].shares
    }
    summary = summarize(curves, thresholds, percent=options.at)
    summary = with_certainty(summary, rankings)
    config = _config(prepared)
    by_task = thresholds_by_task(
        {name: _own_scores(done) for name, done in zip(prepared.grids, sweeps, strict=True)},
        [share for share in percents_of(options) if share > 0],
        model=job.model.name,
    )
    write_whole(folder / "summary.csv", summary.to_csv(index=False))
    write_whole(folder / "thresholds.csv", by_task.to_csv(index=False))
    write_whole(folder / "config.json", json.dumps(config, indent=1, default=str) + "\n")
    _best_heads(options, scores, summary, job.model).save(folder / "heads.json")
    return ModelResults(
        options.called or job.model.name,
        revision=options.checkpoint or options.revision or str(job.model.provenance["revision"]),
        scores=scores,
        inputs=scores_by_kind(job.tasks, sweeps, options.texts, _drawn(options)),
        thresholds=thresholds,
        curves=curves,
        summary=summary,
        by_task=by_task,
        challenges=challenges(dict(zip(prepared.grids, sweeps, strict=True)), rankings),
        config={key: value for key, value in config.items() if key != "asked"},
    )


def _grid(options: ReportOptions, model: Model, task: Task) -> Grid:
    usual = (*PAPER_SCORES, RANDOM) if isinstance(task, TextTask) else SWEPT_SCORES
    return make_grid(
        model,
        scores=dict.fromkeys([*(options.scores or usual), *options.own_scores]),
        percents=percents_of(options),
        mode=options.mode,
        shard_tokens=options.shard_tokens,
        seed=options.seed,
    )


def _drawn(options: ReportOptions) -> list[str]:
    """The scores whose heads are shown: the paper's and the user's."""
    return list(dict.fromkeys([*PAPER_SCORES, *options.own_scores]))


def _scores(prepared: Prepared, sweeps: Sequence[Sweep], run: RunFolder) -> xr.DataArray:
    """The scores of the texts: from the sweep that ran them, or a pass of their own."""
    names = _drawn(prepared.options)
    for name, done in zip(prepared.grids, sweeps, strict=True):
        if name == "text-loss" and done.scores is not None:
            return done.scores.sel(score=names)
    if (finished := run.read("scores")) is None:
        options, model = prepared.options, prepared.job.model
        found = score_heads(model, prepared.samples, scores=names, batch_size=options.batch_size)
        finished = Finished({}, found.values)
        run.write("scores", finished)
    lengths = list(map(len, prepared.samples))
    model = prepared.job.model
    return labelled_scores(
        finished.array, get_scores(names), model.shape.layers, lengths, provenance=model.provenance
    )


def _texts(options: ReportOptions) -> list[str]:
    n = options.num_texts
    if n is None and options.texts == "bundled":
        n = DEFAULT_TEXTS
    return load_texts(options.texts, n=n, seed=options.seed)


def _samples(options: ReportOptions, model: Model, texts: list[str]) -> list[list[int]]:
    """The texts as tokens: cut at random as in the paper, or, a user's own, only when asked."""
    shortest, usual = SPANS.get(options.texts, (0, None))
    longest = usual if options.max_tokens is None else options.max_tokens
    if usual is None or longest is None:
        return cut_to(model, texts, longest)
    return cut_at_random(
        model, texts, shortest=min(shortest, longest), longest=longest, seed=options.seed
    )


def _questions(options: ReportOptions, name: str) -> Task:
    bundled_quiz = name == "quiz" and options.data is None
    return load_task(
        name,
        data=options.data,
        shots=options.num_fewshot,
        limit=DEFAULT_QUESTIONS if options.limit is None and bundled_quiz else options.limit,
        subjects=options.subjects,
        scoring=options.scoring,
        seed=options.seed,
    )


def _best_heads(
    options: ReportOptions, scores: xr.DataArray, summary: pd.DataFrame, model: Model
) -> Fixed:
    """The heads that the best-ranked score calls inactive, averaged over the texts."""
    best = best_of(summary, PAPER_SCORES) or "AHON (LN)"
    about = {"model": model.name, "score": best, "percent": options.at, "created": now()}
    return Fixed(select_heads(scores, best, options.at), about=about)


def _own_scores(done: Sweep) -> xr.DataArray:
    """The paper's scores of the inputs of a report's task."""
    assert done.scores is not None, "a report's sweeps score all heads along"
    return done.scores.sel(score=list(PAPER_SCORES))


def _config(prepared: Prepared) -> dict[str, Any]:
    options, samples = prepared.options, prepared.samples
    return {
        **prepared.job.model.provenance,
        "asked": asdict(options),
        "texts": options.texts,
        "n_texts": len(samples),
        "n_tokens": sum(map(len, samples)),
        "tasks": {
            name: {**one.task.about, "n": one.n_items} for name, one in prepared.job.tasks.items()
        },
        "seed": options.seed,
        "versions": {name.removeprefix("version_"): value for name, value in versions().items()},
        "time": now(),
        "command": _command(),
        "definitions": {name: REGISTRY[name].definition for name in _drawn(options)},
    }


def _command() -> str:
    """The command line, as one would type it again."""
    program = Path(sys.argv[0]).name
    started = "python -m inactive_heads.report" if program == "__main__.py" else program
    return shlex.join([*started.split(), *sys.argv[1:]])
