"""One run of a model at a time, whoever asks and however many engines it has."""

from __future__ import annotations

from threading import RLock
from weakref import WeakKeyDictionary

from torch import nn

_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()


def running_alone(network: nn.Module) -> RLock:
    """A lock for the length of a run; the model's hooks and settings are then this run's alone.

    A notebook may answer a click in one thread while a cell runs in another.
    """
    return _locks.setdefault(network, RLock())
