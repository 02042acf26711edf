"""Files of heads: JSON with a set of heads, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError, shortened
from inactive_heads.files import write_whole

HEADS_FORMAT = "inactive_heads heads 1"
"""The value of "format" in a file of heads."""


def write_heads_file(
    path: Path, heads: Sequence[tuple[int, int]], about: Mapping[str, Any]
) -> None:
    """Write a set of heads.

    Args:
        path: the file to write.
        heads: ``(layer, head)`` pairs.
        about: where the set comes from; numpy's numbers become plain ones, other objects text.

    Raises:
        UserError: the file cannot be written.
    """

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    content = {"format": HEADS_FORMAT, **about, "heads": [list(pair) for pair in heads]}
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, default=plain) + "\n")


def read_heads_file(path: Path) -> tuple[list[Any], dict[str, Any]]:
    """The set of heads in a file, not checked yet, and the file's other values.

    Args:
        path: a file that `write_heads_file` wrote.

    Returns:
        The list that should hold the heads, and where they come from.

    Raises:
        UserError: the file cannot be read, or is not a file of heads in this format.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} is not a file of heads: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a file of heads: it is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a file of heads: it holds {shortened(content)}")
    for name in ("heads", "format"):
        if name not in content:
            raise UserError(f"{path} is not a file of heads: it has no {name!r}")
    heads, written_as = content.pop("heads"), content.pop("format")
    if written_as != HEADS_FORMAT:
        raise UserError(
            f"{path} has the format {shortened(written_as)}; this version reads {HEADS_FORMAT!r}"
        )
    if not isinstance(heads, list):
        raise UserError(
            f"{path} is not a file of heads: heads are a list of [layer, head], not "
            f"{shortened(heads)}"
        )
    return heads, content
