"""Which layer a call of attention belongs to.

A layer's number is the place of the running block in the model's list of layers. The number that an
attention module bears, ``layer_idx``, serves where there is no such list. Some modules bear none, and
one module may run in several layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from inactive_heads.engines.routing.refusals import Unsupported, subject_of, unsupported


class _Place(NamedTuple):
    """Where a block stands in a list, and whether it runs more often than it stands there."""

    blocks: nn.ModuleList
    number: int
    again: bool = False


@dataclass(eq=False)
class _Running:
    """The blocks that are running, outermost first, during one forward pass."""

    stack: list[_Place] = field(default_factory=list)
    times: Counter[tuple[nn.ModuleList, nn.Module]] = field(default_factory=Counter)

    @property
    def place(self) -> _Place | None:
        return self.stack[0] if self.stack else None

    @contextmanager
    def watching(self, lists: Sequence[nn.ModuleList]) -> Iterator[None]:
        """A context in which it is known which items of some lists are running."""
        with ExitStack() as stack:
            for blocks in lists:
                for block in dict.fromkeys(blocks):
                    enter = block.register_forward_pre_hook(partial(self._enter, blocks))
                    leave = block.register_forward_hook(self._leave)
                    stack.callback(enter.remove)
                    stack.callback(leave.remove)
            yield

    def _enter(self, blocks: nn.ModuleList, block: nn.Module, _args: Any) -> None:
        # A list may hold one block several times: it runs once for each.
        numbers = [number for number, one in enumerate(blocks) if one is block]
        time = self.times[blocks, block]
        self.times[blocks, block] += 1
        again = time >= len(numbers)
        self.stack.append(_Place(blocks, numbers[0 if again else time], again))

    def _leave(self, _block: nn.Module, _args: Any, _output: Any) -> None:
        self.stack.pop()


@dataclass(frozen=True, eq=False)
class LayerNumbers:
    """The layers of a model's attention modules.

    Attributes:
        n_layers: number of layers, with or without attention.
        layers: those with attention.
        own: layers by module, of modules that run in one layer only.
        lists: the lists of layers; empty if all modules run in one layer only.
    """

    n_layers: int
    layers: frozenset[int]
    own: Mapping[nn.Module, int]
    lists: Sequence[nn.ModuleList] = ()

    @contextmanager
    def during_run(self) -> Iterator[Callable[[nn.Module], int]]:
        """A context for one forward pass.

        Yields:
            A function that returns the layer of an attention module that is running.

        Raises:
            Unsupported: the model ran in other layers than at the first look, or does in the
                function.
        """
        running, left = _Running(), set(self.layers)

        def layer_of(module: nn.Module) -> int:
            place = running.place
            layer = self.own.get(module, None if place is None else place.number)
            if layer not in left:
                often = "runs more often than" if layer in self.layers else "did not run"
                raise unsupported(subject_of(module), f"{often} on four tokens")
            left.remove(layer)
            return layer

        with running.watching(self.lists):
            yield layer_of
        if left:
            raise unsupported(
                f"layer {min(left)}", "shows its attention on four tokens, but not on these inputs"
            )


class Numbering:
    """Finds the layers of a model's attention modules while it runs for the first time.

    Args:
        network: the model.
        subject: what error messages call it.
    """

    def __init__(self, network: PreTrainedModel, subject: str) -> None:
        self._subject = subject
        self._n_layers = getattr(network.config.get_text_config(), "num_hidden_layers", None)
        self._names = _outermost_lists(network)
        self._alone = _places_of_modules(self._names)
        self._running = _Running()
        self._calls: dict[int, tuple[nn.Module, _Place | None]] = {}

    @contextmanager
    def during_run(self) -> Iterator[None]:
        """A context for one forward pass. What earlier ones showed is forgotten."""
        self._running = _Running()
        self._calls.clear()
        with self._running.watching(list(self._names)):
            yield

    def layer_of(self, module: nn.Module) -> int:
        """The layer of an attention module that is running.

        Args:
            module: the module.

        Returns:
            The layer's number, another one at every call.

        Raises:
            Unsupported: the layer has no number, or had its attention before.
        """
        place = self._running.place or self._alone.get(module)
        own = getattr(module, "layer_idx", None)
        layer = own if isinstance(own, int) and own >= 0 else None
        if place is not None and (layer is None or len(place.blocks) == self._n_layers):
            layer = place.number
        if layer is None:
            name = type(module).__name__
            raise self._unsupported(f"has attention, {name}, without a number and in no list")
        if layer in self._calls:
            raise self._twice(layer, module, place)
        self._calls[layer] = module, place
        return layer

    def _twice(self, layer: int, module: nn.Module, place: _Place | None) -> Unsupported:
        earlier, before = self._calls[layer]
        if place is None or before is None:
            return self._unsupported(f"computes attention more than once in layer {layer}")
        name, other = self._names[place.blocks], self._names[before.blocks]
        if name != other:
            return self._unsupported(f"has several stacks of layers, {other} and {name}")
        if place.again:
            return self._unsupported(
                f"runs layer {place.number} of {name} several times in one forward pass, so that a "
                "head has several outputs for a token"
            )
        if earlier is not module:
            return self._unsupported(f"has more than one attention module in layer {layer}")
        return self._unsupported(
            f"computes attention several times in one call of layer {layer}, as differential "
            "attention does, so that heads have no attention pattern of their own"
        )

    def found(self) -> LayerNumbers:
        """The numbers of all modules that have run."""
        times = Counter(module for module, _ in self._calls.values())
        own = {module: at for at, (module, _) in self._calls.items() if times[module] == 1}
        lists = {place.blocks: None for _, place in self._calls.values() if place is not None}
        shared = len(own) < len(times)
        layers = frozenset(self._calls)
        return LayerNumbers(self._count(), layers, own, list(lists) if shared else ())

    def _count(self) -> int:
        """The number of layers: the length of the list, if layers are numbered by it."""
        lengths = {
            len(place.blocks) if place is not None and place.number == layer else None
            for layer, (_, place) in self._calls.items()
        }
        length = lengths.pop() if len(lengths) == 1 else None
        return length or self._n_layers or 1 + max(self._calls)

    def _unsupported(self, what: str) -> Unsupported:
        return unsupported(self._subject, what)


def _outermost_lists(network: nn.Module) -> dict[nn.ModuleList, str]:
    """The names of the lists of modules that stand in no other list."""
    found: dict[nn.ModuleList, str] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found.values())
        if isinstance(module, nn.ModuleList) and not inside:
            found[module] = name
    return found


def _places_of_modules(lists: Mapping[nn.ModuleList, str]) -> dict[nn.Module, _Place]:
    """The places of the modules that stand in one item of one list."""
    places: dict[nn.Module, set[_Place]] = {}
    for blocks in lists:
        for number, block in enumerate(blocks):
            for module in block.modules():
                places.setdefault(module, set()).add(_Place(blocks, number))
    return {module: found.pop() for module, found in places.items() if len(found) == 1}
