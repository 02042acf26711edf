"""What takes the place of attention in a layer that has lost all its heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from inactive_heads.engines.network.glue import hidden_states


class NoHeads(nn.Module):
    """Attention without heads: the same output for every token.

    Args:
        bias: the output, ``(d_model,)``; None for zero.
        layer: the layer's number in the model's key/value cache.
        returns: how many values the attention module returned; None if it was a tensor alone. All
            but the first are None.
    """

    def __init__(self, bias: Tensor | None, layer: int, returns: int | None) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.layer_idx = layer
        self._returns = returns

    def forward(self, *args: Any, **options: Any) -> Tensor | tuple[Tensor | None, ...]:
        """Attention's output for whatever hidden states are given."""
        hidden = hidden_states(args, options)
        assert hidden is not None, "an attention module takes hidden states"
        self._count_tokens(hidden, (*args, *options.values()))
        output = torch.zeros_like(hidden)
        if self.bias is not None:
            output = output + self.bias.to(hidden)
        return output if self._returns is None else (output, *[None] * (self._returns - 1))

    def _count_tokens(self, hidden: Tensor, given: tuple[Any, ...]) -> None:
        """Models read off a layer's cache how many tokens there are: one number for each will do."""
        for cache in given:
            if isinstance(cache, Cache):
                numbers = hidden.new_zeros(len(hidden), 1, hidden.shape[1], 1)
                cache.update(numbers, numbers, self.layer_idx)
