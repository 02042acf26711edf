"""Attention in blocks of queries against the whole pattern in float64, with the smallest blocks."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close

from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.attention import blockwise
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.blockwise import block_attention
from inactive_heads.engines.attention.inputs import AttentionInputs

N, WINDOW, SOFTCAP = 64, 8, 2.0


def inputs_of(batch, *, window=None, bias=False, softcap=None, sinks=False):
    """Random attention of 4 heads that share 2 keys and values, masked as a model masks it."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    positions = torch.arange(N)
    seen = positions[:, None] >= positions
    if window is not None:
        seen = seen & (positions[:, None] - positions < window)
    mask = (seen & batch.mask[:, None, :])[:, None]
    if bias:  # numbers that are added: ALiBi
        slopes = torch.tensor([0.5, 0.1, 0.02, 0.004])[:, None, None]
        mask = torch.where(mask, slopes * (positions - positions[:, None]), -torch.inf)
    return AttentionInputs(
        query=2 * draw(2, 4, N, 16),
        key=2 * draw(2, 2, N, 16),
        value=draw(2, 2, N, 12),
        scale=1 / math.sqrt(16),
        first=batch.first,
        mask=mask,
        softcap=softcap,
        sinks=draw(4) if sinks else None,
    )


def in_float64(inputs, row, first, last):
    """z, pattern, first token's weight and entropy of one input's real tokens, by definition."""
    real = slice(first, last + 1)
    key, value = (
        t[row].double().repeat_interleave(2, dim=0)[:, real] for t in (inputs.key, inputs.value)
    )
    logits = inputs.scale * inputs.query[row].double()[:, real] @ key.mT
    if inputs.softcap is not None:
        logits = inputs.softcap * torch.tanh(logits / inputs.softcap)
    mask = inputs.mask[row, :, real, real]
    logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.exp()
    total = weights.sum(dim=-1, keepdim=True)
    if inputs.sinks is not None:
        total = total + inputs.sinks.double().exp()[:, None, None]
    weights = weights / total
    entropy = -torch.special.xlogy(weights, weights).sum(dim=-1)
    return weights @ value, weights, weights[..., 0], entropy


@pytest.mark.parametrize("block_bytes", [1, 1 << 22], ids=["blocks of 16", "one block"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "kind",
    [
        {"window": WINDOW},
        {"window": WINDOW, "sinks": True},
        {"softcap": SOFTCAP},
        {"bias": True, "softcap": SOFTCAP},
    ],
    ids=lambda kind: "+".join(kind),
)
def test_statistics_are_those_of_the_whole_pattern(kind, side, block_bytes, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_BYTES", {"cpu": block_bytes})
    batch = TokenBatch.of([[1] * N, [1] * 41], side=side)
    inputs = inputs_of(batch, **kind)
    z, found = block_attention(inputs)
    first_weight, entropy = found.first_token_weight(), found.entropy()
    pattern, one_head = found.pattern(), found.pattern_of(2)
    for row in range(2):
        first, last = int(batch.first[row]), int(batch.last[row])
        real = slice(first, last + 1)
        expected = in_float64(inputs, row, first, last)
        assert_close(z[row, real].transpose(0, 1), expected[0], rtol=1e-5)
        assert_close(pattern[row, :, real, real], expected[1], rtol=1e-5)
        assert_close(one_head[row, real, real], expected[1][2], rtol=1e-5)
        assert_close(first_weight[row, real].T, expected[2], rtol=1e-5)
        assert_close(entropy[row, real].T, expected[3], rtol=1e-4)
        if "window" in kind:
            assert np.all(expected[2][:, WINDOW:].numpy() == 0)
            assert not bool(first_weight[row, real][WINDOW:].any())


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.bfloat16, 4e-3), (torch.float16, 5e-4), (torch.float64, 1e-6)]
)
def test_any_dtype_is_computed_in_float32(dtype, rtol):
    """z is rounded to it once, at the end; statistics are not."""
    batch = TokenBatch.of([[1] * N, [1] * 41])
    inputs = inputs_of(batch, window=WINDOW)
    names = ("query", "key", "value")
    stored = replace(inputs, **{name: getattr(inputs, name).to(dtype) for name in names})
    z, found = block_attention(stored)
    exact = replace(inputs, **{name: getattr(stored, name).float() for name in names})
    expected_z, expected = block_attention(exact)
    assert z.dtype == dtype
    assert_close(z, expected_z, rtol=rtol)
    for name in ("first_token_weight", "entropy", "pattern"):
        assert getattr(found, name)().dtype == torch.float32
        assert_close(getattr(found, name)(), getattr(expected, name)(), rtol=1e-6)


def test_the_kernels_statistics_are_float32_too():
    query, key, value = (torch.randn(2, n, N, 16, dtype=torch.float64) for n in (4, 2, 2))
    batch = TokenBatch.of([[1] * N] * 2)
    z, found = attend(AttentionInputs(query, key, value, 0.25, batch.first), with_entropy=False)
    assert z.dtype == torch.float64
    assert found.first_token_weight().dtype == torch.float32
