"""Locks and hooks for a single run of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from inactive_heads.core.tensor_types import TokenMask
from inactive_heads.engines.routing.refusals import unsupported

_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()


def run_lock(network: nn.Module) -> RLock:
    """The lock that serialises a model's runs, whichever threads and engines start them.

    A notebook may answer a click in one thread while a cell runs in another. The thread that holds
    the lock is the only one that uses the model's hooks and settings.

    Args:
        network: the model; all its engines share one lock.

    Returns:
        A reentrant lock, to be held during a run.
    """
    return _locks.setdefault(network, RLock())


@contextmanager
def only_kept(unembed: nn.Module, keep: TokenMask) -> Iterator[None]:
    """A context in which logits are computed at the kept tokens only.

    The model's logits are then ``(1, kept, d_vocab)``: the kept tokens of the first input, then of
    the second, and so on.

    Args:
        unembed: the module that turns the residual stream into logits.
        keep: ``(batch, pos)``, true at the kept tokens.

    Raises:
        Unsupported: the stream is not one vector for every token.
    """

    def select(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        residual = inputs[0]
        if residual.shape[:-1] != keep.shape:
            raise unsupported(
                "the model",
                f"predicts several tokens at every place (its last layer reads "
                f"{tuple(residual.shape)} where there are {tuple(keep.shape)} tokens)",
            )
        return (residual[keep.to(residual.device)][None], *inputs[1:])

    handle = unembed.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
