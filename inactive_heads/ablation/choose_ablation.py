"""The ablation that command-line options describe."""

from __future__ import annotations

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
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
    spec.check()
    if spec.score is not None and spec.threshold is not None:
        return PerInput(spec.score, spec.threshold)
    if spec.heads is not None:
        return Fixed.load(spec.heads)
    return None if spec.random is None else Random(spec.random / 100, seed=spec.seed)
