"""The ablation that options ask for: by a score and its threshold, by a file, or at random."""

from __future__ import annotations

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.errors import UserError
from inactive_heads.specs import AblationSpec


def choose_ablation(spec: AblationSpec) -> Ablation | None:
    """The ablation that a spec asks for.

    Args:
        spec: a score with its threshold, a file of heads, a percentage at random, or nothing.

    Returns:
        A `PerInput`, `Fixed` or `Random`; None if nothing is to be silenced.

    Raises:
        UserError: more than one way is given, a score without a threshold, an unknown score, or
            a file that cannot be read.
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
    return None if spec.random is None else Random(spec.random / 100, seed=spec.seed)
