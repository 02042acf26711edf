"""Questions that a user builds: checked when they are made."""

import pickle

import numpy as np
import pandas as pd
import pytest
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice


def item(**changes):
    fields = {"id": "q1", "subject": "s", "context": "1 + 1 =", "continuations": (" 2", " 3")}
    with unchecked():
        return ih.ChoiceItem(**{**fields, "answer": 1, **changes})


def task(items, scoring="cloze"):
    with unchecked():
        return ih.ChoiceTask("sums", items, scoring, 0)


PLAIN = item()


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": np.int64(1)},
        {"answer": np.uint8(1)},
        {"continuations": [" 2", " 3"]},
        {"continuations": (text for text in (" 2", " 3"))},
        {"continuations": np.array([" 2", " 3"])},
        {"continuations": pd.Series([" 2", " 3"], index=[7, 8])},
        {"lengths": []},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_fields_that_are_clear(changes):
    found = item(**changes)
    assert found == PLAIN
    assert hash(found) == hash(PLAIN)
    assert type(found.answer) is int
    assert pickle.loads(pickle.dumps(found)) == PLAIN  # noqa: S301


def test_numbers_for_names_and_lists_of_contexts():
    assert item(id=7, subject=8) == item(id="7", subject="8")
    assert item(context=["a", "b"]) == item(context=("a", "b"))
    assert item(lengths=[1, np.int64(2)]).lengths == (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": True}, "has the answer True; give the index of a continuation"),
        ({"answer": np.True_}, "has the answer .*True.*; give the index"),
        ({"answer": 1.0}, "has the answer 1.0; give the index"),
        ({"answer": np.float32(1)}, "has the answer .*1.0.*; give the index"),
        ({"answer": "B"}, "has the answer 'B'; give the index"),
        ({"answer": None}, "has the answer None; give the index"),
        ({"answer": 2}, "has the answer 2; it needs 0 to 1, counted from 0"),
        ({"answer": -1}, "has the answer -1; it needs 0 to 1"),
        ({"continuations": " 2"}, "the continuations of question 'q1' are ' 2', not a list"),
        ({"continuations": {" 2", " 3"}}, "the continuations of .*, not a list of texts"),
        ({"continuations": {"A": " 2", "B": " 3"}}, "the continuations of .*, not a list of texts"),
        ({"continuations": 5}, "the continuations of .* are 5, not a list"),
        ({"continuations": None}, "the continuations of .* are None, not a list"),
        ({"continuations": []}, "has an empty continuation, or none"),
        ({"continuations": (" 2", "")}, "has an empty continuation, or none"),
        ({"continuations": (" 2", 3)}, "has 3 where a text is needed"),
        ({"continuations": (" 2", None)}, "has None where a text is needed"),
        ({"continuations": b" 2"}, "has 32 where a text is needed"),
        ({"continuations": (" 2", " \ud83d")}, r"has half of a surrogate pair in ' \\ud83d'"),
        ({"context": None}, "has None where a text is needed"),
        ({"context": [1, 2]}, "has 1 where a text is needed"),
        ({"context": "\udc00"}, "has half of a surrogate pair"),
        ({"context": ("a",)}, "has 1 contexts and 2 continuations"),
        ({"context": ("a", "b", "c")}, "has 3 contexts and 2 continuations"),
        ({"lengths": (1,)}, "has 1 lengths and 2 continuations"),
        ({"lengths": 2}, "has the lengths 2; give one for each"),
        ({"lengths": (1.5, 2)}, "a length of question 'q1' must be a whole number, not 1.5"),
        ({"lengths": (-1, 2)}, "a length of question 'q1' must be at least 0, not -1"),
        ({"subject": None}, "has the subject None; give a text"),
        ({"id": None}, "question None has the id None; give a text"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_a_question_that_is_damaged_is_named(changes, message):
    with pytest.raises(ih.UserError, match=f"^.*question.*{message}|^{message}") as error:
        item(**changes)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("items", "scoring", "message"),
    [
        ([], "cloze", "the task 'sums' has no questions"),
        (PLAIN, "cloze", "needs a list of ChoiceItem, not ChoiceItem"),
        ("abc", "cloze", "needs a list of ChoiceItem, not 'abc'"),
        (None, "cloze", "needs a list of ChoiceItem, not None"),
        ([{"context": "x"}], "cloze", "needs ChoiceItem, not {'context'"),
        ([PLAIN, item(context="x")], "cloze", "two questions of .*'sums' have the id 'q1'"),
        ([item(continuations=(" 2",), answer=0)], "acc", "'q1' has one answer; there is nothing"),
        ([item(continuations=(" 2", " "))], "cloze", "'q1' has an answer without characters"),
        ([item(lengths=(0, 1))], "acc_norm", "'q1' has an answer without characters, .*acc_norm"),
        ([PLAIN], "essay", "scoring must be one of letter, cloze, acc, acc_norm, not 'essay'"),
    ],
)
def test_a_task_that_cannot_be_judged_is_refused(items, scoring, message):
    with pytest.raises(ih.UserError, match=message):
        task(items, scoring)


def test_items_of_any_kind_of_list():
    for items in ((one for one in [PLAIN]), (PLAIN,), pd.Series([PLAIN])):
        assert task(items).items == [PLAIN]
    task([item(continuations=(" 2", " "))], "acc")  # nothing is divided
    task([item(lengths=(0, 1))], "letter")


TWICE = [
    item(continuations=(" 2", " 3", " 2"), answer=2),
    item(continuations=(" 2", " 2"), answer=0),
    item(context=("x", "x"), continuations=(" 2", " 2")),
]
ONCE = [
    item(continuations=(" 2", " 3", " 2"), answer=1),
    item(context=("x", "y"), continuations=(" 2", " 2")),
    item(context=("x", "x"), continuations=(" 2", " 3")),
]


@pytest.mark.parametrize(("twice", "once"), list(zip(TWICE, ONCE, strict=True)))
def test_a_right_answer_that_is_there_twice_is_said_once(twice, once):
    items = [item(id="q0"), twice]
    with pytest.warns(Notice, match=r"^1 questions of sums have .* twice \('q1' is the first\)"):
        made = task(items)
    assert made.part(1, 2).items == [twice]  # says nothing again
    assert task([item(id="q0"), once]).items[1] == once
