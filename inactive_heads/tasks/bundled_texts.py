"""The bundled texts: written for this project, of six kinds, with a version and a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from inactive_heads.names import BUNDLED

VERSION = 1
"""Counts the changes of the texts: results on different versions are not of the same texts."""


@dataclass(frozen=True)
class BundledText:
    """One bundled text.

    Attributes:
        id: identifies the text, such as "news-storm-warning".
        kind: explanation, story, dialogue, news, instructions or code.
        text: the text itself.
    """

    id: str
    kind: str
    text: str


@cache
def bundled_texts() -> tuple[BundledText, ...]:
    """The bundled texts.

    Returns:
        The texts in the order of the file, kind by kind.
    """
    lines = _content().decode("utf-8").split("\n")
    return tuple(BundledText(**json.loads(line)) for line in lines if line)


def kinds_of(texts: Iterable[object], *, otherwise: str) -> list[str]:
    """The kinds of bundled texts.

    Args:
        texts: texts, perhaps from elsewhere, or token ids.
        otherwise: what everything but a whole bundled text gets.

    Returns:
        Each text's kind, in order.
    """
    kinds = {one.text: one.kind for one in bundled_texts()}
    return [kinds.get(text, otherwise) if isinstance(text, str) else otherwise for text in texts]


def about_texts(source: str | Path) -> dict[str, Any]:
    """The facts that identify a source of texts, to be saved with results.

    Args:
        source: a source that `load_texts` takes.

    Returns:
        The source under "texts". For the bundled texts also texts_version, and texts_sha256, the
        SHA-256 of the file that holds them.
    """
    about: dict[str, Any] = {"texts": str(source)}
    if str(source) == BUNDLED:
        digest = hashlib.sha256(_content()).hexdigest()
        about |= {"texts_version": VERSION, "texts_sha256": digest}
    return about


def _content() -> bytes:
    return files("inactive_heads").joinpath("data/texts.jsonl").read_bytes()
