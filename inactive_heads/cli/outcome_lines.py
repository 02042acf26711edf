"""The outcomes of an evaluation, in the words that the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

from inactive_heads.analysis.curves.metrics import ACCURACY, get_metric
from inactive_heads.evaluation.outcomes import Outcomes


def outcome_lines(outcomes: Outcomes, baseline: Outcomes | None) -> list[str]:
    """The accuracy or loss, the share of heads zeroed, and the change from the unablated model.

    Args:
        outcomes: those of a model, heads zeroed or not.
        baseline: those of the unablated model on the same items; None to leave out the change.

    Returns:
        One line each. Where there are too few items for an interval, the line says so.
    """
    found, metric = outcomes.summary(), get_metric(outcomes.metric)
    digits, unit, step = (1, "%", " points") if metric == ACCURACY else (4, " nats per token", "")

    def interval(of: Mapping[str, float], bounds: tuple[str, str], kind: str, places: int) -> str:
        low, high = (of[bound] for bound in bounds)
        ends = metric.too_few if isnan(low) else f"{low:.{places}f} to {high:.{places}f}"
        return f"({kind}95% interval {ends})"

    lines = [
        f"{metric} {found[metric]:.{digits}f}{unit} {interval(found, metric.bounds, '', digits)}, "
        f"{found['n']} {metric.items}",
        f"heads zeroed: {found['percent_zeroed']:.2f}%",
    ]
    if baseline is None:
        return lines
    change = outcomes.effect(baseline)
    sure = interval(change, ("change_low", "change_high"), "paired ", digits)
    lines.append(
        f"with every head: {metric} {baseline.summary()[metric]:.{digits}f}{unit}; "
        f"change {change['change']:+.{digits}f}{step} {sure}"
    )
    if "top1_agreement" in change:
        kl = interval(change, ("kl_low", "kl_high"), "", 4)
        same = interval(change, ("top1_agreement_low", "top1_agreement_high"), "", 1)
        lines.append(
            f"next tokens: KL {change['kl']:.4f} nats {kl}; most probable token the same in "
            f"{change['top1_agreement']:.1f}% {same}"
        )
    return lines
