"""How a command ends where something is wrong: in one line, with a status, without a traceback."""

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
    """The command, with a UserError as one line and status 2, and Ctrl-C as status 130."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        # Libraries' warnings are for developers; a reader of a command line has no use for them.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Notice)
        warnings.showwarning = _show_notice
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print(
                "stopped; what is finished is kept: the same command goes on from there",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None

    return wrapped


def _show_notice(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"note: {message}", file=sys.stderr)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
