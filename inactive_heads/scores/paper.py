"""The fifteen score functions of the paper.

Sandoval-Segura et al., "Identifying and Evaluating Inactive Heads in Pretrained LLMs"
(arXiv 2504.03889).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import PerHead
from inactive_heads.errors import UserError
from inactive_heads.scores.registry import (
    REGISTRY,
    RatioScore,
    Score,
    ScoreLike,
    get_score,
    register_score,
    score_function,
)

if TYPE_CHECKING:
    from inactive_heads.core.activations import HeadActivations


def get_scores(scores: Iterable[ScoreLike] | None = None) -> list[Score]:
    """The scores asked for, in that order; without any, the paper's fifteen.

    Raises:
        UserError: an unknown name, the same name twice, or none at all.
    """
    found = [get_score(score) for score in (PAPER_SCORES if scores is None else scores)]
    names = [score.name for score in found]
    if not names:
        raise UserError(f"no score was asked for; there are: {', '.join(REGISTRY)}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"score {name!r} was asked for twice; give each function its own name")
    return found


@score_function("AWFT", inactive="above", definition="mean over queries i of A[i, 0]")
def average_weight_of_first_token(heads: HeadActivations) -> PerHead:
    """Mean attention weight given to the first token, between 0 and 1 (paper, section 3)."""
    return heads.mean_over_tokens(heads.first_token_weight)


@score_function(
    "AEQD", inactive="below", definition="mean over queries i of the entropy of A[i, :], in nats"
)
def average_entropy_of_query_distributions(heads: HeadActivations) -> PerHead:
    """Mean entropy of the queries' attention, in nats, between 0 and log N."""
    return heads.mean_over_tokens(heads.entropy)


@score_function("FTVVN", inactive="below", definition="norm of the first token's value vector v[0]")
def first_token_value_vector_norm(heads: HeadActivations) -> PerHead:
    """L2 norm of the first token's value vector."""
    return heads.at_first_token(heads.v_norm)


@score_function("AVVN", inactive="below", definition="mean over tokens j of the norm of v[j]")
def average_value_vector_norm(heads: HeadActivations) -> PerHead:
    """Mean L2 norm of the value vectors."""
    return heads.mean_over_tokens(heads.v_norm)


@score_function("AHON", inactive="below", definition="mean over tokens i of the norm of z[i]")
def average_head_output_norm(heads: HeadActivations) -> PerHead:
    """Mean L2 norm of the head's output before W_O."""
    return heads.mean_over_tokens(heads.z_norm)


@score_function(
    "LTHON",
    inactive="below",
    definition="norm of the last token's head output z[N-1]",
    layer_mean_of="AHON",
)
def last_token_head_output_norm(heads: HeadActivations) -> PerHead:
    """L2 norm of the head's output at the last token."""
    return heads.at_last_token(heads.z_norm)


def last_token_head_output_norm_by_head(heads: HeadActivations) -> PerHead:
    """LTHON over the same head's AHON."""
    return get_score("LTHON")(heads) / get_score("AHON")(heads)


register_score(
    RatioScore(
        "LTHON (HN)",
        last_token_head_output_norm_by_head,
        "below",
        "LTHON / the same head's AHON",
    )
)


@score_function(
    "AHRN", inactive="below", definition="mean over tokens i of the norm of r[i] = z[i] W_O"
)
def average_head_result_norm(heads: HeadActivations) -> PerHead:
    """Mean L2 norm of the head's output after its slice of W_O (paper, appendix)."""
    return heads.mean_over_tokens(heads.result_norm)


PAPER_SCORES = (
    *("AWFT", "AWFT (LN)", "AEQD", "AEQD (LN)", "FTVVN", "FTVVN (LN)", "AVVN", "AVVN (LN)"),
    *("AHON", "AHON (LN)", "LTHON", "LTHON (LN)", "LTHON (HN)", "AHRN", "AHRN (LN)"),
)
"""The fifteen score functions of the paper, by name."""

DEFAULT_SCORE = "AHON (LN)"
"""The score to show where none was chosen: first on most of the paper's models."""
