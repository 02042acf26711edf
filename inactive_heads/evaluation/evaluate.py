"""Evaluation of a model on a task with heads silenced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder, zeroed_array
from inactive_heads.errors import naming
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.evaluation.outcomes import Evaluation
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance, progress_bar
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.tasks.base import Task


def evaluate(
    model: Any,
    task: Task | PreparedTask | str,
    ablation: Ablation | None = None,
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Evaluation:
    """The outcome of every item of a task with heads silenced.

        ih.evaluate(model, ih.load_task("quiz", limit=50), ih.Random(0.1)).summary()

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        task: from `load_task`, or its name.
        ablation: `PerInput`, `Fixed`, `Random`, `Placebo`, or None for the unablated model.
        batch_size: inputs per batch, or "auto".
        progress: whether to show a progress bar.

    Returns:
        Every item's outcome, and the heads that were silenced for each input.

    Raises:
        UserError: the ablation does not fit the model, an input is longer than the model's context,
            a question cannot be asked with the model's tokenizer, the batch size is invalid, an
            input does not fit in memory, or its log-probabilities are not finite.
    """
    subject = as_model(model)
    prepared = task if isinstance(task, PreparedTask) else PreparedTask.of(subject, task)
    with progress_bar(
        f"Evaluating {prepared.task.name}", prepared.n_tokens, show=progress
    ) as advance:
        return run_task(subject, prepared, ablation, advance=advance, batch_size=batch_size)


def run_task(
    model: Model,
    prepared: PreparedTask,
    ablation: Ablation | None,
    *,
    advance: Advance,
    looking: ScoreVisitor | None = None,
    batch_size: int | str = "auto",
) -> Evaluation:
    """`evaluate` for a tokenized task, with the caller's progress bar.

    Args:
        model: the model.
        prepared: the task, tokenized for the model.
        ablation: the ablation; None for the unablated model.
        advance: called with the number of tokens run since the last call.
        looking: a visitor that scores heads along the way; only without an ablation.
        batch_size: inputs per batch, or "auto".

    Returns:
        Every item's outcome, and the heads that were silenced for each input.

    Raises:
        UserError: the ablation does not fit the model, the batch size is invalid, or an input does
            not fit in memory.
    """
    n = len(prepared.inputs)
    recorder = None if ablation is None else ZeroedRecorder(ablation, model.shape, n)
    with naming(prepared.name_of):
        logprobs = log_likelihoods(
            model, prepared.inputs, recorder or looking, advance=advance, batch_size=batch_size
        )
    zeroed = zeroed_array(model, recorder, n)
    items = prepared.task.outcomes(prepared.by_item(logprobs))
    percent = np.zeros(n) if recorder is None else 100 * recorder.shares()
    items["percent_zeroed"] = pd.Series(percent).groupby(prepared.owners).mean().to_numpy()
    n_heads = n * model.shape.total_heads
    return Evaluation(items, prepared.task.metric, 100 * (int(zeroed.sum()) / n_heads), zeroed)
