"""Outcomes of a task's items, summarized as accuracy or loss with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.intervals import share_intervals, studentized_intervals
from inactive_heads.analysis.curves.metrics import LOSS, Metric, MetricName, get_metric
from inactive_heads.analysis.curves.paired import choice_kl, mcnemar_p, paired_change
from inactive_heads.evaluation.unablated import Unablated

CONFIDENCE = 0.95
"""The confidence level of all intervals."""

N_RESAMPLES = 2000
"""The number of bootstrap resamples, as in `paired_change`."""

NAN = float("nan")

DIVERGENCE = ("kl", "top1_agreement")
"""The columns of texts' items that compare with the unablated model."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcome of every item of a task.

    Attributes:
        items: one row per item. For questions, the columns are id, subject, correct,
            answer_logprob, choice_logprobs (log-probabilities in nats) and percent_zeroed, the
            percent of heads silenced; for texts id, loss (nats per token), n_tokens,
            percent_zeroed and, if they were compared with the unablated model, kl (the mean over
            the predicted tokens of KL(unablated || ablated), in nats) and top1_agreement (the
            percent of them whose most probable token is the same).
        metric: "accuracy" or "loss".
        percent_zeroed: the percent of heads silenced, over all inputs, layers and heads.
    """

    items: pd.DataFrame
    metric: Metric | MetricName
    percent_zeroed: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", get_metric(self.metric))

    def summary(self) -> dict[str, float]:
        """Accuracy or loss with its 95% interval.

        Returns:
            Numbers by name. All have percent_zeroed and n, the number of items. Questions have
            accuracy, in %, with Wilson's interval ci_low to ci_high, and answer_logprob, the mean
            log-probability of the right answer, in nats. Texts have loss, in nats per token, with
            an interval like that of `paired_change`, loss_low to loss_high, which does not reach
            below 0. The ends of an interval are NaN if there are too few items for it: fewer than
            20 questions or 10 texts.
        """
        row = {"percent_zeroed": self.percent_zeroed, "n": len(self.items)}
        if self.metric == LOSS:
            return row | _mean("loss", self.items["loss"].to_numpy(float), self.weights)
        right = self.items["correct"].to_numpy(float)
        found = share_intervals(right[:, None], self.weights, confidence=CONFIDENCE)
        percent = 100 * np.array([right.sum() / len(right), found.low[0], found.high[0]])
        row |= dict(zip(("accuracy", "ci_low", "ci_high"), percent.tolist(), strict=True))
        return row | {"answer_logprob": float(self.items["answer_logprob"].mean())}

    def effect(self, baseline: Outcomes) -> dict[str, float]:
        """The changes from the unablated model, with paired 95% intervals.

            ablated = ih.evaluate(model, task, ih.Random(0.1))
            ablated.effect(ih.evaluate(model, task))

        See `paired_change`, `mcnemar_p` and `choice_kl`.

        Args:
            baseline: the outcomes of the unablated model, on the same items in the same order.

        Returns:
            Numbers by name. All tasks have change, of accuracy in points or of loss in nats per
            token. Questions also have p_mcnemar, the p-value of McNemar's test;
            answer_logprob_change, of the right answer's log-probability, in nats; and kl, the mean
            KL divergence of the choices' probabilities from the unablated ones, in nats. Texts
            whose items have kl and top1_agreement (see `evaluate`) have their means over all
            predicted tokens: kl, of the next token's probabilities, in nats; and top1_agreement, in
            %. Each except p_mcnemar has an interval, under its name with "_low" and "_high"
            appended; NaN if there are too few items for it, see `paired_change`. With a single
            item, p_mcnemar is NaN.

        Raises:
            UserError: the items do not pair, or a value is not finite.
        """
        metric = get_metric(self.metric)
        own, before = (one.items[metric.item_column].to_numpy(float) for one in (self, baseline))
        change = _interval("change", own, before, self.weights)
        if metric == LOSS:
            return change | (self._divergence() if "kl" in self.items else {})
        sure, sure_before = (
            one.items["answer_logprob"].to_numpy(float) for one in (self, baseline)
        )
        kl = choice_kl(baseline.items["choice_logprobs"], self.items["choice_logprobs"])
        if baseline is self:  # no sampling error: the outcomes are the same by definition
            change = dict.fromkeys(change, 0.0)
        return (
            {name: metric.scale * value for name, value in change.items()}
            | {"p_mcnemar": mcnemar_p(own, before) if len(own) > 1 else float("nan")}
            | _interval("answer_logprob_change", sure, sure_before, self.weights)
            | _mean("kl", kl, self.weights)
        )

    def _divergence(self) -> dict[str, float]:
        """How far the next-token distributions of texts are from the unablated model's."""
        kl, agreement = (self.items[name].to_numpy(float) for name in DIVERGENCE)
        if not kl.any():  # no sampling error: the distributions are the unablated ones
            names = [f"{name}{end}" for name in DIVERGENCE for end in ("", "_low", "_high")]
            return {name: 0.0 if name.startswith("kl") else 100.0 for name in names}
        share = _interval("top1_agreement", agreement / 100, np.zeros_like(kl), self.weights)
        # An interval may reach beyond what a share can be.
        return _mean("kl", kl, self.weights) | {
            name: float(np.clip(100 * value, 0, 100)) for name, value in share.items()
        }

    @property
    def weights(self) -> np.ndarray:
        """Each item's weight, 1 for a question and the number of predicted tokens for a text."""
        column = get_metric(self.metric).weight_column
        return np.ones(len(self.items)) if column is None else self.items[column].to_numpy(float)


@dataclass(frozen=True, eq=False)
class Evaluation(Outcomes):
    """The result of `evaluate`: the outcomes, and the heads that were silenced.

    Attributes:
        zeroed: ``(sample, layer, head)``, booleans, one sample per input that was run: a text has
            one input, a question one or one per answer.
        unablated: of the unablated model on texts, its next-token distributions, which others are
            compared with (``baseline`` of `evaluate`); otherwise None.
    """

    zeroed: xr.DataArray
    unablated: Unablated | None = field(default=None, repr=False)


def _mean(name: str, values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The mean of values that are 0 or more: neither is an end of its interval below 0."""
    found = studentized_intervals(
        values[:, None], weights, confidence=CONFIDENCE, n_resamples=N_RESAMPLES, seed=0
    )
    value, low, high = (float(end[0]) for end in found)
    return {name: value, f"{name}_low": float(np.maximum(low, 0.0)), f"{name}_high": high}


def _interval(
    name: str, own: np.ndarray, baseline: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    if len(own) == 1:
        return {name: float((own - baseline)[0]), f"{name}_low": NAN, f"{name}_high": NAN}
    found = paired_change(own, baseline, weights, confidence=CONFIDENCE)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
