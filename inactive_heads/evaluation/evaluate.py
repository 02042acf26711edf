"""Evaluation of a model on a task with heads silenced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder, zeroed_array
from inactive_heads.analysis.curves.metrics import LOSS
from inactive_heads.engines.base import Visitor
from inactive_heads.errors import UserError, naming
from inactive_heads.evaluation.log_likelihood import Measure, log_likelihoods, targets
from inactive_heads.evaluation.outcomes import DIVERGENCE, Evaluation
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.evaluation.unablated import MAX_STATES, Unablated
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
    baseline: Evaluation | None = None,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Evaluation:
    """The outcome of every item of a task with heads silenced.

        ih.evaluate(model, ih.load_task("quiz", limit=50), ih.Random(0.1)).summary()

    For texts, ``baseline`` adds how far the next-token distributions are from the unablated model's:

        unablated = ih.evaluate(model, texts)
        ablated = ih.evaluate(model, texts, ih.Random(0.1), baseline=unablated)
        ablated.effect(unablated)  # change of the loss, kl, top1_agreement

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        task: from `load_task`, or its name.
        ablation: `PerInput`, `Fixed`, `Random`, `Placebo`, or None for the unablated model.
        baseline: the evaluation of the unablated model on the same texts, by the same model. It
            is not needed for questions.
        batch_size: inputs per batch, or "auto".
        progress: whether to show a progress bar.

    Returns:
        Every item's outcome, and the heads that were silenced for each input.

    Raises:
        UserError: the baseline is that of an ablation, other texts or another model; the ablation
            does not fit the model, an input is longer than the model's context, a question cannot
            be asked with the model's tokenizer, the batch size is invalid, an input does not fit in
            memory, or its log-probabilities are not finite.
    """
    subject = as_model(model)
    prepared = task if isinstance(task, PreparedTask) else PreparedTask.of(subject, task)
    with progress_bar(
        f"Evaluating {prepared.task.name}", prepared.n_tokens, show=progress
    ) as advance:
        return run_task(
            subject,
            prepared,
            ablation,
            unablated=_unablated(subject, prepared, ablation, baseline),
            advance=advance,
            batch_size=batch_size,
        )


def _unablated(
    model: Model, prepared: PreparedTask, ablation: Ablation | None, baseline: Evaluation | None
) -> Unablated | None:
    """What an evaluation is compared with, or makes for others to be compared with."""
    if prepared.task.metric != LOSS:
        return None
    if ablation is None:
        return Unablated(model, prepared.inputs, MAX_STATES)
    if baseline is None:
        return None
    if baseline.unablated is None:
        raise UserError(
            "the baseline is not an evaluation of the unablated model on texts: give "
            "baseline=evaluate(model, task)"
        )
    baseline.unablated.check(model, prepared.inputs)
    return baseline.unablated


def run_task(
    model: Model,
    prepared: PreparedTask,
    ablation: Ablation | None,
    *,
    advance: Advance,
    unablated: Unablated | None = None,
    looking: ScoreVisitor | None = None,
    batch_size: int | str = "auto",
) -> Evaluation:
    """`evaluate` for a tokenized task, with the caller's progress bar.

    Args:
        model: the model.
        prepared: the task, tokenized for the model.
        ablation: the ablation; None for the unablated model.
        advance: called with the number of tokens run since the last call.
        unablated: the unablated model's distributions: kept without an ablation, and compared with
            those of the run with one. None to do neither.
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
    measure: Measure = targets
    visitor: Visitor | None = recorder or looking
    if unablated is not None:
        measure = unablated.hold if recorder is None else unablated.compare
        if recorder is not None and not unablated.holds:
            # The unablated model runs beside whole inputs; prefixes are not shared with a function.
            visitor = recorder.__call__
    with naming(prepared.name_of):
        found = log_likelihoods(
            model,
            prepared.inputs,
            visitor,
            advance=advance,
            batch_size=batch_size,
            measure=measure,
        )
    zeroed = zeroed_array(model, recorder, n)
    logprobs = [values if values.ndim == 1 else values[0] for values in found]
    items = prepared.task.outcomes(prepared.by_item(logprobs))
    percent = np.zeros(n) if recorder is None else 100 * recorder.shares()
    items["percent_zeroed"] = pd.Series(percent).groupby(prepared.owners).mean().to_numpy()
    if unablated is not None:
        means = (0.0, 100.0) if recorder is None else _token_means(prepared, found).T
        for name, values in zip(DIVERGENCE, means, strict=True):
            items[name] = values
    n_heads = n * model.shape.total_heads
    return Evaluation(
        items,
        prepared.task.metric,
        100 * (int(zeroed.sum()) / n_heads),
        zeroed,
        unablated if recorder is None else None,
    )


def _token_means(prepared: PreparedTask, found: Sequence[np.ndarray]) -> np.ndarray:
    """Each item's mean KL divergence and top-1 agreement in %, over its tokens: ``(item, 2)``."""
    scale = np.array([1.0, 100.0])
    return np.array(
        [
            scale * np.concatenate([one[1:] for one in own], axis=1).mean(axis=1, dtype=np.float64)
            for own in prepared.by_item(found)
        ]
    )
