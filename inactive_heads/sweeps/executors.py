"""Where units of work are done: in this process, or in several that each load the model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import xarray as xr

from inactive_heads.errors import UserError
from inactive_heads.evaluation.evaluate import PreparedTask
from inactive_heads.models.load import Model, load_model
from inactive_heads.progress import Advance
from inactive_heads.scores.literature import GALLERY_SCORES
from inactive_heads.scores.proposed import PROPOSED_SCORES
from inactive_heads.scores.registry import PAPER_SCORES, REGISTRY, Score
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit, Worker

OF_THE_PACKAGE = {
    name: REGISTRY[name] for name in (*PAPER_SCORES, *GALLERY_SCORES, *PROPOSED_SCORES)
}
ATTEMPTS = 3
"""How often a unit may take its worker with it before the run gives up."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs besides units: how to load the model, the tasks, the scores.

    ``replacement`` is what is put in the place of silenced heads; zero if None.
    """

    model: Model
    tasks: Mapping[str, PreparedTask]
    scores: Mapping[str, Score]
    batch_size: int | str = "auto"
    replacement: xr.DataArray | None = None

    def recipe(self) -> dict[str, Any]:
        """What `load_model` takes to load the model once more.

        Raises:
            UserError: it was not loaded by `load_model`.
        """
        if self.model.recipe is None:
            raise UserError(
                f"{self.model.name!r} was given as it is, so other processes cannot load it: "
                'use load_model, or executor="local" with one worker'
            )
        return dict(self.model.recipe)


@runtime_checkable
class Executor(Protocol):
    """Does units of a job, in any order, and gives each as soon as it is done."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]: ...


@dataclass(frozen=True)
class InProcess:
    """One unit after the other, here."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Each unit when it is done; ``advance`` hears of every batch."""
        worker = Worker(job.model, job.tasks, job.scores, job.batch_size, job.replacement)
        for unit in units:
            yield unit, worker(unit, advance)


@dataclass(frozen=True)
class Processes:
    """Worker processes on this machine, each with the model; one per GPU, or so many on a CPU.

    A worker that dies takes the pool with it: a new one does what was not finished.
    """

    n_workers: int

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Each unit when it is done.

        Raises:
            UserError: the model, or a score, cannot be taken to another process; or workers
                keep dying.
        """
        recipe, left, deaths = job.recipe(), list(units), 0
        _check_scores(job.scores)
        while left:
            try:
                for unit, finished in self._pool_run(job, recipe, left):
                    left.remove(unit)
                    advance(tokens_of(job, unit))
                    yield unit, finished
            except BrokenProcessPool:
                deaths += 1
                if deaths >= ATTEMPTS:
                    raise UserError(
                        f"worker processes died {deaths} times, out of memory perhaps: try fewer "
                        "workers or a smaller batch size; what is finished is kept"
                    ) from None

    def _pool_run(
        self, job: Job, recipe: dict[str, Any], units: Sequence[Unit]
    ) -> Iterator[tuple[Unit, Finished]]:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for place in _places(self.n_workers, recipe):
            places.put(place)
        threads = max(1, torch.get_num_threads() // self.n_workers)
        pool = ProcessPoolExecutor(
            self.n_workers,
            context,
            initializer=_start_worker,
            initargs=(
                recipe,
                job.tasks,
                list(job.scores),
                job.batch_size,
                job.replacement,
                places,
                threads,
            ),
        )
        try:
            waiting: dict[Future[Finished], Unit] = {pool.submit(_do, unit): unit for unit in units}
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def choose_executor(
    executor: str | Executor = "local",
    *,
    model: Model,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float | None = None,
) -> Executor:
    """The executor of that name.

    "local" works in this process, or, where the model lies on a GPU and there are more, in one
    process per GPU; ``workers`` says how many instead. "ray" is a pool of Ray actors.

    Raises:
        UserError: an unknown name, fewer than one worker, or Ray is not installed.
    """
    if not isinstance(executor, str):
        return executor
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    if executor == "ray":
        from inactive_heads.sweeps.ray_executor import RayActors

        return RayActors(workers, ray_address, gpus_per_worker)
    if executor != "local":
        raise UserError(f"executor={executor!r} is unknown; there are: local, ray")
    if workers is None:
        spread = model.engine.device.type == "cuda" and (model.recipe or {}).get("device") == "auto"
        workers = torch.cuda.device_count() if spread else 1
    return Processes(workers) if workers > 1 else InProcess()


def tokens_of(job: Job, unit: Unit) -> int:
    """Tokens that a unit runs through the model."""
    return job.tasks[unit.task].part(*unit.items).n_tokens


_worker: Worker | None = None


def _start_worker(
    recipe: dict[str, Any],
    tasks: Mapping[str, PreparedTask],
    scores: Sequence[str],
    batch_size: int | str,
    replacement: xr.DataArray | None,
    places: Any,
    threads: int,
) -> None:
    global _worker
    torch.set_num_threads(threads)
    model = load_model(**recipe | {"device": places.get()})
    known = {name: REGISTRY[name] for name in scores}
    _worker = Worker(model, tasks, known, batch_size, replacement)


def _do(unit: Unit) -> Finished:
    assert _worker is not None, "the pool starts every process with a worker"
    return _worker(unit)


def _places(n_workers: int, recipe: Mapping[str, Any]) -> list[str]:
    """The device of each worker: GPUs in turn, or the one that was asked for."""
    if recipe["device"] != "auto" or not torch.cuda.is_available():
        return [recipe["device"]] * n_workers
    return [f"cuda:{index % torch.cuda.device_count()}" for index in range(n_workers)]


def is_known(score: Score) -> bool:
    """Whether any process has the score that imports the package."""
    return OF_THE_PACKAGE.get(score.name) is score


def _check_scores(scores: Mapping[str, Score]) -> None:
    own = [name for name, score in scores.items() if not is_known(score)]
    if own:
        raise UserError(
            f"{', '.join(own)} cannot be taken to worker processes, which know the package's "
            'scores only: use one worker, or executor="ray"'
        )
