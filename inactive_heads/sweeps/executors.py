"""Where units of work are done: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import torch

from inactive_heads.errors import UserError
from inactive_heads.models.model import Model
from inactive_heads.specs import ExecutionSpec
from inactive_heads.sweeps.job import Executor
from inactive_heads.sweeps.local_executor import InProcess, Processes


def choose_executor(spec: ExecutionSpec, model: Model) -> Executor:
    """The executor that a spec asks for.

    Args:
        spec: where work is done. "local" without ``workers`` works in this process, or, if the
            model lies on a GPU and there are more, in one process per GPU.
        model: the model; where it lies decides how many workers there are.

    Returns:
        The executor.

    Raises:
        UserError: an unknown executor, fewer than one worker, or Ray is not installed.
    """
    workers = spec.workers
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    if spec.executor == "ray":
        from inactive_heads.sweeps.ray_executor import RayActors

        return RayActors(workers, spec.ray_address, spec.gpus_per_worker)
    if spec.executor != "local":
        raise UserError(f"executor={spec.executor!r} is unknown; there are: local, ray")
    if workers is None:
        loaded_anywhere = model.spec is not None and model.spec.device == "auto"
        spread = model.engine.device.type == "cuda" and loaded_anywhere
        workers = torch.cuda.device_count() if spread else 1
    return Processes(workers) if workers > 1 else InProcess()
