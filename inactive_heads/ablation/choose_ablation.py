"""The ablation that command-line options describe."""

from __future__ import annotations

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.ablation.placebo import Placebo
from inactive_heads.specs import AblationSpec


def choose_ablation(spec: AblationSpec) -> Ablation | None:
    """The ablation that a spec describes.

    Args:
        spec: a score with its threshold, a file of heads, a percent of heads at random, or none of
            them; or the placebo of one of the first two.

    Returns:
        A `PerInput`, `Fixed`, `Random` or `Placebo`; None for the unablated model.

    Raises:
        UserError: the spec's options do not go together, the score is unknown, the file cannot be
            read, or the percent is not between 0 and 100.
    """
    spec.check()
    chosen: Ablation | None = None
    if spec.score is not None and spec.threshold is not None:
        chosen = PerInput(spec.score, spec.threshold)
    elif spec.heads is not None:
        chosen = Fixed.load(spec.heads)
    elif spec.random is not None:
        chosen = Random(spec.random / 100, seed=spec.seed)
    return Placebo(chosen, spec.seed) if spec.placebo and chosen is not None else chosen
