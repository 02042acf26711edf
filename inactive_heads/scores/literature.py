"""Further scores, after ideas of the literature; they are none of the paper's fifteen.

Registered like those, by name and with their ``(LN)`` form, but only used where they are asked
for. Each names its source and what was taken from it: none was published as a score of inactive
heads, so none is claimed to be one; `inactive_heads.compare_scores` tells what they are worth.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange, reduce

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.output_path import rooted_norm
from inactive_heads.core.tensor_types import HeadVectors, Pattern, PerHead
from inactive_heads.scores.registry import score_function


@score_function(
    "MSS", inactive="above", definition="max over keys k of the mean over queries i of A[i, k]"
)
def maximal_sink_strength(heads: HeadActivations) -> PerHead:
    """Mean attention weight of the token that gets most, AWFT's of whichever token is the sink.

    After Gu et al., "When Attention Sink Emerges in Language Models" (arXiv 2410.10781), who
    measure a sink at any position k by the mean weight that it gets; theirs is over the queries
    that see k, this one over all, so that the last tokens, which few see, are no sinks.
    """
    columns = reduce(_of_real_queries(heads), "batch head query key -> batch head key", "sum")
    return columns.amax(dim=-1) / heads.batch.n_tokens.to(columns.device)[:, None]


@score_function(
    "CONF",
    inactive="below",
    definition="mean over queries i of the largest A[i, k] of a key k other than the first",
)
def confidence(heads: HeadActivations) -> PerHead:
    """How much of its attention a head gives to one token, the first left out.

    Voita et al., "Analyzing Multi-Head Self-Attention" (arXiv 1905.09418): heads that do much are
    confident ones. They leave out the end of a sentence, which was the sink of their models; that
    of causal models is the first token.
    """
    weights = _of_real_queries(heads)
    positions = torch.arange(weights.shape[-1], device=weights.device)
    first = positions == heads.batch.first.to(weights.device)[:, None]
    others = weights.masked_fill(rearrange(first, "batch key -> batch 1 1 key"), 0)
    largest = rearrange(others.amax(dim=-1), "batch head query -> batch query head")
    return heads.mean_over_tokens(largest)


@score_function(
    "MAD", inactive="above", definition="mean over queries i of sum_k A[i, k] (i - k), in tokens"
)
def mean_attention_distance(heads: HeadActivations) -> PerHead:
    """How far back a head looks, in tokens.

    Vig and Belinkov, "Analyzing the Structure of Attention in a Transformer Language Model"
    (arXiv 1906.04284). A head that rests on the first token looks back as far as it can.
    """
    weights = _of_real_queries(heads)
    positions = torch.arange(weights.shape[-1], device=weights.device, dtype=weights.dtype)
    target = einsum(weights, positions, "batch head query key, key -> batch query head")
    return heads.mean_over_tokens(positions[None, :, None] - target)


@score_function(
    "VWA",
    inactive="below",
    definition="mean over queries i of sum_k of the norm of A[i, k] v[k] W_O",
)
def value_weighted_attention(heads: HeadActivations) -> PerHead:
    """Attention weights times the size of what they bring.

    Kobayashi et al., "Attention is Not Only a Weight" (arXiv 2004.10102): weight given to a token
    whose transformed value is small brings nothing. What cancels in the sum still counts here.
    """
    sizes = rooted_norm(heads.v, heads.path.root)
    real = heads.batch.mask.to(sizes.device)[:, :, None]
    brought = einsum(
        _of_real_queries(heads),
        torch.where(real, sizes, 0),
        "batch head query key, batch key head -> batch query head",
    )
    return heads.mean_over_tokens(brought)


@score_function(
    "DZM",
    inactive="below",
    definition="mean over tokens i of the norm of z[i] - mean over i of z[i]",
)
def distance_of_z_to_its_mean(heads: HeadActivations) -> PerHead:
    """How much a head's output varies from token to token.

    After An et al., "Fluctuation-based Adaptive Structured Pruning" (FLAP, arXiv 2312.11983), who
    prune what fluctuates least and put its mean in place; here per input, of norms, before W_O.
    Zeroing takes the mean away too: with ``replacement=mean_head_outputs(…)`` it stays.
    """
    return heads.mean_over_tokens(torch.linalg.vector_norm(_varying(heads), dim=-1))


@score_function(
    "FLUC",
    inactive="below",
    definition="mean over tokens i of the squared norm of (z[i] - mean over i of z[i]) W_O",
)
def fluctuation_of_the_result(heads: HeadActivations) -> PerHead:
    """The variance, over an input's tokens, of what a head adds to the residual stream.

    An et al. (FLAP, arXiv 2312.11983) weigh each channel's variance by the squared norm of its
    weights; this is the variance of the head's whole result, with what its channels share.
    """
    return heads.mean_over_tokens(rooted_norm(_varying(heads), heads.path.root) ** 2)


@score_function(
    "CWH",
    inactive="below",
    definition="mean over tokens of 1 - cosine of the attention output with and without the head",
)
def change_without_the_head(heads: HeadActivations) -> PerHead:
    """How far the direction of the layer's attention output turns when the head is left out.

    After the block influence of Men et al., "ShortGPT" (arXiv 2403.03853): 1 minus the cosine of a
    layer's input and output, by which He et al. drop attention layers (arXiv 2406.15786). Between
    0 and 2; 0 where both are zero, 1 where one is. The bias b_O counts to neither.
    """
    weights = heads.path.weights.float()
    output = einsum(heads.z, weights, "batch pos head d_head, head d_head m -> batch pos m")
    product = einsum(
        heads.z,
        weights,
        output,
        "batch pos head d_head, head d_head m, batch pos m -> batch pos head",
    )
    with_head = torch.linalg.vector_norm(output, dim=-1)[:, :, None]
    # What of the head's result lies along the whole output, and what across it and so turns it.
    along = torch.where(with_head > 0, product / with_head, 0)
    across = (heads.result_norm**2 - along**2).clamp(min=0)
    left = with_head - along
    without = (left**2 + across).sqrt()
    # 1 - cosine, without the difference of two numbers near 1 where the head does little.
    turned = torch.where(left > 0, across / (without * (without + left)), 1 - left / without)
    one_is_zero = (with_head > 0) ^ (without > 0)
    both = (with_head > 0) & (without > 0)
    return heads.mean_over_tokens(torch.where(both, turned, one_is_zero.float()))


@score_function(
    "RRN",
    inactive="below",
    definition="mean over tokens i of the norm of what the head writes over the residual stream's",
)
def result_norm_over_the_residual(heads: HeadActivations) -> PerHead:
    """How large what a head adds is beside the stream that it is added to.

    After the mixing ratio of Kobayashi et al., "Incorporating Residual and Normalization Layers
    into Analysis of Masked Language Models" (arXiv 2109.07152): what attention mixes in against
    what is preserved. A head may be large and change little where the stream is larger still.
    """
    return heads.mean_over_tokens(heads.written_norm / heads.residual_norm)


GALLERY_SCORES: tuple[str, ...] = tuple(
    f"{name}{form}"
    for name in ("MSS", "CONF", "MAD", "VWA", "DZM", "FLUC", "CWH", "RRN")
    for form in ("", " (LN)")
)
"""The further scores, by name."""


def _of_real_queries(heads: HeadActivations) -> Pattern:
    """The attention weights, 0 for queries that are padding."""
    pattern = heads.pattern
    real = rearrange(heads.batch.mask.to(pattern.device), "batch query -> batch 1 query 1")
    return torch.where(real, pattern, 0)


def _varying(heads: HeadActivations) -> HeadVectors:
    """Head outputs less their mean over each input's tokens; undefined at padding."""
    real = heads.batch.mask.to(heads.z.device)[:, :, None, None]
    total = reduce(torch.where(real, heads.z, 0), "batch pos head d -> batch 1 head d", "sum")
    return heads.z - total / heads.batch.n_tokens.to(heads.z.device)[:, None, None, None]
