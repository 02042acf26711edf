"""The blocks of a network around its attention: the residual stream, and norms on the way to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

Streams = dict[int, Tensor]


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
        streams[layer] = args[0] if args else named["hidden_states"]

    with ExitStack() as stack:
        for layer, block in blocks.items():
            hook = partial(note, layer=layer)
            handle = block.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield streams


@contextmanager
def found_post_norms(
    blocks: Mapping[int, nn.Module], attentions: Mapping[int, nn.Module]
) -> Iterator[dict[int, nn.Module]]:
    """Within its block, the norms that are given a layer's attention output as it is.

    By what they are given, not by name: Llama's ``post_attention_layernorm`` comes after the sum
    with the residual stream, Gemma's before it.
    """
    norms: dict[int, nn.Module] = {}
    outputs: Streams = {}  # held, so that no later tensor gets the memory of one of them

    def note_output(_module: nn.Module, _args: Any, output: Any, layer: int) -> None:
        outputs[layer] = output[0] if isinstance(output, tuple) else output

    def note_norm(module: nn.Module, args: tuple[Any, ...], layer: int) -> None:
        given = args[0] if args else None
        output = outputs.get(layer)
        if given is not None and output is not None and given.data_ptr() == output.data_ptr():
            norms[layer] = module

    with ExitStack() as stack:
        for layer, block in blocks.items():
            after = attentions[layer].register_forward_hook(partial(note_output, layer=layer))
            stack.callback(after.remove)
            for child in block.children():
                weight = getattr(child, "weight", None)
                if isinstance(weight, Tensor) and weight.ndim == 1:
                    before = child.register_forward_pre_hook(partial(note_norm, layer=layer))
                    stack.callback(before.remove)
        yield norms
