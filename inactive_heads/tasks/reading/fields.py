"""Fields of a row: a text, the choices of a question, its answer. None is guessed."""

from __future__ import annotations

import ast
import json
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.tasks.question import LETTERS
from inactive_heads.tasks.reading.rows import Row


def text_field(row: Row, name: str) -> str:
    """A text in a row.

    Args:
        row: the row.
        name: the field's name.

    Returns:
        The text, which has more than white space.

    Raises:
        UserError: there is no such field, or it is not a text, is empty, or has half a surrogate
            pair, which no tokenizer can read.
    """
    if name not in row.values:
        there = ", ".join(map(str, row.values)) or "nothing"
        raise UserError(f"{row.place} has no field {name!r}, but {there:.100}; name it {name!r}")
    value = row.values[name]
    if not isinstance(value, str):
        raise UserError(
            f"{row.place}: {name} is {_shown(value)}, not a text; put it in quotes, or remove the row"
        )
    return _text(value, f"{row.place}: {name}")


def name_field(row: Row, name: str) -> str:
    """A name in a row, such as a subject: a text, or a whole number.

    Args:
        row: the row.
        name: the field's name.

    Returns:
        The name, without white space around it.

    Raises:
        UserError: see `text_field`.
    """
    value = row.values.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(row, name).strip()


def choices_field(row: Row) -> tuple[str, ...]:
    """A question's four choices.

    Args:
        row: its field ``choices`` is a list of four texts or whole numbers; an object with the
            letters A to D as keys; an object with the lists ``text`` and ``label``; or a list or
            object written as text, as CSV files have it. Without that field, the fields A, B, C and
            D are the choices.

    Returns:
        The choices' texts, A to D.

    Raises:
        UserError: the choices are none of these, not four, or one is empty or not a text.
    """
    values = row.values
    found = values["choices"] if "choices" in values else {x: values.get(x) for x in LETTERS}
    if isinstance(found, str):
        found = _written(found)
    if isinstance(found, dict) and set(found) == {"text", "label"}:
        labels, texts = found["label"], found["text"]
        alike = isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts)
        found = dict(zip(map(str, labels), texts, strict=True)) if alike else found
    if isinstance(found, dict):
        by_letter = {str(key).strip().upper(): value for key, value in found.items()}
        if len(found) != len(LETTERS) or set(by_letter) != set(LETTERS):
            raise UserError(
                f"{row.place} has choices with the keys {', '.join(map(str, found)):.60}; it needs "
                "four choices, as a list or with the keys A, B, C, D"
            )
        found = [by_letter[letter] for letter in LETTERS]
    if not isinstance(found, list | tuple):
        raise UserError(f"{row.place}: choices is {_shown(found)}, not a list of four texts")
    if len(found) != len(LETTERS):
        raise UserError(f"{row.place} has {len(found)} choices; it needs four choices")
    choices = []
    for letter, choice in zip(LETTERS, found, strict=True):
        if isinstance(choice, int) and not isinstance(choice, bool):
            choice = str(choice)  # floats are not: 1.10 would become 1.1
        if not isinstance(choice, str):
            raise UserError(
                f"{row.place}: choice {letter} is {_shown(choice)}, not a text; put it in quotes"
            )
        choices.append(_text(choice, f"{row.place}: choice {letter}"))
    return tuple(choices)


def answer_field(row: Row, choices: tuple[str, ...]) -> int:
    """The index of a question's right choice.

    Args:
        row: its field ``answer`` is an index from 0, a letter, or the text of a choice.
        choices: the question's choices.

    Returns:
        0 to 3.

    Raises:
        UserError: the answer is none of these, or can be read in two ways.
    """
    answer = row.values["answer"]
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)  # a column of a table with missing values
    found: set[int] = set()
    if isinstance(answer, int) and not isinstance(answer, bool):
        found = {answer} & set(range(len(LETTERS)))
    elif isinstance(answer, str):
        said = answer.strip()
        found = {index for index, choice in enumerate(choices) if choice.strip() == said}
        if said.upper() in LETTERS:
            found.add(LETTERS.index(said.upper()))
        found |= {index for index in range(len(LETTERS)) if said in (str(index), f"{index}.0")}
    if not found:
        raise UserError(
            f"{row.place} has the answer {_shown(answer)}; it needs an answer from 0 to 3 (counted "
            "from 0), a letter A to D, or the text of a choice"
        )
    if len(found) > 1:
        letters = " or ".join(LETTERS[index] for index in sorted(found))
        raise UserError(
            f"{row.place} has the answer {answer!r:.60}, which can mean {letters}; give a number "
            "from 0 to 3 that is not in quotes, or name the choices otherwise"
        )
    return found.pop()


def _written(text: str) -> Any:
    """A list or object that a text holds, as JSON or as Python prints it; otherwise the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | tuple | dict):
            return found
    return text


def _text(text: str, place: str) -> str:
    if not text.strip():
        raise UserError(f"{place} is empty; give a text, or remove the row")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise UserError(
            f"{place} has {half}, half of a surrogate pair, at character {error.start}; mend the text"
        ) from error
    return text


def _shown(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", list: "a list", dict: "an object", bytes: "bytes"}
    return f"{value!r:.40}" if type(value) not in kinds else f"{kinds[type(value)]} ({value!r:.30})"
