"""Units of work done in this process, or in several that each load the model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr

from inactive_heads.errors import UserError
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.load import load_model
from inactive_heads.progress import Advance
from inactive_heads.scores.registry import REGISTRY, Score
from inactive_heads.sweeps.job import ATTEMPTS, Job, Worker, is_known, tokens_of
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit


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


def _check_scores(scores: Mapping[str, Score]) -> None:
    own = [name for name, score in scores.items() if not is_known(score)]
    if own:
        raise UserError(
            f"{', '.join(own)} cannot be taken to worker processes, which know the package's "
            'scores only: use one worker, or executor="ray"'
        )
