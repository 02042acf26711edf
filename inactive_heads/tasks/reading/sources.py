"""What a user names as texts or questions, checked before anything is read.

Nothing here imports anything that is slow to load, so that a command can refuse its options at once.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.names import CHOICE_TASKS, LM_EVAL, TEXT_SOURCES
from inactive_heads.specs import TaskSpec
from inactive_heads.tasks.reading.folder import ending_of, given_path
from inactive_heads.tasks.reading.rows import ROW_ENDINGS

TEXT_ENDINGS = (".txt", *ROW_ENDINGS)
"""The kinds of files that texts are read from."""


def text_path(source: str | os.PathLike[str]) -> Path:
    """The file or folder of texts that a user names.

    Args:
        source: a path.

    Returns:
        The path, which exists.

    Raises:
        UserError: there is no such file or folder, or it is a file of another kind.
    """
    try:
        path = given_path(source)
    except UserError as error:
        raise UserError(
            f"no texts: {error}; give {', '.join(TEXT_SOURCES)}, a folder, or a file that ends in "
            f"{', '.join(TEXT_ENDINGS)}"
        ) from error
    return _of_kind(path, TEXT_ENDINGS)


def question_path(source: str | os.PathLike[str]) -> Path:
    """The file or folder of questions that a user names.

    Args:
        source: a path.

    Returns:
        The path, which exists.

    Raises:
        UserError: there is no such file or folder, or it is a file of another kind.
    """
    return _of_kind(given_path(source), ROW_ENDINGS)


def check_texts(source: str | os.PathLike[str]) -> None:
    """Check that texts are there, if they are the user's.

    Args:
        source: a path, or one of `TEXT_SOURCES`.

    Raises:
        UserError: there is no such file or folder, or it is a file of another kind.
    """
    if str(source) not in TEXT_SOURCES:
        text_path(source)


def check_task_folder(folder: str) -> None:
    """Check a folder of task files of lm-evaluation-harness.

    Args:
        folder: its path.

    Raises:
        UserError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder!r} of task files")


def check_data(task: TaskSpec) -> None:
    """Check that the data of a task are there, if they are the user's.

    Args:
        task: which task, and its data.

    Raises:
        UserError: there is no such file or folder, or it is a file of another kind.
    """
    if task.data is None:
        return
    if task.name in CHOICE_TASKS:
        question_path(task.data)
    elif task.name.startswith(LM_EVAL):
        check_task_folder(str(task.data))
    else:
        check_texts(task.data)


def _of_kind(path: Path, endings: Collection[str]) -> Path:
    if not path.is_dir() and ending_of(path) not in endings:
        raise UserError(f"{path} has none of the endings {', '.join(endings)}; convert it to one")
    return path
