"""Where a run sees and silences heads: at z, the input of the output projection W_O.

In most models z is what the attention function returns, and the run gets it there. Others put a
gate, a norm or a scale between attention and W_O: in their layers a hook on the projection gives
the run what enters it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadVectors
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.routing.hf_attention import AttentionHandler, InterfaceAttention
from inactive_heads.engines.routing.masks import MaskFunction
from inactive_heads.engines.routing.numbering import LayerNumbers
from inactive_heads.engines.routing.own_attention import OwnAttention
from inactive_heads.engines.routing.refusals import unsupported


@runtime_checkable
class HeadRun(Protocol):
    """What one run of a model does in every layer: first `attend`, then `answer`."""

    def attend(self, layer: int, inputs: AttentionInputs) -> HeadVectors:
        """Compute a layer's attention.

        Args:
            layer: the layer's number.
            inputs: the inputs of its attention.

        Returns:
            The weighted sums of value vectors, ``(batch, pos, head, d_head)``.
        """
        ...

    def answer(self, layer: int, z: HeadVectors) -> HeadVectors:
        """Silence a layer's heads.

        Args:
            layer: the layer's number.
            z: what enters its output projection, ``(batch, pos, head, d_head)``.

        Returns:
            What shall enter it: ``z`` itself if no head is silenced.
        """
        ...


@dataclass(frozen=True, eq=False)
class HeadPlaces:
    """Where a run meets a model's heads.

    Attributes:
        attention: where the model computes it.
        numbers: the layers of attention modules.
        altered: output projections, by layer, of the layers in which something stands between
            attention and the projection.
    """

    attention: InterfaceAttention | OwnAttention
    numbers: LayerNumbers
    altered: Mapping[int, nn.Module]


@contextmanager
def route_heads(
    batch: TokenBatch,
    run: HeadRun,
    places: HeadPlaces,
    mask: MaskFunction | None = None,
) -> Iterator[None]:
    """A context in which a model's attention is computed, and its heads silenced, by a run.

    Args:
        batch: the inputs.
        run: computes and silences heads.
        places: where heads are.
        mask: see `AttentionHandler`.
    """
    layers = {projection: layer for layer, projection in places.altered.items()}
    attended_in: dict[nn.Module, tuple[int, torch.Size]] = {}
    """By output projection, the layer whose heads it takes in next, and their shape."""

    def at_attention(module: nn.Module, inputs: AttentionInputs) -> HeadVectors:
        layer = layer_of(module)
        attended = run.attend(layer, inputs)
        if layer not in places.altered:
            return run.answer(layer, attended)
        attended_in[places.altered[layer]] = layer, attended.shape
        return attended

    def at_projection(projection: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        layer, shape = attended_in.pop(projection, (layers[projection], None))
        z = _by_head(args[0], shape, layer)
        answered = run.answer(layer, z)
        return None if answered is z else (answered.reshape(args[0].shape), *args[1:])

    with ExitStack() as stack:
        layer_of = stack.enter_context(places.numbers.during_run())
        for projection in layers:  # several layers may share one
            stack.callback(projection.register_forward_pre_hook(at_projection).remove)
        handler = AttentionHandler(batch, at_attention, mask)
        stack.enter_context(places.attention.route(handler))
        yield


def _by_head(entering: Tensor, shape: torch.Size | None, layer: int) -> HeadVectors:
    """What enters a projection, with an axis for the heads; tokens may have been flattened."""
    if shape is None:
        raise unsupported(f"layer {layer}", "runs its output projection without attention before")
    batch, length, n_heads, d_head = shape
    width = n_heads * d_head
    if tuple(entering.shape) not in ((batch, length, width), (batch * length, width)):
        raise unsupported(
            f"layer {layer}",
            f"gives its output projection {tuple(entering.shape)}, where (batch, pos, heads * "
            f"d_head) is {(batch, length, width)}",
        )
    return entering.reshape(shape)
