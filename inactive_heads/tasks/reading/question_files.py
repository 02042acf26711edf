"""Questions of a file or folder: each once, as an example or to be asked."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike

from inactive_heads.errors import Notice, UserError
from inactive_heads.tasks.question import LETTERS, Question
from inactive_heads.tasks.reading.fields import (
    answer_field,
    choices_field,
    name_field,
    text_field,
)
from inactive_heads.tasks.reading.folder import ending_of
from inactive_heads.tasks.reading.layout import SPLITS, SplitFile, split_files
from inactive_heads.tasks.reading.rows import Row, csv_cells, read_rows
from inactive_heads.tasks.reading.sources import question_path

NEEDED = ("subject", "split", "question", "choices", "answer")
"""The fields of a question. The split can also be said by the file's name."""


@dataclass
class Questions:
    """The questions of a data set.

    Attributes:
        source: where they come from, for messages.
        dev: the questions for examples.
        test: the questions to ask.
    """

    source: str
    dev: list[Question] = field(default_factory=list)
    test: list[Question] = field(default_factory=list)

    @cached_property
    def _by_subject(self) -> dict[str, list[Question]]:
        found = defaultdict(list)
        for question in self.dev:
            found[question.subject].append(question)
        return found

    def examples(self, subject: str) -> list[Question]:
        """The examples of a subject, in the order of the data."""
        return self._by_subject.get(subject, [])


def read_questions(source: str | PathLike[str]) -> Questions:
    """The questions of a file or folder, each once.

    Args:
        source: a file of rows (see `ROW_ENDINGS`), or a folder; see `split_files`. A question that
            two tables of a folder have, such as ``all`` and that of its subject, is taken once.

    Returns:
        The questions. Their ids are those of the rows, or of subject, split and index. Rows of the
        splits train and validation are left out, with a Notice.

    Raises:
        UserError: there is no such file, or it cannot be read; a row lacks a field or its question
            is damaged; two tables have some questions of a subject in common, but not all; or
            there is no question to ask.
    """
    path = question_path(source)
    files = split_files(path) if path.is_dir() else [SplitFile.of(path)]
    tables: dict[str, list[_Parsed]] = defaultdict(list)
    for one in files:
        tables[one.group] += [_parsed(row) for row in _rows(one)]
    return _collected(_each_once(tables.values()), str(path))


def questions_of(rows: Iterable[Row], source: str) -> Questions:
    """The questions of rows that have the fields `NEEDED`.

    Args:
        rows: the rows.
        source: where they come from, for messages.

    Returns:
        The questions; see `read_questions`.

    Raises:
        UserError: a row lacks a field or is damaged, or there is no question to ask.
    """
    return _collected(map(_parsed, rows), source)


def check_once(questions: Questions) -> None:
    """Check that every question, id and choice is there once.

    Args:
        questions: a user's own questions.

    Raises:
        UserError: a question has the same choice twice; two have the same id; or two are the same.
            The message names the rows.
    """
    seen: dict[object, Question] = {}
    for question in (*questions.dev, *questions.test):
        choices = [choice.strip() for choice in question.choices]
        twice = [choice for choice in choices if choices.count(choice) > 1]
        if twice:
            raise UserError(
                f"{question.place} has the choice {twice[0]!r:.60} twice, so the right one cannot be "
                "told by its text; give four different choices"
            )
        same = (question.subject, question.question.strip(), *choices)
        for key, what in ((same, "question"), (question.id, f"id {question.id!r}")):
            if (other := seen.setdefault(key, question)) is not question:
                raise UserError(
                    f"{question.place} has the {what} of {other.place} again; remove or rename one"
                )


_Parsed = tuple[str, Question | None]
"""A split, and its question if it is used."""


