"""Scores based on ideas from the literature, in addition to the paper's fifteen.

They are registered by name, with ``(LN)`` forms, but used only on request. Each docstring names
the source and what is taken from it. None was published as a score of inactive heads, and none is
claimed to be one: `inactive_heads.compare_scores` measures how well they work.
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
    """MSS: mean attention weight of the key that gets most, at whatever position the sink is.

    Inactive above. After Gu et al., "When Attention Sink Emerges in Language Models"
    (arXiv 2410.10781), who measure a sink at position k by its mean weight over the queries that
    see k. Here the mean is over all queries: otherwise the last tokens, which few queries see,
    would count as sinks.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, from 0 to 1.
    """
    columns = reduce(_of_real_queries(heads), "batch head query key -> batch head key", "sum")
    return columns.amax(dim=-1) / heads.batch.n_tokens.to(columns.device)[:, None]


@score_function(
    "CONF",
    inactive="below",
    definition="mean over queries i of the largest A[i, k] of a key k other than the first",
)
def confidence(heads: HeadActivations) -> PerHead:
    """CONF: mean over queries of the largest attention weight, without the first token.

    Inactive below. After Voita et al., "Analyzing Multi-Head Self-Attention" (arXiv 1905.09418),
    who find that important heads are confident. They leave out the end-of-sentence token, the sink
    of their models; in causal models, the sink is the first token.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, from 0 to 1.
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
    """MAD: mean distance from a query to the keys that it attends to.

    Inactive above: a head that attends only to the first token looks back as far as possible.
    Source: Vig and Belinkov, "Analyzing the Structure of Attention in a Transformer Language
    Model" (arXiv 1906.04284).

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, in tokens, from 0 to (N - 1) / 2 for an input of N tokens.
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
    """VWA: attention weights times the norms of the transformed value vectors.

    Inactive below. Source: Kobayashi et al., "Attention is Not Only a Weight" (arXiv 2004.10102):
    attention to a token whose transformed value vector is small moves little. Norms are summed, so
    contributions that cancel in the head output still count.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of z W_O.
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
    """DZM: mean distance of the head output z from its mean over the input's tokens.

    Inactive below. After An et al., "Fluctuation-based Adaptive Structured Pruning" (FLAP,
    arXiv 2312.11983), who prune the channels that fluctuate least and replace them by their means.
    Here the distance is an L2 norm, per input, before W_O. Zeroing removes the mean too;
    ``replacement=mean_head_outputs(…)`` keeps it.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the units of z.
    """
    return heads.mean_over_tokens(torch.linalg.vector_norm(_varying(heads), dim=-1))


@score_function(
    "FLUC",
    inactive="below",
    definition="mean over tokens i of the squared norm of (z[i] - mean over i of z[i]) W_O",
)
def fluctuation_of_the_result(heads: HeadActivations) -> PerHead:
    """FLUC: variance over the input's tokens of the head output after W_O.

    Inactive below. After An et al. (FLAP, arXiv 2312.11983), who multiply each channel's variance
    by the squared norm of its weights. Here the variance is that of the head's whole result, with
    the covariances between channels.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, 0 or more, in the squared units of z W_O.
    """
    return heads.mean_over_tokens(rooted_norm(_varying(heads), heads.path.root) ** 2)


@score_function(
    "CWH",
    inactive="below",
    definition="mean over tokens of 1 - cosine of the attention output with and without the head",
)
def change_without_the_head(heads: HeadActivations) -> PerHead:
    """CWH: 1 minus the cosine between the layer's attention output with and without the head.

    Inactive below: the direction of the output hardly changes without the head. The bias b_O is in
    neither output. After the block influence of Men et al., "ShortGPT" (arXiv 2403.03853), which
    is 1 minus the cosine between a layer's input and output; He et al. (arXiv 2406.15786) drop
    attention layers by it.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, the mean over tokens, from 0 to 2. A token counts 0 if both
        outputs are zero, 1 if one is.
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
    # The parts of the head's result parallel and orthogonal to the whole output.
    along = torch.where(with_head > 0, product / with_head, 0)
    across = (heads.result_norm**2 - along**2).clamp(min=0)
    left = with_head - along
    without = (left**2 + across).sqrt()
    # 1 - cosine, without cancellation where the cosine is near 1.
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
    """RRN: norm of what the head adds to the residual stream, over the norm of the stream.

    Inactive below: even a large head output changes little if the stream is larger still. After
    the mixing ratio of Kobayashi et al., "Incorporating Residual and Normalization Layers into
    Analysis of Masked Language Models" (arXiv 2109.07152): what attention mixes in, relative to
    what is preserved.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, the mean over tokens, dimensionless, 0 or more.

    Raises:
        UserError: the path of the model's heads into the residual stream is unknown.
    """
    return heads.mean_over_tokens(heads.written_norm / heads.residual_norm)


def _of_real_queries(heads: HeadActivations) -> Pattern:
    """The attention weights, 0 for padding queries."""
    pattern = heads.pattern
    real = rearrange(heads.batch.mask.to(pattern.device), "batch query -> batch 1 query 1")
    return torch.where(real, pattern, 0)


def _varying(heads: HeadActivations) -> HeadVectors:
    """Head outputs minus their mean over each input's tokens; undefined at padding."""
    real = heads.batch.mask.to(heads.z.device)[:, :, None, None]
    total = reduce(torch.where(real, heads.z, 0), "batch pos head d -> batch 1 head d", "sum")
    return heads.z - total / heads.batch.n_tokens.to(heads.z.device)[:, None, None, None]
