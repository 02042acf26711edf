"""What a block computes between its modules, seen through its derivative.

Every module with parameters of its own is a black box: its output is cut off from its input. What
remains is the block's own code between them: sums, factors, reshapes, casts. The derivative of a
tensor through that code says exactly which multiple of the block's input and of each module's
output is in it, whatever copies stand between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Arguments = dict[str, Any]


@dataclass(eq=False)
class NormCall:
    """One call of a norm during a block's run.

    Attributes:
        norm: the module.
        read: its input, as the block's own code computed it.
        output: its output, cut off from ``read``.
        projected: the output projections that had run in the block before.
    """

    norm: nn.Module
    read: Tensor
    projected: tuple[nn.Module, ...]
    output: Tensor | None = None


@dataclass(eq=False)
class BlockRun:
    """One run of a block, with every module's output cut off from its input.

    Attributes:
        block: the module.
        entered: its input, cut off from what came before.
        norms: the calls of norms, in order.
        reads: what other modules with parameters took in, in order.
        outputs: the output of each output projection, cut off.
        left: the block's output.
    """

    block: nn.Module
    entered: Tensor
    norms: list[NormCall] = field(default_factory=list)
    reads: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    left: Tensor | None = None


@contextmanager
def block_runs(
    blocks: Sequence[nn.Module],
    projections: Collection[nn.Module],
    ended: Callable[[BlockRun], None],
) -> Iterator[None]:
    """A context in which every run of a block is shown. Nothing that the model computes changes.

    Args:
        blocks: the blocks.
        projections: the output projections of attention.
        ended: called with each run of a block, when it ends.
    """
    recorder = _Recorder(frozenset(projections), ended)
    with ExitStack() as stack:
        for block in blocks:
            enter = block.register_forward_pre_hook(recorder.enter, with_kwargs=True)
            stack.callback(enter.remove)
            # TransformerLens wraps blocks in modules of its own.
            wrapped = getattr(block, "original_component", None) or block
            for module in _boxes(wrapped, recorder.projections):
                recorder.watch(module, stack)
            stack.callback(block.register_forward_hook(recorder.leave).remove)
        yield


class _Recorder:
    def __init__(
        self, projections: frozenset[nn.Module], ended: Callable[[BlockRun], None]
    ) -> None:
        self.projections, self._ended = projections, ended
        self._watched: set[nn.Module] = set()
        self._running: BlockRun | None = None

    def watch(self, module: nn.Module, stack: ExitStack) -> None:
        if module in self._watched:  # blocks may share modules
            return
        self._watched.add(module)
        before = module.register_forward_pre_hook(self._on_input, with_kwargs=True)
        after = module.register_forward_hook(self._on_output)
        stack.callback(before.remove)
        stack.callback(after.remove)

    def enter(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: Arguments
    ) -> tuple[tuple[Any, ...], Arguments] | None:
        entering = hidden_states(args, kwargs)
        if entering is None or self._running is not None:
            return None
        torch.set_grad_enabled(True)
        leaf, handed = _cut(entering)
        self._running = BlockRun(block, leaf)
        swap = partial(_replaced, entering, handed)
        return tuple(map(swap, args)), {name: swap(value) for name, value in kwargs.items()}

    def leave(self, block: nn.Module, _args: Any, output: Any) -> Any:
        if self._running is None or self._running.block is not block:
            return None
        torch.set_grad_enabled(False)
        self._running.left = first_tensor(output)
        run, self._running = self._running, None
        self._ended(run)
        return _each(output, lambda one: one.detach())

    def _on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> None:
        run = self._running
        if run is None:
            return
        read = hidden_states(args, kwargs)
        if read is not None and is_norm(module):
            run.norms.append(NormCall(module, read, tuple(run.outputs)))
        elif read is not None:
            run.reads.append((module, read))
        torch.set_grad_enabled(False)

    def _on_output(self, module: nn.Module, _args: Any, output: Any) -> Any:
        run = self._running
        if run is None:
            return None
        torch.set_grad_enabled(True)
        leaves: list[Tensor] = []

        def cut(tensor: Tensor) -> Tensor:
            leaf, handed = _cut(tensor)
            leaves.append(leaf)
            return handed

        handed = _each(output, cut)
        if leaves:
            if module in self.projections:
                run.outputs[module] = leaves[0]
            for call in reversed(run.norms):
                if call.norm is module and call.output is None:
                    call.output = leaves[0]
        return handed


def _boxes(module: nn.Module, projections: frozenset[nn.Module]) -> Iterator[nn.Module]:
    """The outermost modules of a block whose output can be cut off from their input."""
    for child in module.children():
        if child in projections:
            yield child
        elif any(inner in projections for inner in child.modules()):
            yield from _boxes(child, projections)
        elif is_norm(child) or _owns_weights(child):
            yield child
        else:
            yield from _boxes(child, projections)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, by its class's name or its one-dimensional weight."""
    module = getattr(module, "original_component", None) or module  # TransformerLens wraps it
    weight = getattr(module, "weight", None)
    return "norm" in type(module).__name__.lower() or (
        isinstance(weight, Tensor) and weight.ndim == 1
    )


def _owns_weights(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return bool(own)


def hidden_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The first floating-point tensor among a module's arguments: the hidden states."""
    given = (*args, kwargs.get("hidden_states"), *kwargs.values())
    return next((one for one in given if _is_float(one)), None)


def first_tensor(output: Any) -> Tensor | None:
    """The first floating-point tensor of a module's output: the hidden states."""
    given = output if isinstance(output, tuple | list) else (output,)
    return next((one for one in given if _is_float(one)), None)


def _is_float(one: object) -> bool:
    return isinstance(one, Tensor) and one.is_floating_point()


def _replaced(old: Tensor, new: Tensor, value: Any) -> Any:
    return new if value is old else value


def _cut(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf of the graph with a tensor's values, and a copy of it that may be changed in place."""
    leaf = tensor.detach().requires_grad_()
    return leaf, leaf.clone()


def _each(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with every floating-point tensor changed."""
    if isinstance(output, Tensor):
        return change(output) if _is_float(output) else output
    if type(output) in (tuple, list):
        return type(output)(change(one) if _is_float(one) else one for one in output)
    return output


def multiples(tensor: Tensor, parts: Sequence[Tensor]) -> list[float | None]:
    """Which multiple of each part is in a tensor.

    Args:
        tensor: as a block's own code computed it, in its `BlockRun`.
        parts: the block's input or modules' outputs, cut off, from the same run.

    Returns:
        One factor for every part: 0 if the tensor does not depend on it, None if it depends on it
        in any other way than by a factor.
    """
    if not parts or not tensor.requires_grad:
        return [0.0] * len(parts)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(tensor.shape, generator=generator).to(tensor)
    found = torch.autograd.grad(tensor, parts, probe, retain_graph=True, allow_unused=True)
    return [_multiple(gradient, probe) for gradient in found]


def _multiple(gradient: Tensor | None, probe: Tensor) -> float | None:
    if gradient is None or not bool(gradient.any()):
        return 0.0
    if gradient.numel() != probe.numel():
        return None
    found, expected = gradient.flatten().double().cpu(), probe.flatten().double().cpu()
    factor = float(found @ expected / (expected @ expected))
    coarsest = max(torch.finfo(one.dtype).eps for one in (gradient, probe))
    close = (found - factor * expected).norm() <= max(1e-5, 4 * coarsest) * found.norm()
    return factor if bool(close) else None
