"""Rows of questions: understood where they are clear, refused by row where they are not."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.data_sets import QUESTION, put

import inactive_heads as ih
from inactive_heads.errors import Notice

CHOICES = QUESTION["choices"]
FIRST = {**QUESTION, "question": "Which of these barks?"}
AS_OBJECT = dict(zip("DBAC", ["snail", "bird", "fish", "cat"], strict=True))


def file_of(path, rows):
    return put(path, "\n".join(json.dumps(row) for row in rows))


def second(path, **changes):
    """The item of a changed question in the second line."""
    file = file_of(path / "q.jsonl", [FIRST, {**QUESTION, **changes}])
    item = ih.load_task("quiz", data=file).items[1]
    return [text.removeprefix(" ") for text in item.continuations], item.answer


@pytest.mark.parametrize(
    "choices",
    [
        AS_OBJECT,
        {letter.lower(): text for letter, text in AS_OBJECT.items()},
        {"text": CHOICES, "label": ["A", "B", "C", "D"]},
        {"text": CHOICES[::-1], "label": ["D", "C", "B", "A"]},
        json.dumps(CHOICES),
        json.dumps(AS_OBJECT),
        str(CHOICES),
        f" {tuple(CHOICES)}\n",
    ],
    ids=str,
)
def test_choices_that_are_clear(choices, tmp_path):
    assert second(tmp_path, choices=choices) == (CHOICES, 2)


@pytest.mark.parametrize("answer", [2, 2.0, "2", "2.0", "C", "c", " C ", "cat", " cat"])
def test_answers_that_are_clear(answer, tmp_path):
    assert second(tmp_path, answer=answer) == (CHOICES, 2)


def test_numbers_for_choices(tmp_path):
    assert second(tmp_path, choices=[1, 2, 3, 4], answer=2) == (["1", "2", "3", "4"], 2)
    assert second(tmp_path, choices=["0", "1", "2", "3"], answer="2") == (["0", "1", "2", "3"], 2)
    assert second(tmp_path, choices=list("ABCD"), answer="C") == (list("ABCD"), 2)


FOUR = "needs four choices"
REFUSED = [
    *(
        ({"choices": choices}, message)
        for choices, message in [
            (None, "choices is null, not a list"),
            ("wxyz", "choices is 'wxyz', not a list"),
            ("A. x\nB. y", "choices is .*, not a list"),
            (str(np.array(CHOICES)), f"has 1 choices; it {FOUR}"),
            ([], f"has 0 choices; it {FOUR}"),
            (CHOICES[:3], f"has 3 choices; it {FOUR}"),
            ([*CHOICES, "dog"], f"has 5 choices; it {FOUR}"),
            (
                dict(zip("0123", CHOICES, strict=True)),
                "has choices with the keys 0, 1, 2, 3; it need",
            ),
            (
                dict(zip("ABC", CHOICES[:3], strict=True)),
                "has choices with the keys A, B, C; it needs",
            ),
            ({**AS_OBJECT, "a": "dog"}, "has choices with the keys D, B, A, C, a; it needs"),
            (
                {"text": CHOICES, "label": list("1234")},
                "has choices with the keys 1, 2, 3, 4; it n",
            ),
            (
                {"text": CHOICES, "label": list("ABC")},
                "has choices with the keys text, label; it n",
            ),
            (["fish", None, "cat", "snail"], "choice B is null, not a text"),
            ([1.1, 2, 3, 4], "choice A is 1.1, not a text; put it in quotes"),
            ([True, "b", "cat", "d"], r"choice A is true or false \(True\), not a text"),
            ([["fish"], "b", "cat", "d"], "choice A is a list"),
            (["fish", "", "cat", "snail"], "choice B is empty"),
            (["fish", "bird", "cat", " "], "choice D is empty"),
            (["fish", "fish", "cat", "snail"], "has the choice 'fish' twice"),
            (["cat", "bird", "cat ", "snail"], "has the choice 'cat' twice"),
            (["fish", "bird", "cat", "\ud83d"], r"choice D has \\ud83d, half of a surrogate"),
        ]
    ),
    *(
        ({"answer": answer}, message)
        for answer, message in [
            (4, "has the answer 4; it needs an answer from 0 to 3 .counted from 0"),
            (-1, "has the answer -1; it needs"),
            (1.5, "has the answer 1.5; it needs"),
            (float("nan"), "has the answer nan; it needs"),
            (None, "has the answer null; it needs"),
            (True, r"has the answer true or false \(True\); it needs"),
            ([2], "has the answer a list"),
            ("", "has the answer ''; it needs"),
            ("E", "has the answer 'E'; it needs"),
            ("4", "has the answer '4'; it needs"),
            ("Cat", "has the answer 'Cat'; it needs"),
        ]
    ),
    (
        {"choices": ["1", "2", "3", "4"], "answer": "2"},
        "has the answer '2', which can mean B or C; give",
    ),
    (
        {"choices": ["B", "A", "x", "y"], "answer": "A"},
        "has the answer 'A', which can mean A or B; give",
    ),
    ({"question": None}, "question is null, not a text"),
    ({"question": ["a", "b"]}, "question is a list"),
    ({"question": " "}, "question is empty"),
    ({"question": "\udc00"}, r"question has \\udc00, half of a surrogate pair"),
    ({"subject": None}, "subject is null, not a text"),
    ({"subject": ["s"]}, "subject is a list"),
    ({"id": [1]}, "id is a list"),
    ({"split": None}, "has the split None; give test .is asked. or dev"),
    ({"split": "exam"}, "has the split 'exam'; give test .is asked. or dev"),
    (FIRST, "has the question of line 1 of .* again; remove or rename one"),
    ({**FIRST, "answer": 0}, "has the question of line 1 of .* again"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda value: f"{value!s:.50}")
def test_what_is_not_clear_is_refused_by_row(changes, message, tmp_path):
    with pytest.raises(ih.UserError, match=f"^line 2 of .*q.jsonl:? {message}") as error:
        second(tmp_path, **changes)
    assert len(str(error.value).replace(str(tmp_path), "")) < 200


@pytest.mark.parametrize("key", ["subject", "split", "question", "choices", "answer"])
def test_a_missing_field_is_named(key, tmp_path):
    row = {name: value for name, value in QUESTION.items() if name != key}
    with pytest.raises(ih.UserError, match=f"line 1 of .* lacks {key}; it needs subject, split"):
        ih.load_task("quiz", data=file_of(tmp_path / "q.jsonl", [row]))


def test_ids_are_kept_and_told_apart(tmp_path):
    rows = [{**FIRST, "id": 7}, {**QUESTION, "id": None}]
    items = ih.load_task("quiz", data=file_of(tmp_path / "q.jsonl", rows)).items
    assert [item.id for item in items] == ["7", "s-test-1"]
    rows[1]["id"] = "7"
    with pytest.raises(ih.UserError, match="line 2 of .* has the id '7' of line 1 of .* again"):
        ih.load_task("quiz", data=file_of(tmp_path / "q.jsonl", rows))


def test_an_example_is_not_asked(tmp_path):
    rows = [{**QUESTION, "split": "dev"}, QUESTION]
    with pytest.raises(ih.UserError, match="line 2 of .* has the question of line 1 of .* again"):
        ih.load_task("quiz", data=file_of(tmp_path / "q.jsonl", rows))


@pytest.mark.parametrize("split", ["validation", "val", "train", "Validation", "auxiliary_train"])
def test_other_splits_are_not_asked_and_said(split, tmp_path):
    rows = [{**FIRST, "split": split}, {**QUESTION, "split": "Test "}]
    file = file_of(tmp_path / "q.jsonl", rows)
    with pytest.warns(Notice, match=f"has 1 rows of the split {split}, which are left out"):
        task = ih.load_task("quiz", data=file)
    assert [item.continuations for item in task.items] == [tuple(f" {one}" for one in CHOICES)]
    with (
        pytest.warns(Notice, match="left out"),
        pytest.raises(ih.UserError, match="1 shots were asked for, subject 's' has 0 examples"),
    ):
        ih.load_task("quiz", data=file, shots=1)
    file_of(file, rows[:1])
    with pytest.raises(
        ih.UserError, match=f"no question of the split test, but 1 rows of .*{split}"
    ):
        ih.load_task("quiz", data=file)


HEADER = "subject,split,question,A,B,C,D,answer\n"
CSV = {
    "letters": HEADER + '1,test,"He said, ""hi""\nok?","1,5",None,NA,d,C\n',
    "a mark": "\ufeff" + HEADER.replace("\n", "\r\n") + "1,test,Hi?,a,b,c,d,C\r\n",
    "an index, more columns": HEADER.replace("\n", ",no\n") + "1,test,Hi?,a,b,c,d,2,9\n",
    "a list": "subject,split,question,choices,answer\n1,test,Hi?,\"['a', 'b', 'c', 'd']\",c\n",
    "tabs": HEADER.replace(",", "\t") + "1\ttest\tHi, you?\ta\tb\tc\td\tC\n",
}


@pytest.mark.parametrize(("kind", "text"), CSV.items(), ids=CSV)
def test_questions_in_csv_files(kind, text, tmp_path):
    file = put(tmp_path / ("q.tsv" if kind == "tabs" else "q.csv"), text)
    (item,) = ih.load_task("quiz", data=file, scoring="letter").items
    choices = ["1,5", "None", "NA", "d"] if kind == "letters" else list("abcd")
    question = {"letters": 'He said, "hi"\nok?', "tabs": "Hi, you?"}.get(kind, "Hi?")
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=True)]
    asked = "\n".join([question, *lines, "Answer:"])
    assert str(item.context).partition("\n\n")[2] == asked
    assert (item.answer, item.subject) == (2, "1")


def test_questions_in_parquet_files(tmp_path):
    table = pd.DataFrame([QUESTION, FIRST])
    table["choices"] = [np.array(CHOICES)] * 2
    table["answer"] = [2.0, 1.0]
    table.to_parquet(tmp_path / "q.parquet")
    items = ih.load_task("quiz", data=tmp_path / "q.parquet").items
    assert [item.answer for item in items] == [2, 1]
    assert items[0].continuations == tuple(f" {one}" for one in CHOICES)
    table.assign(answer=[1.0, None]).to_parquet(tmp_path / "q.parquet")
    with pytest.raises(ih.UserError, match="row 1 of .* has the answer nu?"):
        ih.load_task("quiz", data=tmp_path / "q.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b'{"subject": "s"}\n{"a": "\xff"}', "line 2 of .* is not UTF-8"),
        ("q.jsonl", json.dumps(QUESTION).encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("q.csv", "a,b\nü".encode("latin-1"), "line 2 of .* is not UTF-8"),
        ("q.csv", HEADER + "s,test,Hi, you?,a,b,c,d,A\n", "line 2 of .* has 9 cells, the header"),
        ("q.csv", "Hi?,a,b,c,d,A\n", "line 1 of .* is neither a header with the column question"),
        ("q.jsonl", "[1]", "line 1 of .* is not an object but an array"),
        ("q.jsonl", "null", "line 1 of .* is not an object but None"),
        ("q.jsonl", "not json", "line 1 of .* is not JSON"),
        ("q.jsonl", "", "has no question of the split test"),
        ("q.txt", "Hi?", r"q\.txt has none of the endings \.jsonl, .*; convert it"),
    ],
)
def test_files_that_hold_no_questions_are_refused(name, content, message, tmp_path):
    with pytest.raises(ih.UserError, match=message):
        ih.load_task("quiz", data=put(tmp_path / name, content))


def test_a_line_separator_in_a_question_is_no_line_end(tmp_path):
    row = {**QUESTION, "question": "a\u2028b\x85c?"}
    file = put(tmp_path / "q.jsonl", "\ufeff" + json.dumps(row, ensure_ascii=False))
    (item,) = ih.load_task("quiz", data=file).items
    assert item.context.endswith("Question: a\u2028b\x85c?\nAnswer:")
