"""The fifteen score functions of the paper.

Sandoval-Segura et al., "Identifying and Evaluating Inactive Heads in Pretrained LLMs"
(arXiv 2504.03889).
"""

from __future__ import annotations

from collections.abc import Iterable

from inactive_heads.checks import check_scores_once
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import PerHead
from inactive_heads.names import PAPER_SCORES
from inactive_heads.scores.registry import (
    RatioScore,
    Score,
    ScoreLike,
    get_score,
    listed_scores,
    register_score,
    score_function,
)


def get_scores(scores: ScoreLike | Iterable[ScoreLike] | None = None) -> list[Score]:
    """The requested scores, in order.

    Args:
        scores: names, functions or `Score` objects, or a single one. Default: the paper's fifteen.

    Returns:
        One `Score` for each.

    Raises:
        UserError: a name is unknown or given twice, a class is given instead of an instance, or
            ``scores`` is empty.
    """
    found = [
        get_score(score) for score in listed_scores(PAPER_SCORES if scores is None else scores)
    ]
    check_scores_once([score.name for score in found])
    return found


@score_function("AWFT", inactive="above", definition="mean over queries i of A[i, 0]")
def average_weight_of_first_token(heads: HeadActivations) -> PerHead:
    """AWFT: mean attention weight of the first token.

    Inactive above: the head uses the first token as an attention sink. Source: the paper,
    section 3.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, from 0 to 1.
    """
    return heads.mean_over_tokens(heads.first_token_weight)


@score_function(
    "AEQD", inactive="below", definition="mean over queries i of the entropy of A[i, :], in nats"
)
def average_entropy_of_query_distributions(heads: HeadActivations) -> PerHead:
    """AEQD: mean entropy of the queries' attention distributions.

    Inactive below: each query attends to few tokens. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, in nats, from 0 to log N for an input of N tokens.
    """
    return heads.mean_over_tokens(heads.entropy)


@score_function("FTVVN", inactive="below", definition="norm of the first token's value vector v[0]")
def first_token_value_vector_norm(heads: HeadActivations) -> PerHead:
    """FTVVN: L2 norm of the first token's value vector.

    Inactive below: attending to the first token moves little. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of v.
    """
    return heads.at_first_token(heads.v_norm)


@score_function("AVVN", inactive="below", definition="mean over tokens j of the norm of v[j]")
def average_value_vector_norm(heads: HeadActivations) -> PerHead:
    """AVVN: mean L2 norm of the value vectors.

    Inactive below: the head has little to move. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of v.
    """
    return heads.mean_over_tokens(heads.v_norm)


@score_function("AHON", inactive="below", definition="mean over tokens i of the norm of z[i]")
def average_head_output_norm(heads: HeadActivations) -> PerHead:
    """AHON: mean L2 norm of the head output z, before W_O.

    Inactive below: the head outputs little. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of z.
    """
    return heads.mean_over_tokens(heads.z_norm)


@score_function(
    "LTHON",
    inactive="below",
    definition="norm of the last token's head output z[N-1]",
    layer_mean_of="AHON",
)
def last_token_head_output_norm(heads: HeadActivations) -> PerHead:
    """LTHON: L2 norm of the head output z at the last token.

    Inactive below: the head outputs little where the next token is predicted. LTHON (LN) divides
    by the layer mean of AHON, not of LTHON. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of z.
    """
    return heads.at_last_token(heads.z_norm)


def last_token_head_output_norm_by_head(heads: HeadActivations) -> PerHead:
    """LTHON (HN): LTHON divided by the same head's AHON.

    Inactive below: the head outputs less at the last token than on average. Source: the paper.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, dimensionless, from 0 to N for an input of N tokens; NaN if the
        head outputs zero at every token.
    """
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
    """AHRN: mean L2 norm of the head output after its slice of W_O.

    Inactive below: the head adds little to the residual stream. Source: the paper, appendix.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of z W_O.
    """
    return heads.mean_over_tokens(heads.result_norm)
