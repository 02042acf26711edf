"""One run of a model at a time, whoever asks and however many engines it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from inactive_heads.core.tensor_types import TokenMask

_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()


def running_alone(network: nn.Module) -> RLock:
    """A lock for the length of a run; the model's hooks and settings are then this run's alone.

    A notebook may answer a click in one thread while a cell runs in another.
    """
    return _locks.setdefault(network, RLock())


@contextmanager
def only_kept(unembed: nn.Module, keep: TokenMask) -> Iterator[None]:
    """Within its block, ``unembed`` is given the residual at the kept tokens alone.

    The model's logits are then ``(1, kept, d_vocab)``, the kept tokens row after row.
    """

    def select(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        residual = inputs[0]
        return (residual[keep.to(residual.device)][None], *inputs[1:])

    handle = unembed.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
