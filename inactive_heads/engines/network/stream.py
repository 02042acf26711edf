"""The residual stream through a whole network: who writes into it, who reads it, and its capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.core.tensor_types import HeadVectors, OutputWeights, Residual
from inactive_heads.engines.network.glue import BlockRun, block_runs, first_tensor, hidden_states
from inactive_heads.engines.network.residual import ReadBlock, Writing, read_block
from inactive_heads.errors import UserError

Streams = dict[int, Tensor]
"""The residual stream that each layer's heads add to, by layer."""

Writings = dict[int, Writing]
"""How each layer's heads write into the residual stream, by layer."""


def blocks_around(network: nn.Module, attentions: Mapping[int, nn.Module]) -> list[nn.Module]:
    """The blocks that a network's residual stream runs through.

    Args:
        network: the model.
        attentions: attention modules by layer.

    Returns:
        All items of every `nn.ModuleList` in which blocks with attention stand, those without
        attention included. The block around a layer's attention is the innermost item that is not
        the attention itself.
    """
    modules = dict(network.named_modules())
    names = {id(module): name for name, module in modules.items()}
    found: dict[int, nn.Module] = {}
    for attention in attentions.values():
        name = names[id(attention)]
        while name:
            parent = name.rpartition(".")[0]
            siblings = modules[parent]
            if isinstance(siblings, nn.ModuleList) and modules[name] is not attention:
                found.update((id(block), block) for block in siblings)
                break
            name = parent
    return list(found.values())


@contextmanager
def follow_stream(
    blocks: Sequence[nn.Module], projections: Mapping[int, nn.Module]
) -> Iterator[Writings]:
    """A context in which one run of a model shows how its heads write and who reads the stream.

    Args:
        blocks: the blocks, see `blocks_around`.
        projections: output projections by layer, in the order in which the layers run. Layers may
            share one.

    Yields:
        Every layer's `Writing`, there when the context has ended.
    """
    writings: Writings = {}
    route = _Route(projections)
    with block_runs(blocks, set(projections.values()), route.pass_block):
        yield writings
    route.finish()
    writings.update((layer, route.writing(layer)) for layer in projections)


class _Route:
    """The blocks in the order in which the stream runs through them."""

    def __init__(self, projections: Mapping[int, nn.Module]) -> None:
        self._projections = projections
        self._layers: dict[nn.Module, list[int]] = {}
        for layer, projection in projections.items():
            self._layers.setdefault(projection, []).append(layer)
        self._times: Counter[nn.Module] = Counter()
        """In how many runs of blocks a projection has run."""
        self.blocks: list[ReadBlock] = []
        self.broken: list[bool] = []
        """For every block, whether something changes the stream between it and the one before."""
        self._before: Tensor | None = None
        self._waiting: list[BlockRun] = []
        self._shape: torch.Size | None = None

    def pass_block(self, run: BlockRun) -> None:
        left = None if run.left is None else run.left.detach()
        self.broken.append(self._before is not None and not _same_stream(self._before, run.entered))
        self._before = left
        if self._shape is None and run.outputs:
            self._shape = next(iter(run.outputs.values())).shape
        self._waiting.append(run)
        if self._shape is not None:
            self._read()

    def finish(self) -> None:
        if self._shape is not None:
            self._read()

    def _read(self) -> None:
        # Blocks before the first with attention wait: the stream's shape is that of its output.
        assert self._shape is not None
        self.blocks += [read_block(run, self._of(run), self._shape) for run in self._waiting]
        self._waiting.clear()

    def _of(self, run: BlockRun) -> dict[nn.Module, int]:
        """The layers in a run of a block, by output projection: the next of those that share it."""
        found = {}
        for projection in run.outputs:
            layers = self._layers[projection]
            found[projection] = layers[min(self._times[projection], len(layers) - 1)]
            self._times[projection] += 1
        return found

    def writing(self, layer: int) -> Writing:
        layers = self._layers[self._projections[layer]]
        times = self._times[self._projections[layer]]
        if len(layers) > 1 and times not in (0, len(layers)):
            return Writing(
                unknown=f"{len(layers)} layers share its output projection, in {times} runs of blocks"
            )
        places = [at for at, block in enumerate(self.blocks) if layer in block.writings]
        if not places:
            return Writing(unknown="its output projection runs in no block of a list")
        if len(places) > 1:
            return Writing(unknown="its attention runs more than once")
        at = places[0]
        own = self.blocks[at].writings[layer]
        if own.unread is not None or layer not in self.blocks[at].goes_on:
            return own
        readers = list(own.readers)
        for later in range(at + 1, len(self.blocks)):
            block = self.blocks[later]
            problem = block.problem
            if self.broken[later]:
                names = self.blocks[later - 1].name, block.name
                problem = "the residual stream is changed between the blocks {} and {}".format(
                    *names
                )
            if problem is not None:
                return replace(own, unread=problem)
            readers += block.entering
            if block.renewed:
                break
        return replace(own, readers=tuple(readers))


