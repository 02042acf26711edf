"""How every item of a task came out, and what that says: accuracy or loss, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from inactive_heads.analysis.curves.metrics import LOSS, Metric, MetricName, get_metric
from inactive_heads.analysis.curves.paired import choice_kl, mcnemar_p, paired_change

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
    metric: Metric | MetricName
    percent_zeroed: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", get_metric(self.metric))

    def summary(self) -> dict[str, float]:
        """Accuracy (in %) or loss (nats per token) with its 95% interval, n, and % zeroed.

        The interval of an accuracy is Wilson's, that of a loss that of `paired_change`. Of
        questions, also the mean log-probability of the right answer.
        """
        row = {"percent_zeroed": self.percent_zeroed, "n": len(self.items)}
        if self.metric == LOSS:
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
        metric = get_metric(self.metric)
        own, before = (one.items[metric.item_column].to_numpy(float) for one in (self, baseline))
        change = _interval("change", own, before, self.weights)
        if metric == LOSS:
            return change
        sure, sure_before = (
            one.items["answer_logprob"].to_numpy(float) for one in (self, baseline)
        )
        kl = choice_kl(baseline.items["choice_logprobs"], self.items["choice_logprobs"])
        if baseline is self:  # compared with itself, not with another sample of the same
            change = dict.fromkeys(change, 0.0)
        return (
            {name: metric.scale * value for name, value in change.items()}
            | {"p_mcnemar": mcnemar_p(own, before) if len(own) > 1 else float("nan")}
            | _interval("answer_logprob_change", sure, sure_before, self.weights)
            | _interval("kl", kl, np.zeros_like(kl), self.weights)
        )

    @property
    def weights(self) -> np.ndarray:
        """How much each item counts: a loss is per token, so long texts weigh more."""
        column = get_metric(self.metric).weight_column
        return np.ones(len(self.items)) if column is None else self.items[column].to_numpy(float)


@dataclass(frozen=True, eq=False)
class Evaluation(Outcomes):
    """What an evaluation gave: the outcomes, and which heads were silenced.

    Attributes:
        zeroed: boolean DataArray ``(sample, layer, head)``, one sample per input that was run.
    """

    zeroed: xr.DataArray


def _interval(
    name: str, own: np.ndarray, baseline: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    if len(own) == 1:
        return {name: float((own - baseline)[0]), f"{name}_low": NAN, f"{name}_high": NAN}
    found = paired_change(own, baseline, weights, confidence=CONFIDENCE)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
