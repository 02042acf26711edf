"""The ablation that command-line options describe."""

from __future__ import annotations

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.analysis.heads.thresholds import check_percents
from inactive_heads.errors import UserError
from inactive_heads.specs import AblationSpec


def choose_ablation(spec: AblationSpec) -> Ablation | None:
    """The ablation that a spec describes.

    Args:
        spec: a score with its threshold, a file of heads, a percent of heads at random, or none of
            them.

    Returns:
        A `PerInput`, `Fixed` or `Random`; None for the unablated model.

    Raises:
        UserError: more than one way is given, a score and threshold are not given together, the
            score is unknown, the file cannot be read, or the percent is not between 0 and 100.
    """
    given = [one for one in (spec.score, spec.heads, spec.random) if one is not None]
    if len(given) > 1:
        raise UserError("give one of score, heads and random, not several")
    if (spec.score is None) != (spec.threshold is None):
        raise UserError("score and threshold go together")
    if spec.score is not None and spec.threshold is not None:
        return PerInput(spec.score, spec.threshold)
    if spec.heads is not None:
        return Fixed.load(spec.heads)
    if spec.random is None:
        return None
    (percent,) = check_percents([spec.random])
    return Random(percent / 100, seed=spec.seed)
