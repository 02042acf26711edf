"""Logits only where they are wanted: the vocabulary is wider than everything else in a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from inactive_heads.core.tensor_types import TokenMask


@contextmanager
def only_kept(unembed: nn.Module, keep: TokenMask) -> Iterator[None]:
    """Within its block, ``unembed`` is given the residual at the kept tokens alone.

    The model's logits are then ``(1, kept, d_vocab)``, the kept tokens row after row.
    """

    def select(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        residual = inputs[0]
        return (residual[keep.to(residual.device)][None], *inputs[1:])

    handle = unembed.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
