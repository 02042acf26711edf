"""Refusals of models whose heads an engine cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from inactive_heads.errors import UserError


class Unsupported(UserError):
    """A model whose heads an engine cannot show.

    Args:
        reason: the architecture or layer, and what it does or lacks.
        engine: the engine's name.
    """

    def __init__(self, reason: str, engine: str = "flash") -> None:
        super().__init__(reason, engine)
        self.reason, self.engine = reason, engine

    def __str__(self) -> str:
        other = "lens" if self.engine == "flash" else "flash"
        return f'{self.reason}: engine="{self.engine}" cannot show its heads; try engine="{other}"'


class SeesLater(Unsupported):
    """A layer that is not causal by itself, and gets no mask that makes it so."""


def subject_of(module: nn.Module) -> str:
    """What error messages call an attention module.

    Args:
        module: the module.
    """
    return f"a layer {type(module).__name__}"


def unsupported(subject: str, what: str) -> Unsupported:
    """The error for a model whose attention the flash engine cannot compute.

    Args:
        subject: the architecture or layer.
        what: what it does or lacks, as a predicate.

    Returns:
        The error, to be raised.
    """
    return Unsupported(f"{subject} {what}")


@contextmanager
def unsupported_if_it_fails(problem: str, engine: str) -> Iterator[None]:
    """A context that turns any exception into `Unsupported`: an engine does not fit the model.

    Args:
        problem: what failed.
        engine: the engine's name.

    Raises:
        Unsupported: the block raised an exception, which is quoted. A UserError passes through
            unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # code of other libraries, on a model it was not written for
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unsupported(f"{problem} ({reason[:80]})", engine) from error
