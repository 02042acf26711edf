"""The blocks around a network's attention layers: residual stream, norms, output projections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.engines.network.hf_attention import unsupported

Streams = dict[int, Tensor]
"""The residual stream that entered each layer's block, ``(batch, pos, d_model)``, by layer."""


@dataclass
class BlockNorms:
    """The norms of one block, sorted by their input.

    Attributes:
        before: norms of the residual stream that enters the block.
        after: norms of the residual stream after attention has been added.
        post: the norm of the attention output before it is added; None without one.
        multiplier: the factor on the attention output (after ``post``) when it is added; None if
            what is added is no multiple of it. 1 if no norm reads the sum.
    """

    before: list[nn.Module] = field(default_factory=list)
    after: list[nn.Module] = field(default_factory=list)
    post: nn.Module | None = None
    multiplier: float | None = 1.0


def enclosing_blocks(
    network: nn.Module, attentions: Mapping[int, nn.Module]
) -> dict[int, nn.Module]:
    """The block that contains each attention layer.

    Args:
        network: the model.
        attentions: attention modules by layer.

    Returns:
        Blocks by layer: the innermost module around the attention that is an item of an
        `nn.ModuleList`. A layer without one is left out.
    """
    modules = dict(network.named_modules())
    names = {id(module): name for name, module in modules.items()}
    blocks = {}
    for layer, attention in attentions.items():
        name = names[id(attention)]
        while name:
            parent = name.rpartition(".")[0]
            if isinstance(modules[parent], nn.ModuleList):
                blocks[layer] = modules[name]
                break
            name = parent
    return blocks


@contextmanager
def capture_streams(blocks: Mapping[int, nn.Module]) -> Iterator[Streams]:
    """A context in which the residual stream that enters each block is captured.

    Args:
        blocks: blocks by layer.

    Yields:
        A dictionary that fills as the model runs. Remove a layer's stream once it has been used, so
        that one layer is held at a time.
    """
    streams: Streams = {}

    def capture(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int
    ) -> None:
        streams[layer] = _hidden_states(args, kwargs)

    with ExitStack() as stack:
        for layer, block in blocks.items():
            hook = partial(capture, layer=layer)
            handle = block.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield streams


@contextmanager
def detect_norms(
    blocks: Mapping[int, nn.Module], attentions: Mapping[int, nn.Module]
) -> Iterator[dict[int, BlockNorms]]:
    """A context in which the norms of every block that runs are detected and sorted.

    They are sorted by their input, not by name: Llama's ``post_attention_layernorm`` comes after
    the sum with the residual stream, Gemma's before it.

    Args:
        blocks: blocks by layer.
        attentions: attention modules by layer.

    Yields:
        Each block's norms by layer; complete once the model has run.
    """
    with ExitStack() as stack:
        yield {
            layer: _detect_block_norms(block, attentions[layer], stack)
            for layer, block in blocks.items()
        }


def _detect_block_norms(block: nn.Module, attention: nn.Module, stack: ExitStack) -> BlockNorms:
    norms = BlockNorms()
    # Tensors are identified by their address, so they are kept alive: none may reuse another's.
    stream: list[Tensor] = []
    outputs: dict[nn.Module, Tensor] = {}

    def on_block_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream[:] = [_hidden_states(args, kwargs)]

    def on_output(module: nn.Module, _args: Any, output: Any) -> None:
        outputs[module] = output[0] if isinstance(output, tuple) else output

    def on_norm_input(norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = _hidden_states(args, kwargs)
        address = hidden_states.data_ptr()
        if address == stream[0].data_ptr():
            norms.before.append(norm)
        elif attention in outputs and address == outputs[attention].data_ptr():
            norms.post = norm
        elif address not in [output.data_ptr() for output in outputs.values()]:
            norms.after.append(norm)
            if attention in outputs:
                added = outputs[attention if norms.post is None else norms.post]
                norms.multiplier = _multiplier(hidden_states, stream[0], added)

    handles = [block.register_forward_pre_hook(on_block_input, with_kwargs=True)]
    handles.append(attention.register_forward_hook(on_output))
    for child in block.children():
        weight = getattr(child, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 1:
            handles.append(child.register_forward_pre_hook(on_norm_input, with_kwargs=True))
        if child is not attention:
            handles.append(child.register_forward_hook(on_output))
    for handle in handles:
        stack.callback(handle.remove)
    return norms


def _multiplier(after: Tensor, before: Tensor, output: Tensor) -> float | None:
    """The c of ``after = before + c output``; None if there is none, 1 if rounding hides it."""
    if not after.shape == before.shape == output.shape:  # for example, several parallel streams
        return None
    # Where the stream is far larger than the output, rounding hides the output in their sum.
    visible = output.abs() > 32 * torch.finfo(after.dtype).eps * after.abs()
    change, added = (after.double() - before.double())[visible], output.double()[visible]
    if not len(added):
        return 1.0
    factor = float(change @ added / (added @ added))
    factor = 1.0 if abs(factor - 1) < 0.02 else factor
    return factor if bool((change - factor * added).norm() <= 0.1 * change.norm()) else None


def _hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden_states: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden_states


OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "Wo")
"""The names that models give to the output projection, W_O."""


def output_projection(module: nn.Module, width: int) -> nn.Module:
    """The output projection W_O of an attention module.

    Args:
        module: the attention module.
        width: number of the projection's inputs, n_heads * d_head.

    Returns:
        A linear layer or Conv1D.

    Raises:
        UserError: no submodule of a known name (`OUTPUT_PROJECTIONS`) has that many inputs.
    """
    for name in OUTPUT_PROJECTIONS:
        layer = getattr(module, name, None)
        if isinstance(layer, nn.Linear | Conv1D) and projection_weights(layer).shape[0] == width:
            return layer
    raise unsupported(
        f"a layer {type(module).__name__}",
        f"has no {', '.join(OUTPUT_PROJECTIONS)} with {width} inputs and unpacked weights",
    )


def projection_weights(projection: nn.Module) -> Tensor:
    """The weights of a linear layer or Conv1D, inputs first.

    Args:
        projection: the layer.

    Returns:
        A view without gradients, ``(input, output)``, in the layer's dtype.
    """
    weight: Tensor = projection.weight.detach()  # type: ignore[operator]
    return weight if isinstance(projection, Conv1D) else weight.T
