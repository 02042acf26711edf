"""The blocks of a network around its attention: the residual stream, and the norms beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Streams = dict[int, Tensor]


@dataclass
class BlockNorms:
    """The norms of one block, by what they are given.

    Attributes:
        before: those given the residual stream as it enters the block.
        after: those given it with what attention has added.
        post: the one that attention's output goes through before it is added.
        multiplier: what is added is that many times attention's output (after ``post``); None if
            something else is added. 1 where no norm shows it.
    """

    before: list[nn.Module] = field(default_factory=list)
    after: list[nn.Module] = field(default_factory=list)
    post: nn.Module | None = None
    multiplier: float | None = 1.0


def blocks_around(network: nn.Module, attentions: Mapping[int, nn.Module]) -> dict[int, nn.Module]:
    """The block of each attention layer: what holds it and is one of a list of such.

    A layer that stands in no list is left out.
    """
    modules = dict(network.named_modules())
    names = {id(module): name for name, module in modules.items()}
    found = {}
    for layer, attention in attentions.items():
        name = names[id(attention)]
        while name:
            parent = name.rpartition(".")[0]
            if isinstance(modules[parent], nn.ModuleList):
                found[layer] = modules[name]
                break
            name = parent
    return found


@contextmanager
def watched_streams(blocks: Mapping[int, nn.Module]) -> Iterator[Streams]:
    """Within its block, what each layer's block is given: the residual stream, as it comes.

    Whoever reads a layer's should take it out, so that one layer is held at a time.
    """
    streams: Streams = {}

    def note(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], layer: int) -> None:
        streams[layer] = _stream(args, named)

    with ExitStack() as stack:
        for layer, block in blocks.items():
            hook = partial(note, layer=layer)
            handle = block.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield streams


@contextmanager
def found_norms(
    blocks: Mapping[int, nn.Module], attentions: Mapping[int, nn.Module]
) -> Iterator[dict[int, BlockNorms]]:
    """Within its block, the norms of every block that runs, by what they are given.

    Not by their names: Llama's ``post_attention_layernorm`` comes after the sum with the
    residual stream, Gemma's before it.
    """
    with ExitStack() as stack:
        yield {layer: _watch(block, attentions[layer], stack) for layer, block in blocks.items()}


def _watch(block: nn.Module, attention: nn.Module, stack: ExitStack) -> BlockNorms:
    norms = BlockNorms()
    # Tensors are held, so that no later one gets the memory of one of them.
    stream: list[Tensor] = []
    outputs: dict[nn.Module, Tensor] = {}

    def enter(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        stream[:] = [_stream(args, named)]

    def leave(module: nn.Module, _args: Any, output: Any) -> None:
        outputs[module] = output[0] if isinstance(output, tuple) else output

    def see(norm: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = _stream(args, named).data_ptr()
        if given == stream[0].data_ptr():
            norms.before.append(norm)
        elif attention in outputs and given == outputs[attention].data_ptr():
            norms.post = norm
        elif given not in [output.data_ptr() for output in outputs.values()]:
            norms.after.append(norm)
            if attention in outputs:
                added = outputs[attention if norms.post is None else norms.post]
                norms.multiplier = _multiplier(_stream(args, named), stream[0], added)

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True)]
    handles.append(attention.register_forward_hook(leave))
    for child in block.children():
        weight = getattr(child, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 1:
            handles.append(child.register_forward_pre_hook(see, with_kwargs=True))
        if child is not attention:
            handles.append(child.register_forward_hook(leave))
    for handle in handles:
        stack.callback(handle.remove)
    return norms


def _multiplier(after: Tensor, before: Tensor, output: Tensor) -> float | None:
    """The c of ``after = before + c output``; None if there is none, 1 where it cannot be seen."""
    if not after.shape == before.shape == output.shape:  # several streams side by side, say
        return None
    # Where the stream is large beside the output, rounding is all that is left of their sum.
    seen = output.abs() > 32 * torch.finfo(after.dtype).eps * after.abs()
    change, shown = (after.double() - before.double())[seen], output.double()[seen]
    if not len(shown):
        return 1.0
    found = float(change @ shown / (shown @ shown))
    found = 1.0 if abs(found - 1) < 0.02 else found
    return found if bool((change - found * shown).norm() <= 0.1 * change.norm()) else None


def _stream(args: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    given: Tensor = args[0] if args else named["hidden_states"]
    return given
