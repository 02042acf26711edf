"""What a sweep will cost, before it begins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from inactive_heads.core.batch import TokenBatch
from inactive_heads.models.batching import tokens_per_batch
from inactive_heads.sweeps.grid import Grid
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.unit import shards_of

TRIAL_TOKENS = 2048
"""Tokens that are run to see how fast the model is here."""


@dataclass(frozen=True)
class Plan:
    """What the sweep of one task comes to.

    Attributes:
        task: its name.
        points: scores × shares, and the baseline.
        units: pieces of work, each kept when it is done.
        passes: inputs run through the model.
        tokens: in those inputs.
    """

    task: str
    points: int
    units: int
    passes: int
    tokens: int


def plan_sweep(job: Job, task: str, grid: Grid) -> Plan:
    """The plan of a sweep; in fixed mode at most this, as equal head sets are judged once."""
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
    """How long a token takes in this process, measured on inputs of the job's own."""
    inputs = [one.tokens for prepared in job.tasks.values() for one in prepared.inputs]
    inputs.sort(key=len)
    middle = len(inputs[len(inputs) // 2])
    room = min(TRIAL_TOKENS, tokens_per_batch(job.model, middle))
    start = max(0, len(inputs) // 2 - max(1, room // middle))
    tried = inputs[start : len(inputs) // 2 + 1]
    batch = TokenBatch.of(tried, device=job.model.engine.device)
    job.model.engine.run(TokenBatch.of([tried[0]], device=job.model.engine.device))  # warm
    began = time.perf_counter()
    float(job.model.engine.run(batch)[0, 0])  # a GPU answers when it is done
    return (time.perf_counter() - began) / int(batch.mask.sum())


def describe(plans: Mapping[str, Plan], seconds: float, finished: int) -> str:
    """The plans in words, for whoever waits for them."""
    lines = [
        f"{plan.task}: {plan.points:,} points, {plan.units:,} units, {plan.passes:,} inputs, "
        f"{plan.tokens:,} tokens"
        for plan in plans.values()
    ]
    tokens = sum(plan.tokens for plan in plans.values())
    units = sum(plan.units for plan in plans.values())
    if finished:
        lines.append(f"{finished:,} of {units:,} units were finished before and are not done again")
    left = tokens * max(0.0, 1 - finished / units)
    lines.append(
        f"{left:,.0f} tokens at {1 / seconds:,.0f} tokens/s measured here: "
        f"about {duration(left * seconds)} in one process"
    )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 5.2 h, 3.1 days."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