def _same_stream(left: Tensor, entered: Tensor) -> bool:
    """Whether a block is entered by a multiple of what the block before it returned."""
    if left.numel() != entered.numel():
        return False
    one, other = left.flatten().double().cpu(), entered.detach().flatten().double().cpu()
    factor = float(one @ other / (one @ one).clamp(min=1e-300))
    coarsest = max(torch.finfo(left.dtype).eps, torch.finfo(entered.dtype).eps)
    return factor > 0 and bool((other - factor * one).norm() <= 4 * coarsest * other.norm())


@contextmanager
def capture_streams(writings: Mapping[int, Writing]) -> Iterator[Streams]:
    """A context in which the residual stream that each layer's heads add to is captured.

    Args:
        writings: how they write, by layer. Where the place is not known, nothing is captured.

    Yields:
        A dictionary that fills as the model runs. Remove a layer's stream once it has been used, so
        that one layer is held at a time.
    """
    streams: Streams = {}

    def keep(layer: int, factor: float, stream: Tensor | None) -> None:
        if stream is not None:
            streams[layer] = stream if factor == 1 else factor * stream

    def on_input(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], kept: Callable[..., None]
    ) -> None:
        kept(hidden_states(args, kwargs))

    def on_output(_module: nn.Module, _args: Any, output: Any, kept: Callable[..., None]) -> None:
        kept(first_tensor(output))

    with ExitStack() as stack:
        places = {layer: writing.place for layer, writing in writings.items()}
        for layer, place in places.items():
            if place is None:
                continue
            kept = partial(keep, layer, place.factor)
            if place.entering:
                handle = place.module.register_forward_pre_hook(
                    partial(on_input, kept=kept), with_kwargs=True
                )
            else:
                handle = place.module.register_forward_hook(partial(on_output, kept=kept))
            stack.callback(handle.remove)
        yield streams


def captured_stream(streams: Streams, layer: int, z: HeadVectors, path: OutputPath) -> Residual:
    """The residual stream that a layer's heads add to.

    Args:
        streams: from `capture_streams`.
        layer: the layer.
        z: its head outputs, ``(batch, pos, head, d_head)``.
        path: its path into the stream.

    Returns:
        ``(batch, pos, d_model)``, as the model computed it.

    Raises:
        UserError: it is not known where the heads write.
    """
    if layer not in streams:
        raise UserError(f"the residual stream in layer {layer} is not known: {path.unknown}")
    return streams[layer].reshape(*z.shape[:2], -1)  # OPT's blocks flatten batch and pos


def output_path(
    weights: OutputWeights, bias: Tensor | None, writing: Writing, norm: Callable[[nn.Module], Norm]
) -> OutputPath:
    """The path of a layer's heads into the residual stream.

    Args:
        weights: W_O, ``(head, d_head, d_model)``.
        bias: b_O, ``(d_model,)``; None without one.
        writing: how the layer's heads write.
        norm: returns the norm that a module computes.

    Returns:
        The path. Norms are inspected when a score first asks; what is not known is an error then.
    """

    def readers() -> Norm:
        if writing.unread is not None:
            raise UserError(
                f"how later layers read what these heads write is not known: {writing.unread}"
            )
        return Norm.together([norm(module) for module in writing.readers], weights.shape[-1])

    unknown, post = writing.unknown, None
    if writing.post is not None:
        try:
            post = norm(writing.post)
        except UserError as problem:
            unknown = str(problem)
    return OutputPath(weights, bias, post, writing.multiplier, unknown, readers)
