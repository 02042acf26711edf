"""Where units of work are done: in this process, or in several that each load the model."""

from __future__ import annotations

import torch

from inactive_heads.errors import UserError
from inactive_heads.models.model import Model
from inactive_heads.sweeps.job import Executor
from inactive_heads.sweeps.local_executor import InProcess, Processes


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
