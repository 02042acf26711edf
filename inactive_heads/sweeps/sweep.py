"""A sweep: a model evaluated on one task at every score and percent of heads zeroed.

    scores of the unablated model → thresholds or head sets → units of work → points → curves

Units are done by an executor (`inactive_heads.sweeps.executors`). Their results are kept in a run folder
(`inactive_heads.sweeps.run_folder`), so a sweep that was killed can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.metrics import LOSS
from inactive_heads.evaluation.outcomes import DIVERGENCE, Outcomes
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.files import write_whole
from inactive_heads.models.load import as_model
from inactive_heads.names import PAPER_PERCENTS, Mode
from inactive_heads.progress import Board, sweep_board
from inactive_heads.provenance import versions
from inactive_heads.scores.registry import ScoreLike
from inactive_heads.scores.score_heads import labelled_scores
from inactive_heads.specs import ExecutionSpec
from inactive_heads.sweeps.executors import choose_executor
from inactive_heads.sweeps.grid import Grid, Point, make_grid
from inactive_heads.sweeps.job import Executor, Job
from inactive_heads.sweeps.results import COLUMNS, Sweep, save_items
from inactive_heads.sweeps.run_folder import Finished, RunMemory, UnitStore, open_run
from inactive_heads.sweeps.unit import Unit, shards_of
from inactive_heads.tasks.base import Task


def sweep(
    model: Any,
    task: Task | str,
    *,
    scores: ScoreLike | Iterable[ScoreLike] | None = None,
    percents: float | Iterable[Any] = PAPER_PERCENTS,
    mode: Mode = "per-input",
    thresholds: xr.DataArray | None = None,
    calibration: xr.DataArray | None = None,
    replacement: xr.DataArray | None = None,
    out: str | Path | None = None,
    executor: str | Executor = "local",
    workers: int | None = None,
    shard_tokens: int | None = None,
    seed: int = 0,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """The task's accuracy or loss for every score and percent of heads zeroed.

        curves = ih.sweep(model, ih.load_task("quiz"), scores=["AHON (LN)", "Random"])
        ih.rank_scores(curves)

    One pass of the unablated model gives the baseline and the scores of the task's inputs.
    Thresholds (or fixed head sets) are chosen from these scores unless ``thresholds`` or
    ``calibration`` is given.

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        task: from `load_task`, or its name.
        scores: names or functions, or a single one; by default the paper's fifteen and Random.
            "Random" and, with any score's name, "Placebo of AHON (LN)" are baselines: heads drawn
            at random, and in every layer as many as the score silences there (see `Placebo`).
        percents: the percents of heads to zero; by default the paper's: 0, 5, 10, 15, 20, 25, 30.
            0, the baseline, is always included.
        mode: "per-input", as in the paper, or "fixed", one head set for all inputs.
        thresholds: ``(score, percent)`` from `choose_thresholds`, chosen on other data.
        calibration: scores on other data, from `score_heads`, to choose heads by.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`, replaces the output of
            silenced heads; zero by default. With a replacement, compare scores that measure the
            distance from it, such as `read_output_distance`.
        out: a folder that keeps every finished unit of work. Called again with the same arguments,
            an interrupted sweep resumes. ``curves.csv`` in the folder is updated after every point;
            `load_sweeps` reads the finished sweep. By default, nothing is saved.
        executor: "local", "ray", or an executor of your own.
        workers: the number of processes that each load the model; see `ExecutionSpec`.
        shard_tokens: the most tokens per unit of work; by default a few minutes' worth.
        seed: the seed of baselines.
        batch_size: inputs per batch, or "auto".
        progress: whether to show progress on a terminal.

    Returns:
        One row per score and percent, with the columns model; task; score; mode; percent;
        threshold, NaN for baselines and fixed head sets; percent_zeroed; accuracy, in %, with its 95%
        interval ci_low to ci_high; n, the number of items; loss, in nats per token, with loss_low
        to loss_high; and the paired changes from the baseline with the kl and, for texts, the
        top1_agreement of predictions, see `Outcomes.effect`. Columns that the task does not measure
        are NaN.

    Raises:
        UserError: a score, the mode or the executor is unknown; a percent is outside 0 to 100;
            ``thresholds`` or ``calibration`` lack a score or percent; an input is longer than the
            model's context; or the folder cannot be written, is in use, or holds a sweep with other
            settings.
    """
    subject = as_model(model)
    grid = make_grid(
        subject,
        scores=scores,
        percents=percents,
        mode=mode,
        thresholds=thresholds,
        calibration=calibration,
        replacement=replacement,
        shard_tokens=shard_tokens,
        seed=seed,
    )
    prepared = PreparedTask.of(subject, task)
    named = {score.name: score for score in grid.scored}
    name = prepared.task.name
    job = Job(subject, {name: prepared}, named, batch_size)
    if isinstance(executor, str):
        executor = choose_executor(ExecutionSpec(executor=executor, workers=workers), subject)
    if out is None:
        return run_sweep(job, name, grid, RunMemory(), executor, progress=progress).curves
    with open_run(out, run_settings(job, {name: grid})) as run:

        def save_curves(rows: pd.DataFrame) -> None:
            write_whole(run.folder / "curves.csv", rows.to_csv(index=False))

        found = run_sweep(job, name, grid, run, executor, on_point=save_curves, progress=progress)
        save_items(run.folder, [found])
        return found.curves


def run_sweep(
    job: Job,
    task: str,
    grid: Grid,
    store: UnitStore,
    executor: Executor,
    *,
    on_point: Callable[[pd.DataFrame], None] = lambda rows: None,
    progress: bool = True,
) -> Sweep:
    """The sweep of one of a job's tasks.

    Args:
        job: the model and its tasks.
        task: the name of the task.
        grid: what the sweep varies.
        store: keeps finished units; units that it already has are not done again.
        executor: does the other units.
        on_point: called with the rows of `sweep` so far, after the baseline and after every point.
        progress: whether to show progress on a terminal.

    Returns:
        The curves, and the outcome of every item at every point.

    Raises:
        UserError: a unit cannot be done, or a file cannot be written.
    """
    prepared, model = job.tasks[task], job.model
    shards = shards_of(prepared, grid.shard_tokens)
    total = grid.n_points * prepared.n_tokens
    with sweep_board(task, total, grid.names, grid.percents, show=progress) as board:
        unablated = [Unit(task, shard) for shard in shards]
        done = dict(_finished(job, unablated, store, executor, board))
        baseline = _outcomes(done, unablated)
        own = _own_scores(job, prepared, [done[unit].array for unit in unablated])
        points = grid.points(task, shards, own, model.shape)
        outcomes = {(name, 0.0): baseline for name in grid.names}
        unchanged = baseline.summary() | baseline.effect(baseline)
        row_of = {
            key: _about(model.name, task, grid.mode, Point(*key, float("nan"), [])) | unchanged
            for key in outcomes
        }

        def rows() -> pd.DataFrame:
            order = [(name, percent) for name in grid.names for percent in (0.0, *grid.percents)]
            return pd.DataFrame(
                [row_of[key] for key in order if key in row_of], columns=list(COLUMNS)
            )

        def judge(point: Point) -> None:
            key = point.score, point.percent
            outcomes[key] = found = _outcomes(done, point.units)
            about = _about(model.name, task, grid.mode, point)
            row_of[key] = about | found.summary() | found.effect(baseline)
            board.put(*key, row_of[key])
            on_point(rows())

        on_point(rows())
        waiting = [point for point in points if not done.keys() >= set(point.units)]
        for point in points:
            if done.keys() >= set(point.units):  # an empty fixed set is the baseline
                judge(point)
        wanted = [unit for point in waiting for unit in point.units]
        for unit, finished in _finished(job, wanted, store, executor, board):
            done[unit] = finished
            for point in [one for one in waiting if done.keys() >= set(one.units)]:
                waiting.remove(point)
                judge(point)
        return Sweep(rows(), outcomes, own)


def run_settings(job: Job, grids: Mapping[str, Grid]) -> dict[str, Any]:
    """The settings that determine the results of sweeps.

    Args:
        job: the model and its tasks.
        grids: what each task's sweep varies, by the task's name.

    Returns:
        Settings that JSON can represent. Runs with equal settings have equal results.
    """
    return {
        "model": job.model.provenance,
        "tasks": {
            name: {
                "about": job.tasks[name].task.about,
                "inputs": job.tasks[name].digest,
                "compared": list(DIVERGENCE) if job.tasks[name].task.metric == LOSS else [],
                **grid.settings,
            }
            for name, grid in grids.items()
        },
        "batch_size": job.batch_size,
        "versions": versions(),
    }


def _finished(
    job: Job, units: Iterable[Unit], store: UnitStore, executor: Executor, board: Board
) -> Iterator[tuple[Unit, Finished]]:
    """Each unit once, as soon as it is done; units in the store come first."""
    missing = []
    for unit in dict.fromkeys(units):
        if (finished := store.read(unit.name)) is None:
            missing.append(unit)
        else:
            board.advance(job.n_tokens(unit))
            yield unit, finished
    for unit, finished in executor.run(job, missing, board.advance):
        store.write(unit.name, finished)
        yield unit, finished


def _outcomes(done: Mapping[Unit, Finished], units: Sequence[Unit]) -> Outcomes:
    facts = [done[unit].facts for unit in units]
    items = pd.concat([pd.DataFrame(one["items"]) for one in facts], ignore_index=True)
    zeroed, heads = (sum(one[key] for one in facts) for key in ("n_zeroed", "n_heads"))
    return Outcomes(items, facts[0]["metric"], 100 * zeroed / heads)


def _own_scores(
    job: Job, prepared: PreparedTask, arrays: Sequence[np.ndarray]
) -> xr.DataArray | None:
    if not job.scores:
        return None
    return labelled_scores(
        np.concatenate(arrays, axis=1),
        list(job.scores.values()),
        job.model.shape,
        [len(one.tokens) for one in prepared.inputs],
        provenance=job.model.provenance,
    )


def _about(model: str, task: str, mode: str, point: Point) -> dict[str, Any]:
    about = (model, task, point.score, mode, point.percent, point.threshold)
    return dict(zip(COLUMNS, about, strict=False))
