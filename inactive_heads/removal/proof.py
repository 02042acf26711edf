"""The proof that a model without heads computes what the model with these heads replaced does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.cascade import HALF_ROUNDING, ROUNDING
from inactive_heads.engines.base import Silence
from inactive_heads.engines.flash import FlashEngine

CLOSE = 1e-4
"""The largest difference of a logit in float32 or float64, relative to the largest logit."""

LENGTHS = (16, 5)
"""How many tokens the inputs of the proof have, if the model takes so many."""


def difference(
    whole: FlashEngine, smaller: FlashEngine, kept: Mapping[int, Sequence[int]], fixed: Fixed
) -> str | None:
    """How a model without heads differs from the model with these heads replaced.

    Args:
        whole: runs the model with all heads.
        smaller: runs the model without them.
        kept: the heads that stay in each layer of the whole model.
        fixed: replaces the removed heads.

    Returns:
        The first difference beyond rounding, as a predicate; None if there is none.
    """
    kept = {layer: heads for layer, heads in kept.items() if heads}
    if list(smaller.shape.layers) != sorted(kept):
        return f"then has heads in the layers {list(smaller.shape.layers)}, not in {sorted(kept)}"
    for layer, heads in kept.items():
        if (found := smaller.shape.of(layer).n_heads) != len(heads):
            return f"then has {found} heads in layer {layer}, not {len(heads)}"
    batch = _tokens(whole)
    expected_z: dict[int, HeadVectors] = {}
    found_z: dict[int, HeadVectors] = {}

    def replace(heads: HeadActivations) -> Silence:
        if heads.layer in kept:
            expected_z[heads.layer] = heads.outputs[:, :, list(kept[heads.layer])]
        return fixed(heads)

    def look(heads: HeadActivations) -> None:
        found_z[heads.layer] = heads.outputs

    expected = whole.run(batch, replace, keep=batch.mask)
    seen = smaller.run(batch, look, keep=batch.mask)
    for layer, z in expected_z.items():
        if not _similar(found_z[layer][batch.mask], z[batch.mask], whole.dtype):
            return f"then computes other outputs of the heads that stay in layer {layer}"
    for logits in (seen, smaller.run(batch, keep=batch.mask)):
        off = float((logits - expected).abs().max() / expected.abs().max())
        exact = whole.dtype in ROUNDING
        if (exact and off > CLOSE) or not _similar(logits, expected, whole.dtype):
            return f"then computes other logits (by {off:.1g} of the largest)"
    return None


def _tokens(engine: FlashEngine) -> TokenBatch:
    """Inputs of two lengths, spread over the vocabulary: its first tokens are special."""
    n_ctx, d_vocab = engine.shape.n_ctx, engine.shape.d_vocab
    lengths = [min(length, n_ctx) for length in LENGTHS]
    step = max(1, d_vocab // (sum(lengths) + 1))
    numbers = iter(range(1, sum(lengths) + 1))
    samples = [[next(numbers) * step % d_vocab for _ in range(length)] for length in lengths]
    return TokenBatch.of(samples, device=engine.device)


def _similar(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    found, expected = found.double(), expected.double()
    allowed = ROUNDING.get(dtype, HALF_ROUNDING)
    return bool((found - expected).norm() <= allowed * expected.norm())
