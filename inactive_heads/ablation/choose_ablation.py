"""The ablation that a command line asks for."""

from __future__ import annotations

from inactive_heads.ablation.ablations import Fixed, PerInput, Random
from inactive_heads.errors import UserError


def asked_ablation(
    score: str | None,
    threshold: float | None,
    heads: str | None,
    random: float | None,
    seed: int,
) -> PerInput | Fixed | Random | None:
    """The ablation that a command line asks for: by a score and its threshold, by a file, at random.

    ``random`` is in percent. None where nothing is asked.

    Raises:
        UserError: more than one of them, or a score without a threshold.
    """
    given = [one for one in (score, heads, random) if one is not None]
    if len(given) > 1:
        raise UserError("give one of score, heads and random, not several")
    if (score is None) != (threshold is None):
        raise UserError("score and threshold go together")
    if score is not None and threshold is not None:
        return PerInput(score, threshold)
    if heads is not None:
        return Fixed.load(heads)
    return None if random is None else Random(random / 100, seed=seed)
