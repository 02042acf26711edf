"""What enters a model's unembedding: kept during runs, and turned into logits later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from inactive_heads.core.tensor_types import FinalStates
from inactive_heads.engines.network.forward_pass import run_lock


@contextmanager
def states_kept(unembed: nn.Module, network: nn.Module) -> Iterator[list[FinalStates]]:
    """A context in which what enters the unembedding is kept. No other thread can run the model.

    Args:
        unembed: the module that turns the residual stream into logits.
        network: the model.

    Yields:
        A list that grows by the final hidden states of every run, ``(kept, d_model)``.
    """
    states: list[FinalStates] = []

    def look(_module: nn.Module, inputs: tuple[Tensor, ...], _logits: Tensor) -> None:
        states.append(inputs[0][0])

    with run_lock(network):
        handle = unembed.register_forward_hook(look)
        try:
            yield states
        finally:
            handle.remove()


@contextmanager
def states_given(unembed: nn.Module, states: FinalStates) -> Iterator[None]:
    """A context in which the unembedding reads other states than the model's, as one input.

    Whatever a model does with its logits afterwards (a soft cap, a scale), it does with theirs.

    Args:
        unembed: the module that turns the residual stream into logits.
        states: final hidden states, ``(kept, d_model)``.
    """

    def replace(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (states.to(inputs[0])[None], *inputs[1:])

    handle = unembed.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()
