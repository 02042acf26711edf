"""The choice of an executor: this process, several processes, or a Ray cluster."""

from __future__ import annotations

import torch

from inactive_heads.models.model import Model
from inactive_heads.specs import ExecutionSpec
from inactive_heads.sweeps.job import Executor
from inactive_heads.sweeps.local_executor import InProcess, Processes


def choose_executor(spec: ExecutionSpec, model: Model) -> Executor:
    """The executor that a spec describes.

    Args:
        spec: where the work is done. "local" without ``workers`` uses one process per GPU if the
            model was loaded with ``device="auto"`` and is on a GPU; otherwise this process.
        model: the model that will be swept.

    Returns:
        The executor, ready to run.

    Raises:
        UserError: the executor is unknown, ``workers`` is below 1, or Ray is not installed.
    """
    spec.check()
    workers = spec.workers
    if spec.executor == "ray":
        from inactive_heads.sweeps.ray_executor import RayActors

        return RayActors(workers, spec.ray_address, spec.gpus_per_worker)
    if workers is None:
        any_device = model.spec is not None and model.spec.device == "auto"
        every_gpu = any_device and model.engine.device.type == "cuda"
        workers = torch.cuda.device_count() if every_gpu else 1
    return Processes(workers) if workers > 1 else InProcess()
