"""Exceptions for problems the user can fix, and names that are looked up or refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
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


def look_up(name: object, known: Iterable[str], what: str, otherwise: str) -> str:
    """A name, checked to be one of those that there are.

    Args:
        name: the name as it was given.
        known: the names that there are.
        what: what they name, used in the error message.
        otherwise: what else can be done, used in the error message.

    Returns:
        The name.

    Raises:
        UserError: it is not among them; the message has the nearest one.
    """
    listed = list(known)
    if isinstance(name, str) and name in listed:
        return name
    near = nearest(name, listed)
    hint = f"did you mean {near!r}? " if near else ""
    raise UserError(f"unknown {what} {shortened(name)}; {hint}{otherwise}")


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The name most like one that is not known, whatever their case and white space.

        nearest("ahon(LN)", ["AHON", "AHON (LN)"])  # 'AHON (LN)'

    Args:
        name: the name as it was given.
        known: the names that there are.

    Returns:
        The name, or None if all are too different.
    """
    if not isinstance(name, str):
        return None
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def shortened(value: object) -> str:
    """A value as error messages quote it.

    Args:
        value: any object.

    Returns:
        Its repr on one line, cut to 80 characters.
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()
