"""Loads scores from a user's Python file."""

from __future__ import annotations

import runpy
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.files import existing_file
from inactive_heads.scores.registry import REGISTRY


def load_score_file(path: str | Path) -> list[str]:
    """Runs a Python file and returns the names of the scores that it registers.

        names = load_score_file("my_scores.py")  # ["MY", "MY (LN)"]

    The file is the user's own code and runs because the user named it, as an import would.

    Args:
        path: a Python file that registers scores with `score_function`.

    Returns:
        The new names, layer-normalized forms among them, in the order of registration.

    Raises:
        UserError: the file does not exist, raises an error, or registers no score.
    """
    file = existing_file(path, "scores")
    before = set(REGISTRY)
    try:
        runpy.run_path(str(file), run_name=file.stem)
    except UserError as error:
        raise UserError(f"{str(path)!r}: {error}") from error
    except Exception as error:
        raise UserError(f"{str(path)!r} cannot be run: {type(error).__name__}: {error}") from error
    names = [name for name in REGISTRY if name not in before]
    if not names:
        raise UserError(
            f'{str(path)!r} registers no score: write @ih.score_function("NAME", inactive="below") '
            "above a function of a layer's heads"
        )
    return names
