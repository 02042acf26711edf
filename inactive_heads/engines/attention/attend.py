"""Attention outputs and exact attention statistics without holding the pattern.

For a plain causal softmax, with s_ij = scale · q_i·k_j and lse_i = logsumexp_j s_ij:

- A[i, 0] = exp(s_i0 - lse_i);
- entropy_i = lse_i - scale · q_i·(sum_j A_ij k_j), where the sum is attention with the keys as
  values.

Flash attention returns z and lse. The weight of the first token then costs one product with one
key, and the entropy costs attention with other values: a second call, or, if it is known to be
needed, the same call with values twice as wide. Subtracting k_0 from every key does not change a
softmax. The entropy is computed from keys shifted in this way; otherwise heads that attend almost
wholly to the first token would lose digits to cancellation.

Any other softmax (a sliding window, left padding, soft-capped logits, biases, learned sinks) is
computed directly, in float32, one block of queries at a time: see `inactive_heads.engines.attention.blockwise`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from einops import rearrange, repeat
from torch import Tensor

from inactive_heads.core.attention_statistics import AttentionStatistics
from inactive_heads.core.tensor_types import HeadVectors, PerToken
from inactive_heads.engines.attention.blockwise import SoftmaxStatistics, block_attention
from inactive_heads.engines.attention.inputs import AttentionInputs, Keys, Queries, Values

MAX_WIDTH = 256
"""The widest query, key and value vectors that flash attention supports."""

GROUPED_ON_CPU = torch.__version__ >= "2.9"
"""Whether PyTorch's CPU kernel supports grouped-query attention (pytorch/pytorch#157893)."""


def attend(
    inputs: AttentionInputs, *, with_entropy: bool = False
) -> tuple[HeadVectors, AttentionStatistics]:
    """The head outputs z, and statistics of the attention weights.

    Args:
        inputs: the inputs of the layer's attention.
        with_entropy: compute the entropy along with z, which is cheaper than computing each by
            itself. Set it if the entropy will be needed.

    Returns:
        z, ``(batch, pos, head, d_head)``, in the dtype of the queries, and the statistics, each
        computed when it is called for.
    """
    if inputs.plain:
        if with_entropy and (both := _flash_with_entropy(inputs)) is not None:
            return both
        output = flash_attention(inputs.query, inputs.key, inputs.value, inputs.scale)
        if output is not None:
            z, lse = output
            return z, SoftmaxStatistics(
                inputs,
                first_weight=partial(_flash_first_weight, inputs, lse),
                entropies=partial(_flash_entropy, inputs),
            )
    return block_attention(inputs)


def attend_to_all(inputs: AttentionInputs) -> HeadVectors:
    """The head outputs z of the last query alone, which attends to every key unless masked.

    Args:
        inputs: the inputs of the layer's attention, with a single query.

    Returns:
        z, ``(batch, 1, head, d_head)``, in the dtype of the queries.
    """
    if inputs.plain:
        query, key, value = inputs.query, inputs.key, inputs.value
        output = flash_attention(query, key, value, inputs.scale, causal=False)
        if output is not None:
            return output[0]
    if inputs.mask is None:
        every_key = inputs.query.new_ones(1, 1, 1, inputs.key.shape[2], dtype=torch.bool)
        inputs = replace(inputs, mask=every_key)
    return attend(inputs)[0]


def flash_attention(
    query: Queries, key: Keys, value: Values, scale: float, *, causal: bool = True
) -> tuple[HeadVectors, PerToken] | None:
    """Plain attention by a fused kernel, with the logsumexp of the logits.

    The kernels are those behind PyTorch's ``scaled_dot_product_attention``, so z is bit for bit
    what the model computes by itself. They are called directly because that function does not
    return the logsumexp.

    Args:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.
        value: ``(batch, kv_head, key, d_head)``.
        scale: the factor on q·k.
        causal: whether query i attends to keys 0 to i; otherwise to every key.

    Returns:
        z, ``(batch, pos, head, d_head)``, in the dtype of the queries, and the logsumexp,
        ``(batch, pos, head)``, float32, in nats. None if PyTorch has no kernel for these inputs.
    """
    ops, device = torch.ops.aten, query.device.type
    if hides_faults(query, key):
        return None
    if device == "cpu" and query.shape[-1] == value.shape[-1]:
        if not GROUPED_ON_CPU:
            key, value = _repeat_kv_heads(query, key, value)
        kernel = ops._scaled_dot_product_flash_attention_for_cpu
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)
    elif device == "cuda" and _supports(
        torch.backends.cuda.can_use_flash_attention, query, key, value, causal
    ):
        kernel = ops._scaled_dot_product_flash_attention
        z, lse = kernel(query, key, value, 0.0, causal, scale=scale)[:2]
    elif device == "cuda":
        key, value = _repeat_kv_heads(query, key, value)
        can_use = torch.backends.cuda.can_use_efficient_attention
        if not _supports(can_use, query, key, value, causal):
            return None
        kernel = ops._scaled_dot_product_efficient_attention
        z, lse = kernel(query, key, value, None, True, 0.0, causal, scale=scale)[:2]
    else:
        return None
    lse = lse[..., : query.shape[2]].float()  # some kernels pad it
    return rearrange(z, "b head pos d -> b pos head d"), rearrange(lse, "b head pos -> b pos head")


