"""How a network's heads write into its residual stream, and which norms read it from there on.

A block's stream is followed from place to place: the block's input, what its norms read, its output.
Each of them has to be a multiple of the stream before, plus multiples of what modules add. A norm
whose output takes the stream's place (post-norm blocks, MiniMax) reads the stream and renews it:
what later layers read, they read through this norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from inactive_heads.engines.network.glue import BlockRun, NormCall, multiples


@dataclass(frozen=True, eq=False)
class StreamPlace:
    """Where a model computes the residual stream that a layer's heads add to.

    Attributes:
        module: a block or norm.
        entering: whether the stream is the module's input, not its output.
        factor: by which the model multiplies it when the heads' output is added (MiniMax, Beam).
    """

    module: nn.Module
    entering: bool = True
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Writing:
    """How one layer's heads write into the residual stream, and the norms that read it.

    Attributes:
        place: where the stream is that they add to; None if that is not known.
        post: the norm of the attention output before it is added; None without one.
        multiplier: the factor on the attention output (after ``post``) when it is added.
        readers: the norms that read the stream from there on.
        unknown: why ``post`` and ``multiplier`` are not known; None if they are.
        unread: why ``readers`` are not known; None if they are.
    """

    place: StreamPlace | None = None
    post: nn.Module | None = None
    multiplier: float = 1.0
    readers: tuple[nn.Module, ...] = ()
    unknown: str | None = None
    unread: str | None = None


@dataclass(frozen=True, eq=False)
class _State:
    """The stream at one place of a block: ``factor`` times what ``carrier`` holds, and additions.

    The carrier is the block's input or the output of a norm that took the stream's place.
    """

    place: StreamPlace
    value: Tensor
    carrier: Tensor
    factor: float
    call: NormCall | None = None
    """The norm that reads this state; None if it is the block's input or output."""


@dataclass(eq=False)
class ReadBlock:
    """What one run of a block told.

    Attributes:
        name: the block's class.
        entering: the norms that read the stream that enters, until one takes its place.
        renewed: whether a norm's output takes the stream's place.
        problem: why the block's stream cannot be followed; None if it can.
        writings: how the layers in the block write. Their readers are those in the block.
        goes_on: the layers whose stream leaves the block and is read by later blocks.
    """

    name: str
    entering: tuple[nn.Module, ...] = ()
    renewed: bool = False
    problem: str | None = None
    writings: dict[int, Writing] = field(default_factory=dict)
    goes_on: set[int] = field(default_factory=set)


class _Unclear(Exception):
    """A block computes something of which it cannot be said how heads write or who reads."""


def read_block(run: BlockRun, layers: Mapping[nn.Module, int], shape: torch.Size) -> ReadBlock:
    """Follows the residual stream through a block.

    Args:
        run: the block's run.
        layers: layers by their output projection.
        shape: the shape of attention's output, which the stream has to have.

    Returns:
        What was found, without any tensor of the run.
    """
    return _Reading(run, shape).block(layers)


