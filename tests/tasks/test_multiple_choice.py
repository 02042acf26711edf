import json
from collections import Counter

import numpy as np
import pytest
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.tasks.base import choose_evenly


def test_an_mmlu_prompt_to_the_letter(mmlu_folder):
    task = ih.load_task("mmlu", data=mmlu_folder, shots=1, subjects=["abstract_algebra"])
    item = task.items[0]
    assert item.context == (
        "The following are multiple choice questions (with answers) about abstract algebra.\n"
        "\n"
        "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.\n"
        "A. 0\n"
        "B. 1\n"
        "C. 2\n"
        "D. 3\n"
        "Answer: B\n"
        "\n"
        "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.\n"
        "A. 0\n"
        "B. 4\n"
        "C. 2\n"
        "D. 6\n"
        "Answer:"
    )
    assert item.continuations == (" A", " B", " C", " D")
    assert item.answer == 1


def test_five_shots_are_the_first_five_and_none_is_the_question_alone(mmlu_folder):
    five = ih.load_task("mmlu", data=mmlu_folder, limit=29)
    assert five.num_fewshot == 5
    assert all(item.context.count("\nAnswer:") == 6 for item in five.items)
    none = ih.load_task("mmlu", data=mmlu_folder, shots=0, limit=3)
    assert all(item.context.count("\nAnswer:") == 1 for item in none.items)
    with pytest.raises(ih.UserError, match="6 shots were asked for, subject .* has 5 examples"):
        ih.load_task("mmlu", data=mmlu_folder, shots=6)


def test_a_limit_is_spread_over_subjects_and_seeded(mmlu_folder):
    task = ih.load_task("mmlu", data=mmlu_folder, limit=60, seed=3)
    per_subject = Counter(item.subject for item in task.items)
    assert len(per_subject) == 29
    assert set(per_subject.values()) == {2, 3}
    again = ih.load_task("mmlu", data=mmlu_folder, limit=60, seed=3)
    assert [item.id for item in task.items] == [item.id for item in again.items]
    other = ih.load_task("mmlu", data=mmlu_folder, limit=60, seed=4)
    assert [item.id for item in task.items] != [item.id for item in other.items]
    assert len(ih.load_task("mmlu", data=mmlu_folder).items) == 7658


def test_a_cloze_prompt():
    item = ih.load_task("quiz", shots=1, subjects=["geography"]).items[0]
    header, _, rest = item.context.partition("\n\n")
    assert header == "The following are questions (with answers) about geography."
    shot, asked = rest.split("\n\n")
    assert shot.startswith("Question: ")
    assert "\nAnswer: " in shot
    assert asked.startswith("Question: ")
    assert asked.endswith("\nAnswer:")
    assert all(text.startswith(" ") for text in item.continuations)


def test_the_bundled_quiz_is_sound():
    from importlib.resources import files

    text = files("inactive_heads").joinpath("data/quiz.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    splits = Counter((row["subject"], row["split"]) for row in rows)
    subjects = {subject for subject, _ in splits}
    assert len(subjects) == 10
    assert all(
        splits[subject, "dev"] == 5 and splits[subject, "test"] >= 25 for subject in subjects
    )
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert all(choice == choice.strip() and choice for choice in row["choices"])
    answers = np.bincount([row["answer"] for row in rows if row["split"] == "test"])
    assert len(answers) == 4
    assert answers.max() - answers.min() <= 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mmul", {}, "unknown task 'mmul'; there are: mmlu, quiz, text-loss"),
        ("quiz", {"limit": 0}, "--limit must be at least 1, not 0"),
        ("quiz", {"limit": -3}, "--limit must be at least 1, not -3"),
        ("quiz", {"limit": 0.5}, "--limit must be a whole number, not 0.5"),
        ("quiz", {"limit": True}, "--limit must be a whole number, not True"),
        ("quiz", {"limit": "9"}, "--limit must be a whole number, not '9'"),
        ("lm-eval:piqa", {"limit": 0.5}, "--limit must be a whole number, not 0.5"),
        ("text-loss", {"limit": 2.0}, "--limit must be a whole number, not 2.0"),
        ("quiz", {"shots": -1}, r"shots \(--num-fewshot\) must be at least 0, not -1"),
        ("quiz", {"shots": 1.5}, r"shots \(--num-fewshot\) must be a whole number, not 1.5"),
        ("quiz", {"shots": False}, r"shots \(--num-fewshot\) must be a whole number, not False"),
        ("quiz", {"shots": 6}, "6 shots were asked for, subject 'animals' has 5 examples"),
        ("quiz", {"seed": -1}, "the seed must be at least 0, not -1"),
        ("quiz", {"subjects": []}, "no subjects were given; name at least one"),
        ("quiz", {"subjects": [], "limit": 3}, "no subjects were given; name at least one"),
        ("quiz", {"subjects": ["animals", "Animals"]}, "unknown subject 'Animals'"),
        ("quiz", {"subjects": "animal"}, "unknown subject 'animal'; there are"),
        ("quiz", {"subjects": ["chess"]}, "unknown subject 'chess'; there are: animals"),
        ("quiz", {"scoring": "essay"}, "letter or cloze, not 'essay'"),
        ("quiz", {"data": "no/such/file"}, "'no/such/file' cannot be read"),
        ("mmlu", {"data": "no/such/folder"}, "'no/such/folder' cannot be read: there is no such"),
        ("text-loss", {"limit": 10**6}, "were asked for"),
    ],
)
def test_what_is_not_a_task_is_refused(name, options, message):
    with unchecked(), pytest.raises(ih.UserError, match=message):
        ih.load_task(name, **options)


def test_there_must_be_something_to_choose_from():
    for limit in (None, 3):
        with pytest.raises(ih.UserError, match="no questions to choose from"):
            choose_evenly([], str, None, limit, 0)


@pytest.mark.parametrize("limit", [None, 7])
def test_the_order_of_subjects_changes_nothing(limit):
    """Neither which questions are asked nor what is recorded, or a resume would be refused."""
    orders = (["science", "animals", "geography"], ["geography", "animals", "science", "science"])
    one, other = (ih.load_task("quiz", subjects=order, limit=limit) for order in orders)
    assert one == other
    assert one.about["subjects"] == ["animals", "geography", "science"]
    assert {item.subject for item in one.items} == {"animals", "geography", "science"}
    assert len({item.id for item in one.items}) == len(one.items) == (limit or len(one.items))


def test_a_single_subject_needs_no_list():
    with unchecked():
        assert ih.load_task("quiz", subjects="science") == ih.load_task(
            "quiz", subjects=["science"]
        )
