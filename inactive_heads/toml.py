"""TOML files, and checked values of their tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: the file.

    Returns:
        The parsed table.

    Raises:
        UserError: the file cannot be read, or is not TOML.
    """
    try:
        # A byte order mark, as Windows editors write it, is not TOML.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:  # not TOML, or not UTF-8
        raise UserError(f"{path} is not a readable TOML file: {error}") from error


def string_of(table: dict[str, Any], key: str, where: str) -> str | None:
    """A string in a TOML table.

    Args:
        table: the parsed table.
        key: the string's key.
        where: the file's name, used in the error message.

    Returns:
        The string, or None if the key is absent.

    Raises:
        UserError: the value is not a string, or is empty.
    """
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UserError(f"{where}: {key} = {value!r}; give a text in quotes")
    return value


def integer_of(table: dict[str, Any], key: str, where: str, *, least: int) -> int:
    """A whole number in a TOML table.

    Args:
        table: the parsed table, which has the key.
        key: the number's key.
        where: the file's name, used in the error message.
        least: the smallest number allowed.

    Returns:
        The number, below 2**63.

    Raises:
        UserError: the value is not a whole number, or is out of range.
    """
    value = table[key]
    # TOML's true becomes True, which is an int.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise UserError(f"{where}: {key} = {value!r}; give a whole number of at least {least}")
    return value
