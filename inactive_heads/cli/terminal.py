"""Output to terminals and files whose encoding lacks characters: these are written in ASCII."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Sequence

PLAIN = {
    "★": "*",
    "×": "x",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "∞": "inf",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "•": "*",
    "·": ".",
    "✓": "yes",
    "✗": "no",
}
"""Characters → what is written where they cannot be."""

HANDLER = "inactive_heads.plain"


def write_anywhere() -> None:
    """Let standard output and error write any text, whatever their encoding.

    A terminal in Latin-1 or ASCII, or a file in a Windows code page, has no "★" and no "…": Python
    would stop with an error. They are written as "*" and "...".
    """
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        # Streams that a notebook or a test puts in their place take any text.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def say(text: str) -> None:
    """Tell the user on standard error, at once, what goes on.

    Args:
        text: a line, or several.
    """
    print(text, file=sys.stderr, flush=True)


def say_loading(models: Sequence[object]) -> None:
    """Say which models are going to be loaded, before torch is imported, which takes seconds.

    Args:
        models: what the user named; None is the bundled model.
    """
    names = ["the bundled model" if one is None else str(one) for one in models]
    first = f"{names[0]}, the first of {len(names)} models" if len(names) > 1 else names[0]
    say(f"Loading {first} …")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(map(_in_ascii, bad)), error.end


def _in_ascii(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    if "BOX DRAWINGS" in (name := unicodedata.name(character, "")):
        return "|" if "VERTICAL" in name and "HORIZONTAL" not in name else "-"
    if "BLOCK" in name or "BRAILLE" in name:
        return "#"
    # "é" is "e" and an accent.
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or "?"