def hides_faults(query: Queries, key: Keys) -> bool:
    """Whether PyTorch's kernel would turn NaN or infinity into numbers.

    On a CPU, it gives z = 0 where a query is NaN, and finite z where a key is infinite.

    Args:
        query: ``(batch, head, query, d_key)``.
        key: ``(batch, kv_head, key, d_key)``.

    Returns:
        True on a CPU if queries or keys are not finite, of padding too.
    """
    if query.device.type != "cpu":
        return False
    return not all(math.isfinite(float(one.sum(dtype=torch.float32))) for one in (query, key))


def _flash_first_weight(inputs: AttentionInputs, lse: PerToken) -> PerToken:
    """exp(s_i0 - lse_i). Without left padding the first token is at position 0."""
    group = inputs.query.shape[1] // inputs.key.shape[1]
    first = repeat(inputs.key[:, :, :1].float(), "b kv 1 d -> b 1 (kv group) d", group=group)
    return torch.exp(inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), first) - lse)


def _flash_entropy(inputs: AttentionInputs) -> PerToken:
    """The entropy by a second call, with the shifted keys as values.

    In half precision the shift rounds the logits once more, as q and k were rounded: a real model's
    mean entropies move by 0.04% (median), one near 0.001 by up to 3%.
    """
    # The kernel is faster if each head's vectors are contiguous than if heads are interleaved.
    shifted = (inputs.key - inputs.key[:, :, :1]).contiguous()
    output = flash_attention(inputs.query.contiguous(), shifted, shifted, inputs.scale)
    assert output is not None, "the kernel that gave z takes keys as values too"
    return _entropy_from(inputs, *output)


def _entropy_from(inputs: AttentionInputs, mean_key: HeadVectors, lse: PerToken) -> PerToken:
    """Log Σ_j exp(s'_ij) minus the mean of s'_ij under A, where s' are the shifted keys' logits."""
    mean_logit = inputs.scale * torch.linalg.vecdot(_by_position(inputs.query), mean_key.float())
    return (lse - mean_logit).clamp(min=0)


def _by_position(query: Queries) -> HeadVectors:
    return rearrange(query, "b head pos d -> b pos head d").float()


def _flash_with_entropy(inputs: AttentionInputs) -> tuple[HeadVectors, SoftmaxStatistics] | None:
    """z and both statistics from one call; None if PyTorch has no kernel of twice the width.

    The shifted keys are appended to the values, which doubles the width. The same width in queries
    and keys is used for what the shift by k_0 loses to rounding: q·k'_j = [q, q]·[k', residual of
    k']. In float32 that residual is 0.
    """
    key, width = inputs.key, inputs.value.shape[-1]
    if key.shape[-1] != width or width > MAX_WIDTH // 2:
        return None
    exact = key.float() - key[:, :, :1].float()
    shifted = exact.to(key.dtype)
    residual = (exact - shifted.float()).to(key.dtype)
    output = flash_attention(
        torch.cat([inputs.query, inputs.query], dim=-1),
        torch.cat([shifted, residual], dim=-1),
        torch.cat([inputs.value, shifted], dim=-1),
        inputs.scale,
    )
    if output is None:
        return None
    z_and_mean_key, lse = output
    z, mean_key = z_and_mean_key.split(width, dim=-1)
    return z, SoftmaxStatistics(
        inputs,
        first_weight=lambda: torch.exp(-lse),  # the first token's shifted logit is 0
        entropies=partial(_entropy_from, inputs, mean_key, lse),
    )


def _repeat_kv_heads(query: Queries, key: Keys, value: Values) -> tuple[Tensor, Tensor]:
    """Keys and values, repeated for the query heads that share them."""
    group = query.shape[1] // key.shape[1]
    if group == 1:
        return key, value
    repeated = "b kv pos d -> b (kv group) pos d"
    return repeat(key, repeated, group=group), repeat(value, repeated, group=group)


def _supports(kernel: object, query: Queries, key: Keys, value: Values, causal: bool) -> bool:
    """Whether a CUDA kernel supports these tensors, by PyTorch's own rules."""
    grouped = query.shape[1] != key.shape[1]
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, causal, grouped)
    return query.shape[-1] % 8 == 0 and kernel(params)  # type: ignore[operator]
