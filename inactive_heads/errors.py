"""Exceptions for problems the user can fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Wrong input: a value, file or model. The message says what is wrong and how to fix it.

    Command lines print it on one line and exit with status 2.
    """


class NotFinite(UserError):
    """An input for which the model computes NaN or infinity.

    Args:
        row: the input's number among all inputs of the run.
        problem: what is not finite, and where it began if that is known.
        remedy: the likely causes, and what to do.
        name: what the message calls the input; "input" and its number by default.
    """

    def __init__(self, row: int, problem: str, remedy: str, name: str | None = None) -> None:
        super().__init__(f"{name or f'input {row}'}: {problem}; {remedy}")
        self.row, self.problem, self.remedy, self.name = row, problem, remedy, name

    def about(self, name: str) -> NotFinite:
        """The same error under another name of the input.

        Args:
            name: what the message calls the input.

        Returns:
            The error, to be raised.
        """
        return NotFinite(self.row, self.problem, self.remedy, name)

    def __reduce__(self) -> tuple[type, tuple[int, str, str, str | None]]:
        return NotFinite, (self.row, self.problem, self.remedy, self.name)


@contextmanager
def naming(name: Callable[[int], str]) -> Iterator[None]:
    """A context in which an error about an input's numbers calls the input by another name.

    Args:
        name: returns the name of an input, given its number.

    Raises:
        NotFinite: the block raised one.
    """
    try:
        yield
    except NotFinite as fault:
        raise fault.about(name(fault.row)) from None


class Notice(UserWarning):
    """A warning that the user should read. The run continues."""
