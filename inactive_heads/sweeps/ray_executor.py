"""An executor that does units in Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.models.load import load
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance
from inactive_heads.specs import ModelSpec
from inactive_heads.sweeps.job import ATTEMPTS, Job
from inactive_heads.sweeps.run_folder import Finished
from inactive_heads.sweeps.unit import Unit

try:
    import ray
    from ray.exceptions import RayActorError
except ImportError as error:
    raise UserError(
        'executor="ray" needs Ray: pip install "inactive-heads[ray]" on every node'
    ) from error


class _Actor:
    """A worker in its own Ray process, which loads the model once."""

    def __init__(self, spec: ModelSpec, make_job: Callable[[Model], Job]) -> None:
        self.job = make_job(load(spec))

    def do(self, unit: Unit) -> Finished:
        return self.job.do(unit)


@dataclass(frozen=True)
class RayActors:
    """Does units in a pool of Ray actors, each with its own copy of the model.

    An actor that dies is replaced, and its unit done again.

    Attributes:
        n_workers: the number of actors; None for as many as the cluster's GPUs allow, or one per
            node without GPUs.
        address: the cluster's address, as for `ray.init`; None leaves the choice to Ray.
        gpus_per_worker: GPUs per actor; None for 1 if the cluster has GPUs, otherwise 0.
    """

    n_workers: int | None = None
    address: str | None = None
    gpus_per_worker: float | None = None

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
            UserError: the model was not loaded by `load_model`, there is no cluster at the address,
                or three actors died of the same unit.
        """
        spec = job.model_spec
        ours = not ray.is_initialized()
        if ours:
            self._connect()
        actors: list[Any] = []
        try:
            make_job = ray.put(job.with_model)
            gpus = self._gpus()
            maker = ray.remote(_Actor).options(num_gpus=gpus)

            def started() -> Any:
                actors.append(maker.remote(spec, make_job))
                return actors[-1]

            left, deaths = deque(units), Counter[Unit]()
            running: dict[Any, tuple[Any, Unit]] = {}
            for _ in range(min(self._count(gpus), len(left))):
                actor, unit = started(), left.popleft()
                running[actor.do.remote(unit)] = actor, unit
            while running:
                (reference,), _ = ray.wait(list(running), num_returns=1)
                actor, unit = running.pop(reference)
                try:
                    finished = ray.get(reference)
                except RayActorError as error:
                    deaths[unit] += 1
                    if deaths[unit] >= ATTEMPTS:
                        raise UserError(
                            f"{unit.name} ended {ATTEMPTS} Ray actors, out of memory perhaps "
                            f"({str(error).splitlines()[0]}); what is finished is kept"
                        ) from error
                    actor = started()
                    left.appendleft(unit)
                else:
                    advance(job.n_tokens(unit))
                    yield unit, finished
                if left:
                    unit = left.popleft()
                    running[actor.do.remote(unit)] = actor, unit
        finally:
            for actor in actors:
                ray.kill(actor)
            if ours:
                ray.shutdown()

    def _connect(self) -> None:
        try:
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at {self.address!r} "
                f"({' '.join(str(error).split())[:200]}); start one with `ray start --head`"
            ) from error

    def _gpus(self) -> float:
        if self.gpus_per_worker is not None:
            return self.gpus_per_worker
        return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0

    def _count(self, gpus: float) -> int:
        if self.n_workers is not None:
            return self.n_workers
        if gpus:
            return max(1, int(ray.cluster_resources().get("GPU", 0) / gpus))
        return max(1, sum(node["Alive"] for node in ray.nodes()))
