"""Reports errors of a command on one line, with an exit status and without a traceback."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer

from inactive_heads.errors import Notice, UserError

P = ParamSpec("P")
T = TypeVar("T")


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """A decorator that makes a command report errors on one line of standard error.

    A `Notice` is printed as one line, too; other warnings are hidden.

    Args:
        command: the function of a Typer command.

    Returns:
        The function. It exits with status 2 on a UserError, and with status 130 when it is
        interrupted (Ctrl-C) or terminated.
    """

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        # Warnings of libraries are for developers, not for users of a command.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Notice)
        warnings.showwarning = _show_once()
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print(
                "Interrupted. Finished work is kept: rerun the command to resume.", file=sys.stderr
            )
            raise typer.Exit(130) from None

    return wrapped


def _show_once() -> Callable[..., None]:
    """Prints a notice; one that is given again says nothing new."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    return show


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
