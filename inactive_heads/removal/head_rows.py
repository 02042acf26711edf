"""Which outputs of an attention module's linear layers make which head, found by their gradients.

A model is run on one token with the output of every linear layer before attention cut off from its
input. The derivative of one head's query, key, value or gate with respect to that output is zero
except at the outputs that make the head. So fused, interleaved and separate projections, biases and
norms of single heads need no knowledge of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.flash import FlashEngine


@dataclass(frozen=True)
class MadeHeads:
    """The heads that the outputs of one linear layer make. An output may make none.

    Attributes:
        queries: ``(head, row)``, true where an output makes one query head, or its gate, alone.
        keys_values: ``(kv_head, row)``, true where it makes one key/value head alone.
    """

    queries: Bool[Tensor, "head row"]
    keys_values: Bool[Tensor, "kv_head row"]


@dataclass(frozen=True)
class LayerParts:
    """What a layer's heads are made of.

    Attributes:
        made: the heads made by each linear layer before attention.
        sinks: the tensor with a sink for every head; None without one.
        returned: what the attention module returned.
    """

    made: Mapping[nn.Module, MadeHeads]
    sinks: Tensor | None
    returned: Any


def find_parts(engine: FlashEngine, layers: Mapping[int, nn.Module]) -> dict[int, LayerParts]:
    """What the heads of some layers are made of, by one run of the model.

    Args:
        engine: runs the model.
        layers: attention modules by layer.

    Returns:
        The parts by layer.
    """
    shape = engine.shape
    probe = _Probe()
    linear = {
        layer: [
            one
            for one in module.modules()
            if isinstance(one, nn.Linear | Conv1D) and one is not engine.projections[layer]
        ]
        for layer, module in layers.items()
    }
    # An input for every query head, key/value head and gate, whose number is its place below.
    n_inputs = 2 * shape.n_heads + shape.n_key_value_heads
    batch = TokenBatch.of([[1]] * n_inputs, device=engine.device)
    with engine.running(batch, probe, lambda: [1] * n_inputs) as network, torch.enable_grad():
        every = [one for own in linear.values() for one in own]
        with _cut_off(every) as outputs, _returned_by(layers) as returned:
            network(batch.tokens, use_cache=False)
        totals = [_one_head_each(probe, layer, shape) for layer in layers]
        leaves = list(outputs.values())
        found = torch.autograd.grad(torch.stack(totals).sum(), leaves, allow_unused=True)
    touched = {
        module: torch.zeros_like(leaf, dtype=torch.bool) if one is None else one != 0
        for (module, leaf), one in zip(outputs.items(), found, strict=True)
    }
    return {
        layer: LayerParts(
            {one: _made(touched[one][:, 0], shape) for one in linear[layer] if one in touched},
            probe.inputs[layer].sinks,
            returned[module],
        )
        for layer, module in layers.items()
    }


@dataclass(eq=False)
class _Probe:
    """A run in which attention gives ones; keeps what enters it, and what enters W_O."""

    inputs: dict[int, AttentionInputs] = field(default_factory=dict)
    entering: dict[int, HeadVectors] = field(default_factory=dict)

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        self.inputs[layer] = inputs
        batch, n_heads, length, _ = inputs.query.shape
        return inputs.value.new_ones(batch, length, n_heads, inputs.value.shape[-1])

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        self.entering[layer] = z
        return z


@contextmanager
def _cut_off(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """A context in which modules return random numbers, on which gradients can be taken."""
    outputs: dict[nn.Module, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def replace(module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        numbers = torch.randn(output.shape[1:], generator=generator).to(output)
        outputs[module] = numbers.expand_as(output).clone().requires_grad_()
        return outputs[module].clone()  # which the model may change in place

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(replace).remove)
        yield outputs


@contextmanager
def _returned_by(layers: Mapping[int, nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    returned: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, _args: Any, output: Any) -> None:
        returned[module] = output

    with ExitStack() as stack:
        for module in layers.values():
            stack.callback(module.register_forward_hook(keep).remove)
        yield returned


def _one_head_each(probe: _Probe, layer: int, shape: ModelShape) -> Tensor:
    """The sum, over inputs, of the vectors of the one head that an input is there for."""
    inputs, z = probe.inputs[layer], probe.entering[layer]
    first_key_value = shape.n_heads
    first_gate = first_key_value + shape.n_key_value_heads
    generator = torch.Generator().manual_seed(1)

    def weighted(vector: Tensor) -> Tensor:  # so that nothing cancels
        return (vector * torch.randn(vector.shape, generator=generator).to(vector)).sum()

    total = inputs.query.new_zeros(())
    for head in range(inputs.query.shape[1]):
        total = total + weighted(inputs.query[head, head]) + weighted(z[first_gate + head, :, head])
    key, value = inputs.held_once
    for head in range(key.shape[1]):
        row = first_key_value + head
        total = total + weighted(key[row, head]) + weighted(value[row, head])
    return total


def _made(touched: Bool[Tensor, "input row"], shape: ModelShape) -> MadeHeads:
    n_heads, n_key_value_heads = shape.n_heads, shape.n_key_value_heads
    queries, keys_values, gates = touched.split([n_heads, n_key_value_heads, n_heads])
    queries = queries | gates
    alone = queries.sum(dim=0) + keys_values.sum(dim=0) == 1
    return MadeHeads(queries & alone, keys_values & alone)
