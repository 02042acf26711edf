"""The cost of a sweep, estimated before it starts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from inactive_heads.core.batch import TokenBatch
from inactive_heads.models.batching import tokens_per_batch
from inactive_heads.sweeps.grid import Grid
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.unit import shards_of

TRIAL_TOKENS = {"cpu": 512, "cuda": 2048}
"""The most tokens run to measure the model's speed, by device type: a second on two cores."""


@dataclass(frozen=True)
class Plan:
    """The amount of work in the sweep of one task.

    Attributes:
        task: the task's name.
        points: the number of points: scores × percents, and the baseline.
        units: the number of units of work, each saved when it is done.
        passes: the number of inputs run through the model, counted once per point.
        tokens: the number of tokens in those inputs.
    """

    task: str
    points: int
    units: int
    passes: int
    tokens: int


def plan_sweep(job: Job, task: str, grid: Grid) -> Plan:
    """The amount of work in a sweep.

    Args:
        job: the model and its tasks.
        task: the name of one of the tasks.
        grid: what the sweep varies.

    Returns:
        The plan; an upper bound in fixed mode, where equal head sets are evaluated once.
    """
    prepared = job.tasks[task]
    points = grid.n_points
    shards = shards_of(prepared, grid.shard_tokens)
    return Plan(
        task,
        points,
        points * len(shards),
        points * len(prepared.inputs),
        points * prepared.n_tokens,
    )


def seconds_per_token(job: Job) -> float:
    """The time that the model takes per token in this process, measured on the job's inputs.

    Args:
        job: the model and its tasks.

    Returns:
        Seconds per token, from one batch of inputs of about median length.
    """
    inputs = [one.tokens for prepared in job.tasks.values() for one in prepared.inputs]
    inputs.sort(key=len)
    middle = len(inputs[len(inputs) // 2])
    most = TRIAL_TOKENS.get(job.model.engine.device.type, TRIAL_TOKENS["cpu"])
    room = min(most, tokens_per_batch(job.model, middle))
    start = max(0, len(inputs) // 2 - max(1, room // middle))
    tried = inputs[start : len(inputs) // 2 + 1]
    batch = TokenBatch.of(tried, device=job.model.engine.device)
    job.model.engine.run(TokenBatch.of([tried[0]], device=job.model.engine.device))  # warm-up
    began = time.perf_counter()
    float(job.model.engine.run(batch)[0, 0])  # reading a number waits for the GPU
    return (time.perf_counter() - began) / int(batch.mask.sum())


def describe(plans: Mapping[str, Plan], seconds: float, finished: int) -> str:
    """Plans and the time they take, in words.

    Args:
        plans: each task's plan, by the task's name.
        seconds: seconds per token, from `seconds_per_token`; not used if nothing is left to do.
        finished: the number of units that are already finished.

    Returns:
        One line per task, then the number of finished units if any, then the time left if any.
    """
    lines = [
        f"{plan.task}: {plan.points:,} points, {plan.units:,} units, {plan.passes:,} inputs, "
        f"{plan.tokens:,} tokens"
        for plan in plans.values()
    ]
    tokens = sum(plan.tokens for plan in plans.values())
    units = sum(plan.units for plan in plans.values())
    finished = min(finished, units)  # a finished run also keeps what follows from its sweeps
    if finished:
        lines.append(f"{finished:,} of {units:,} units are finished and will not be repeated")
    if finished < units:
        left = tokens * (1 - finished / units)
        lines.append(
            f"{left:,.0f} tokens at {1 / seconds:,.0f} tokens/s measured here: "
            f"about {duration(left * seconds)} in one process"
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A duration in a readable unit: 40 s, 12 min, 5.2 h or 3.1 days.

    Args:
        seconds: the duration.

    Returns:
        The number with its unit.
    """
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