class _Reading:
    def __init__(self, run: BlockRun, shape: torch.Size) -> None:
        self.run, self.shape = run, shape
        self.name = type(run.block).__name__
        enter = StreamPlace(run.block)
        self.states = [_State(enter, run.entered, run.entered, 1.0)]
        self.parents: dict[int, _State] = {}
        """By a carrier's identity, the state that the norm reads whose output it is."""
        self.carriers = [run.entered]

    def block(self, layers: Mapping[nn.Module, int]) -> ReadBlock:
        found = ReadBlock(self.name)
        try:
            left = self._follow()
            chain = list(self._chain(left))
        except _Unclear as problem:
            found.problem = str(problem)
            unknown = {layers[one]: Writing(unknown=str(problem)) for one in self.run.outputs}
            found.writings.update(unknown)
            return found
        found.renewed = len(chain) > 1
        found.entering = self._norms(s for s in self.states if s.carrier is self.run.entered)
        for projection, output in self.run.outputs.items():
            layer = layers[projection]
            try:
                writing, goes_on = self._writing(projection, output, left, chain)
            except _Unclear as problem:
                writing, goes_on = Writing(self.states[0].place, unknown=str(problem)), False
            found.writings[layer] = writing
            if goes_on:
                found.goes_on.add(layer)
        return found

    def _follow(self) -> _State:
        """Collects the stream's states; returns that in which it leaves the block."""
        entered, left = self.run.entered, self.run.left
        streams, rest = divmod(entered.numel(), self.shape.numel())
        if entered.shape[-1] != self.shape[-1] or rest or streams != 1:
            what = f"numbers of shape {list(entered.shape)}, not the residual stream"
            if entered.shape[-1] == self.shape[-1] and not rest:
                what = f"{streams} residual streams side by side"
            raise _Unclear(f"the block {self.name} is entered by {what}")
        for call in self.run.norms:
            state = self._state(call.read, StreamPlace(call.norm), call)
            if state is not None:
                self.states.append(state)
                if call.output is not None and call.output.numel() == entered.numel():
                    self.carriers.append(call.output)
                    self.parents[id(call.output)] = state
        state = None if left is None else self._state(left, StreamPlace(self.run.block), None)
        if state is None:
            through = self._through(self.run.outputs.values()) or self._through([entered])
            raise _Unclear(
                f"the block {self.name} does not add to the residual stream but hands it to {through}"
                if through
                else f"the residual stream does not pass through the block {self.name}"
            )
        return state

    def _state(self, value: Tensor, place: StreamPlace, call: NormCall | None) -> _State | None:
        """The stream's state that a tensor is; None if it is not of the stream."""
        factors = multiples(value, self.carriers)
        where = f"what {type(place.module).__name__} {'reads' if call else 'returns'}"
        if None in factors:
            raise _Unclear(f"{where} is no multiple of the residual stream plus additions")
        held = [(one, by) for one, by in zip(self.carriers, factors, strict=True) if by]
        if len(held) > 1:
            raise _Unclear(f"{where} mixes the residual stream with its normalised form")
        if not held or held[0][1] is None:
            return None
        return _State(place, value, held[0][0], held[0][1], call)

    def _chain(self, left: _State) -> Iterator[Tensor]:
        """The carriers from the block's output back to its input."""
        carrier = left.carrier
        yield carrier
        while carrier is not self.run.entered:
            carrier = self.parents[id(carrier)].carrier
            yield carrier

    def _writing(
        self, projection: nn.Module, output: Tensor, left: _State, chain: list[Tensor]
    ) -> tuple[Writing, bool]:
        """How the heads before a projection write, and whether their stream leaves the block."""
        post, added = None, output
        hits = self._with(added, left)
        if not hits:
            call = self._post(output)
            if call is None or call.output is None:
                raise _Unclear(self._lost(output))
            post, added = call.norm, call.output
            hits = self._with(added, left)
            if not hits:
                raise _Unclear(self._lost(added))
        (first, multiplier), *_ = hits
        if first.carrier not in _Identities(chain):
            raise _Unclear(f"heads add to something that does not leave the block {self.name}")
        before = self._before(projection, added, first)
        factor = first.factor / before.factor
        place = StreamPlace(before.place.module, before.place.entering, factor)
        ratio = multiplier / first.factor
        later = [(state, by) for state, by in hits if state.carrier is first.carrier]
        steady = all(abs(by / state.factor - ratio) <= 0.02 * abs(ratio) for state, by in later)
        readers = self._norms(state for state, _ in later)
        goes_on = first.carrier is left.carrier
        unread = None
        if not steady or (goes_on and left not in [state for state, _ in later]):
            unread = f"the block {self.name} takes back what its heads add"
        return Writing(place, post, multiplier, readers, None, unread), goes_on

    def _with(self, added: Tensor, left: _State) -> list[tuple[_State, float]]:
        """The states that hold a multiple of something added, in order, and the multiples."""
        hits = []
        for state in (*self.states[1:], left):
            (factor,) = multiples(state.value, [added])
            if factor is None:
                where = type(state.place.module).__name__
                raise _Unclear(
                    f"{where} {'reads' if state.call else 'returns'} no multiple of attention's output"
                )
            if factor:
                hits.append((state, factor))
        return hits

    def _post(self, output: Tensor) -> NormCall | None:
        """The norm that reads the attention output alone."""
        alone = (call for call in self.run.norms if _equal(call.read, output))
        return next((call for call in alone if multiples(call.read, [output]) == [1.0]), None)

    def _before(self, projection: nn.Module, added: Tensor, first: _State) -> _State:
        """The last state of the same stream before the heads wrote."""
        earlier = [
            state
            for state in self.states
            if state.carrier is first.carrier
            and (state.call is None or projection not in state.call.projected)
        ]
        if first.carrier is self.run.entered:
            same = [s for s in earlier if _equal(s.value, self.run.entered)]
            return same[0] if earlier[-1] in same else earlier[-1]
        if earlier:
            return earlier[-1]
        call = self.parents[id(first.carrier)].call
        assert call is not None, "a norm's output is the carrier"
        return _State(StreamPlace(call.norm, entering=False), first.carrier, first.carrier, 1.0)

    def _lost(self, output: Tensor) -> str:
        through = self._through([output])
        if through:
            return f"{through} stands between attention and the residual stream in {self.name}"
        return f"attention's output is not added to the residual stream in the block {self.name}"

    def _through(self, outputs: Iterable[Tensor]) -> str | None:
        """The last module that takes in one of some tensors."""
        parts = list(outputs)
        took = [module for module, read in self.run.reads if any(multiples(read, parts))]
        return type(took[-1]).__name__ if took else None

    @staticmethod
    def _norms(states: Iterator[_State]) -> tuple[nn.Module, ...]:
        return tuple(dict.fromkeys(state.call.norm for state in states if state.call is not None))


class _Identities:
    """Tensors as a set, by identity."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.ids = set(map(id, tensors))

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self.ids


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(
        one.detach().flatten(), other.detach().flatten().to(one)
    )
