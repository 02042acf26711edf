"""Log-likelihoods under an ablation, and what they say: accuracy or loss, with intervals."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, ZeroedRecorder, zeroed_array
from inactive_heads.analysis.curves.paired import choice_kl, mcnemar_p, paired_change
from inactive_heads.analysis.curves.table import Metric
from inactive_heads.errors import UserError
from inactive_heads.evaluation.log_likelihood import ScoredInput, log_likelihoods
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.load import Model, as_model
from inactive_heads.progress import Advance, progress_bar
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.tasks.multiple_choice import ChoiceTask, Task, TextTask
from inactive_heads.tasks.question_tokens import asked_of

CONFIDENCE = 0.95
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How every item of a task came out.

    Attributes:
        items: one row per question (``id, subject, correct, answer_logprob, choice_logprobs,
            percent_zeroed``) or text (``id, loss, n_tokens, percent_zeroed``).
        metric: "accuracy" or "loss".
        percent_zeroed: share of heads that was silenced, over inputs, layers and heads.
    """

    items: pd.DataFrame
    metric: Metric
    percent_zeroed: float

    def summary(self) -> dict[str, float]:
        """Accuracy (in %) or loss (nats per token) with its 95% interval, n, and % zeroed.

        The interval of an accuracy is Wilson's, that of a loss that of `paired_change`. Of
        questions, also the mean log-probability of the right answer.
        """
        row = {"percent_zeroed": self.percent_zeroed, "n": len(self.items)}
        if self.metric == "loss":
            values = self.items["loss"].to_numpy(float)
            return row | _interval("loss", values, np.zeros_like(values), self.weights)
        right = int(self.items["correct"].sum())
        interval = scipy.stats.binomtest(right, len(self.items)).proportion_ci(
            CONFIDENCE, method="wilson"
        )
        percent = np.array([right / len(self.items), interval.low, interval.high]) * 100
        row |= dict(zip(("accuracy", "ci_low", "ci_high"), percent.tolist(), strict=True))
        return row | {"answer_logprob": float(self.items["answer_logprob"].mean())}

    def effect(self, baseline: Outcomes) -> dict[str, float]:
        """What the ablation changed, with paired 95% intervals (``_low``, ``_high``).

        ``change`` of accuracy (in points) or loss; of questions also ``p_mcnemar``, the
        ``answer_logprob_change`` and ``kl``: how far the probabilities of the choices are from
        the unablated ones, in nats. See `inactive_heads.analysis.curves.paired`; intervals are NaN where
        there is a single item.
        """
        if self.metric == "loss":
            own, before = (one.items["loss"].to_numpy(float) for one in (self, baseline))
            return _interval("change", own, before, self.weights)
        own, before = (one.items["correct"].to_numpy(float) for one in (self, baseline))
        sure, sure_before = (
            one.items["answer_logprob"].to_numpy(float) for one in (self, baseline)
        )
        kl = choice_kl(baseline.items["choice_logprobs"], self.items["choice_logprobs"])
        change = _interval("change", own, before, self.weights)
        if baseline is self:  # compared with itself, not with another sample of the same
            change = dict.fromkeys(change, 0.0)
        return (
            {name: 100 * value for name, value in change.items()}
            | {"p_mcnemar": mcnemar_p(own, before) if len(own) > 1 else float("nan")}
            | _interval("answer_logprob_change", sure, sure_before, self.weights)
            | _interval("kl", kl, np.zeros_like(kl), self.weights)
        )

    @property
    def weights(self) -> np.ndarray:
        """How much each item counts: a loss is per token, so long texts weigh more."""
        if self.metric == "loss":
            return self.items["n_tokens"].to_numpy(float)
        return np.ones(len(self.items))


@dataclass(frozen=True, eq=False)
class Evaluation(Outcomes):
    """What an evaluation gave: the outcomes, and which heads were silenced.

    Attributes:
        zeroed: boolean DataArray ``(sample, layer, head)``, one sample per input that was run.
    """

    zeroed: xr.DataArray


@dataclass(frozen=True)
class PreparedTask:
    """A task tokenized once for a model: the inputs to run, and which belong to which item.

    ``first_input`` is the place of the first input, where these are a part of a task.
    """

    task: Task
    inputs: list[ScoredInput]
    owners: list[int]
    first_input: int = 0

    @staticmethod
    def of(model: Model, task: Task) -> PreparedTask:
        """Tokenize the task, refusing inputs longer than the model's context."""
        if isinstance(task, TextTask):
            encoded = encode_samples(model, task.samples)
            inputs = [text_input(tokens, f"text {index}") for index, tokens in enumerate(encoded)]
            return PreparedTask(task, inputs, list(range(len(inputs))))
        inputs, owners = [], []
        for index, item in enumerate(task.items):
            asked = asked_of(model, item, task.scoring).inputs
            inputs += asked
            owners += [index] * len(asked)
        return PreparedTask(task, inputs, owners)

    @property
    def n_items(self) -> int:
        """How many questions or texts there are."""
        return len(self.task.samples if isinstance(self.task, TextTask) else self.task.items)

    def part(self, start: int, stop: int) -> PreparedTask:
        """The items from ``start`` to before ``stop``."""
        # Inputs stand in the order of their items.
        first, last = bisect_left(self.owners, start), bisect_left(self.owners, stop)
        task: Task
        if isinstance(self.task, TextTask):
            task = replace(self.task, samples=self.task.samples[start:stop])
        else:
            task = replace(self.task, items=self.task.items[start:stop])
        owners = [owner - start for owner in self.owners[first:last]]
        return PreparedTask(task, self.inputs[first:last], owners, first)

    @property
    def digest(self) -> str:
        """A digest of the tokens that are run and read."""
        found = hashlib.sha256()
        for one in self.inputs:
            for numbers in (one.tokens, one.positions, one.targets):
                found.update(np.array([len(numbers), *numbers], dtype="<i8").tobytes())
        return found.hexdigest()[:16]

    @property
    def n_tokens(self) -> int:
        """Tokens that one evaluation runs through the model."""
        return sum(len(one.tokens) for one in self.inputs)


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


def _interval(
    name: str, own: np.ndarray, baseline: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    if len(own) == 1:
        return {name: float((own - baseline)[0]), f"{name}_low": NAN, f"{name}_high": NAN}
    found = paired_change(own, baseline, weights, confidence=CONFIDENCE)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def text_input(tokens: list[int], name: str) -> ScoredInput:
    """The next-token log-probabilities of a whole text; ``name`` is what an error calls it."""
    if len(tokens) < 2:
        raise UserError(f"{name} has {len(tokens)} token; next-token loss needs 2 or more")
    return ScoredInput(tokens, list(range(len(tokens) - 1)), tokens[1:])


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