def _rows(one: SplitFile) -> Iterator[Row]:
    """The rows of a file, with a split and a subject if its name says them."""
    if ending_of(one.file) in (".csv", ".tsv"):
        cells = csv_cells(one.file)
        if cells and "question" not in [str(x).strip().lower() for x in cells[0].values.values()]:
            yield from (_without_header(row, one) for row in cells)
            return
    known = {} if one.split is None else {"split": one.split}
    for row in read_rows(one.file):
        yield Row({**known, **row.values}, row.place)


def _without_header(row: Row, one: SplitFile) -> Row:
    """A row as MMLU was first published: the question, four choices, and the answer's letter."""
    cells = list(row.values.values())
    if len(cells) != 6 or cells[5].strip() not in LETTERS or one.split is None:
        raise UserError(
            f"{row.place} is neither a header with the column question nor, as in MMLU's "
            "SUBJECT_test.csv, a question, four choices and a letter; give a header"
        )
    question, *choices, letter = cells
    values = {"split": one.split, "subject": one.subject, "question": question}
    values |= {"choices": choices, "answer": LETTERS.index(letter.strip())}
    return Row(values, row.place)


def _parsed(row: Row) -> _Parsed:
    values = row.values
    missing = [name for name in NEEDED if name not in values]
    if "choices" in missing and set(LETTERS) <= set(values):
        missing.remove("choices")
    if missing:
        raise UserError(f"{row.place} lacks {', '.join(missing)}; it needs {', '.join(NEEDED)}")
    named = values["split"]
    split = SPLITS.get(named.strip().lower()) if isinstance(named, str) else None
    if split is None:
        raise UserError(
            f"{row.place} has the split {named!r:.60}; give test (is asked) or dev (an example for "
            "--num-fewshot)"
        )
    if split == "other":
        return named, None
    given = values.get("id")
    choices = choices_field(row)
    return split, Question(
        id="" if given is None else name_field(row, "id"),
        subject=name_field(row, "subject"),
        question=text_field(row, "question"),
        choices=choices,
        answer=answer_field(row, choices),
        place=row.place,
    )


def _collected(parsed: Iterable[_Parsed], source: str) -> Questions:
    found, others = Questions(source), Counter[str]()
    for index, (split, question) in enumerate(parsed):
        if question is None:
            others[split] += 1
            continue
        name = question.id or f"{question.subject}-{split}-{index}"
        (found.dev if split == "dev" else found.test).append(replace(question, id=name))
    left = " and ".join(f"{n} rows of the split {split}" for split, n in others.items())
    if not found.test:
        if found.dev and not left:
            left = f"{len(found.dev)} rows of the split dev"
        there = f", but {left}" if left else ""
        raise UserError(f"{source} has no question of the split test{there}; only these are asked")
    if others:
        warnings.warn(
            f"{source} has {left}, which are left out: the split test is asked, dev has examples",
            Notice,
            stacklevel=2,
        )
    return found


def _each_once(tables: Iterable[list[_Parsed]]) -> Iterator[_Parsed]:
    """The rows of all tables, without a subject's questions that an earlier table has."""
    kept: dict[tuple[str, str], list[Counter[Question]]] = defaultdict(list)
    for parsed in tables:
        mine: dict[tuple[str, str], Counter[Question]] = defaultdict(Counter)
        for split, question in parsed:
            if question is not None:
                mine[split, question.subject][replace(question, id="")] += 1
        copies = set()
        for (split, subject), questions in mine.items():
            asked = {(one.question, one.choices) for one in questions}
            for others in kept[split, subject]:
                if questions == others:
                    copies.add((split, subject))
                elif not asked.isdisjoint((one.question, one.choices) for one in others):
                    first, second = next(iter(others)).place, next(iter(questions)).place
                    raise UserError(
                        f"the questions of {subject!r} from {first} on and from {second} on are "
                        "partly the same; give the folder or file of one of them"
                    )
            kept[split, subject].append(questions)
        for split, question in parsed:
            if question is None or (split, question.subject) not in copies:
                yield split, question
