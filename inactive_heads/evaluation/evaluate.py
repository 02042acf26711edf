"""Log-likelihoods under an ablation, and what they say: accuracy or loss, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder, zeroed_array
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.evaluation.outcomes import Evaluation
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.progress import Advance, progress_bar
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.tasks.base import ChoiceTask, Task, TextTask


def evaluate(
    model: Any,
    task: Task | PreparedTask,
    ablation: Ablation | None = None,
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Evaluation:
    """The task's items answered with heads silenced.

        ih.evaluate(model, ih.load_task("quiz", limit=50), ih.Random(0.1)).summary()

    Args:
        model: what `load_model` gave, a TransformerBridge or a HookedTransformer.
        task: from `load_task`.
        ablation: `PerInput`, `Fixed`, `Random`, or None for the model as it is.
        batch_size: inputs run together, or "auto".
        progress: whether to show a bar on a terminal.

    Raises:
        UserError: the ablation does not fit the model, or a prompt is longer than its context.
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
    """`evaluate` without its bar; without an ablation a visitor may look on and score heads."""
    n = len(prepared.inputs)
    recorder = None if ablation is None else ZeroedRecorder(ablation, model.shape, n)
    logprobs = log_likelihoods(
        model, prepared.inputs, recorder or looking, advance=advance, batch_size=batch_size
    )
    zeroed = zeroed_array(model, recorder, n)
    if isinstance(prepared.task, TextTask):
        items = _text_outcomes(prepared, logprobs)
    else:
        items = _choice_outcomes(prepared, logprobs)
    share = 100 * zeroed.values.reshape(n, -1).mean(axis=1)
    items["percent_zeroed"] = pd.Series(share).groupby(prepared.owners).mean().to_numpy()
    return Evaluation(items, prepared.task.metric, 100 * float(zeroed.mean()), zeroed)


def _choice_outcomes(prepared: PreparedTask, logprobs: Sequence[np.ndarray]) -> pd.DataFrame:
    task = prepared.task
    assert isinstance(task, ChoiceTask)
    by_item: list[list[np.ndarray]] = [[] for _ in task.items]
    for owner, values in zip(prepared.owners, logprobs, strict=True):
        by_item[owner].append(values)
    rows = []
    for item, parts in zip(task.items, by_item, strict=True):
        choices = np.array([part.sum() for part in parts])
        if len(parts) == 1:  # all choices' last tokens, after those that they share
            shared, last = np.split(parts[0], [-len(item.continuations)])
            choices = shared.sum() + last
        judged = choices
        if task.normalized:
            own = tuple(len(text.removeprefix(" ")) for text in item.continuations)
            judged = choices / np.array(item.lengths or own)
        rows.append(
            {
                "id": item.id,
                "subject": item.subject,
                "correct": bool(np.argmax(judged) == item.answer),
                "answer_logprob": float(choices[item.answer]),
                "choice_logprobs": [float(choice) for choice in choices],
            }
        )
    return pd.DataFrame(rows)


def _text_outcomes(prepared: PreparedTask, logprobs: Sequence[np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"text-{prepared.first_input + index}" for index in range(len(logprobs))],
            "loss": [float(-values.mean(dtype=np.float64)) for values in logprobs],
            "n_tokens": [len(values) for values in logprobs],
        }
    )
