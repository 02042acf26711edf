"""Executors on this machine: this process, or several processes that each load the model."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import torch

from inactive_heads.errors import UserError
from inactive_heads.models.load import load
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.scores import BUILT_IN
from inactive_heads.specs import ModelSpec
from inactive_heads.sweeps.job import ATTEMPTS, Job
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit


@dataclass(frozen=True)
class InProcess:
    """Does units one after another in this process."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Do units of work.

        Args:
            job: the model, tasks and scores.
            units: the units to do, in this order.
            advance: called after every batch with the number of its tokens.

        Yields:
            Each unit with its results; see `Job.do`.

        Raises:
            UserError: a unit cannot be done; see `Job.do`.
        """
        for unit in units:
            yield unit, job.do(unit, advance)


@dataclass(frozen=True)
class Processes:
    """Does units in worker processes on this machine, each with its own copy of the model.

    If a worker dies, all are restarted to do the unfinished units.

    Attributes:
        n_workers: the number of processes. If there are GPUs, they are assigned in turn.
    """

    n_workers: int

    def run(
        self, job: Job, units: Sequence[Unit], advance: Advance
    ) -> Iterator[tuple[Unit, Finished]]:
        """Do units of work.

        Args:
            job: the model, tasks and scores.
            units: the units to do.
            advance: called after every unit with the number of its tokens.

        Yields:
            Each unit with its results, in the order in which they are done.

        Raises:
            UserError: the model was not loaded by `load_model`, a score is not one of the
                package's, workers died three times, or a unit cannot be done; see `Job.do`.
        """
        spec, left, deaths = job.model_spec, list(units), 0
        _check_scores(job)
        while left:
            try:
                for unit, finished in self._pool_run(job, spec, left):
                    left.remove(unit)
                    advance(job.n_tokens(unit))
                    yield unit, finished
            except BrokenProcessPool:
                deaths += 1
                if deaths >= ATTEMPTS:
                    raise UserError(
                        f"worker processes died {deaths} times, out of memory perhaps: try fewer "
                        "workers or a smaller batch size; what is finished is kept"
                    ) from None

    def _pool_run(
        self, job: Job, spec: ModelSpec, units: Sequence[Unit]
    ) -> Iterator[tuple[Unit, Finished]]:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for place in _places(self.n_workers, spec):
            places.put(place)
        threads = max(1, torch.get_num_threads() // self.n_workers)
        pool = ProcessPoolExecutor(
            self.n_workers,
            context,
            initializer=_start_worker,
            initargs=(spec, job.with_model, places, threads),
        )
        try:
            waiting: dict[Future[Finished], Unit] = {pool.submit(_do, unit): unit for unit in units}
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_job: Job | None = None
"""The job of a worker process, set when it has loaded the model."""


def _start_worker(
    spec: ModelSpec, make_job: Callable[[Model], Job], places: Any, threads: int
) -> None:
    global _job
    end_with_parent()
    torch.set_num_threads(threads)
    _job = make_job(load(replace(spec, device=places.get())))


def end_with_parent() -> None:
    """End this process as soon as the process that started it has ended, even if it was killed.

    Without this, a worker would finish its unit, which nobody reads, and wait for another forever,
    with the model in memory.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers have a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)  # from this thread, the only way to end the others

    threading.Thread(target=watch, daemon=True).start()


def _do(unit: Unit) -> Finished:
    assert _job is not None, "the pool starts every process with a job"
    return _job.do(unit)


def _places(n_workers: int, spec: ModelSpec) -> list[str]:
    """Each worker's device: the GPUs in turn for "auto", otherwise the device of the spec."""
    if spec.device != "auto" or not torch.cuda.is_available():
        return [spec.device] * n_workers
    return [f"cuda:{index % torch.cuda.device_count()}" for index in range(n_workers)]


def _check_scores(job: Job) -> None:
    own = [name for name, score in job.scores.items() if BUILT_IN.get(name) is not score]
    if own:
        raise UserError(
            f"{', '.join(own)} cannot be taken to worker processes, which know the package's "
            'scores only: use one worker, or executor="ray"'
        )
