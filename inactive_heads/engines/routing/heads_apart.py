"""The proof that what enters W_O keeps heads apart, where it is not what attention returns.

Attention's output is set to zero in some heads, others in every input. A gate, a scale or a norm
without centring or bias keeps zeros where they are. So exactly the blocks of these heads must be
zero at the projection's input, or the blocks are not the heads'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadMask, HeadVectors
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.routing.head_outputs import HeadPlaces, route_heads


def heads_of_inputs(n_heads: int) -> HeadMask:
    """A mask of heads for every input, by which a head is known from the others.

    Args:
        n_heads: number of heads.

    Returns:
        ``(input, head)``: an input for every binary digit, with the heads whose number has a 1
        there, and one with the other heads. Every two heads differ in two inputs, one each.
    """
    n_digits = max(1, (n_heads - 1).bit_length())
    digits = torch.arange(n_heads) >> torch.arange(n_digits)[:, None] & 1 == 1
    return torch.cat([digits, ~digits])


@dataclass(eq=False)
class _ZeroedHeads:
    """A run in which some heads' attention is zero; keeps which blocks then are."""

    zeroed: HeadMask
    blocks: dict[int, Bool[Tensor, "input head"]] = field(default_factory=dict)

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        attended = attend(inputs)[0]
        mask = self.zeroed[:, : attended.shape[2]].to(attended.device)
        return attended.masked_fill(mask[:, None, :, None], 0)

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        self.blocks[layer] = (z == 0).all(dim=-1).all(dim=1).cpu()
        return z


def mixing_layer(
    run: Callable[[TokenBatch], object],
    tokens: list[int],
    places: HeadPlaces,
    n_heads: int,
    device: torch.device,
) -> int | None:
    """The first layer in which heads cannot be told apart at the input of W_O.

    Args:
        run: runs a batch through the model.
        tokens: the tokens to run.
        places: where heads are; the altered layers are looked at.
        n_heads: the largest number of heads in a layer.
        device: the model's.

    Returns:
        The layer; None if in all of them every block of the input is one head's own.

    Raises:
        UserError: a projection's input has no block for every head and token.
    """
    zeroed = heads_of_inputs(n_heads)
    batch = TokenBatch.of([tokens] * len(zeroed), device=device)
    heads = _ZeroedHeads(zeroed)
    with route_heads(batch, heads, places):
        run(batch)
    for layer in places.altered:
        blocks = heads.blocks[layer]
        # A gate may be closed, or values be zero: such a block is zero in every input.
        open_blocks = ~blocks.all(dim=0)
        expected = zeroed[:, : blocks.shape[1]]
        if not bool(
            open_blocks.any() and torch.equal(blocks[:, open_blocks], expected[:, open_blocks])
        ):
            return layer
    return None
