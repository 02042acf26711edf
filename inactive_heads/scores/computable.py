"""Which scores can be computed on a model: some need to know how later layers read its heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inactive_heads.errors import UserError
from inactive_heads.models.model import Model
from inactive_heads.scores.registry import Score
from inactive_heads.scores.score_heads import score_heads
from inactive_heads.third_party import explained


def why_not_computable(
    model: Model, samples: Sequence[list[int]], scores: Sequence[Score]
) -> dict[str, str]:
    """The scores that cannot be computed on a model, with the reason of each.

    Args:
        model: the model.
        samples: token ids to try them on; a few are enough.
        scores: the scores to try.

    Returns:
        Reasons by the scores' names; empty if all can be computed.
    """
    try:
        with explained("it fails", "it cannot be used with this model"):
            found = score_heads(model, samples, scores=scores, progress=False)
    except UserError as error:
        if len(scores) == 1:
            return {scores[0].name: str(error)}
        single = [why_not_computable(model, samples, [one]) for one in scores]
        return {name: reason for one in single for name, reason in one.items()}
    return {
        str(name): "it has no value on a few tokens"
        for name in found["score"].values
        if np.isnan(found.sel(score=name)).all()
    }
