"""Which answer counts as given, by hand: from log-probabilities where the divisor decides."""

import numpy as np
import pytest

from inactive_heads.tasks.base import ChoiceItem
from inactive_heads.tasks.choice_task import ChoiceTask


def judged(scoring, continuations, logprobs, answer, **options):
    """Whether the right answer was given, with one input for every continuation."""
    item = ChoiceItem("q", "s", "Question:", continuations, answer, **options)
    row = ChoiceTask("t", [item], scoring, 0).outcomes([logprobs]).iloc[0]
    assert row["choice_logprobs"] == pytest.approx([float(np.sum(one)) for one in logprobs])
    assert row["answer_logprob"] == pytest.approx(float(np.sum(logprobs[answer])))
    return bool(row["correct"])


SHORT, LONG = " ab", " abcdef"  # 2 and 6 characters, 3 and 7 with the space
BY_TEXT = [np.array([-1.0, -1.0]), np.array([-5.8])]  # -1 and -0.967; with the space -0.67, -0.83


@pytest.mark.parametrize("scoring", ["cloze", "acc_norm"])
def test_the_space_before_an_answer_is_not_counted(scoring):
    assert judged(scoring, (SHORT, LONG), BY_TEXT, answer=1)
    assert not judged(scoring, (SHORT, LONG), BY_TEXT, answer=0)


@pytest.mark.parametrize("scoring", ["letter", "acc"])
def test_what_is_not_normalized_goes_by_the_sum(scoring):
    assert judged(scoring, (SHORT, LONG), BY_TEXT, answer=0)


def test_only_one_space_is_left_out_and_only_before():
    # 3 and 6 characters: -2 and -2.1; without any space the first has 2, and -3.
    assert judged("cloze", ("  ab", LONG), [np.array([-6.0]), np.array([-12.6])], answer=0)
    assert judged("cloze", (" ab ", LONG), [np.array([-6.0]), np.array([-12.6])], answer=0)


@pytest.mark.parametrize("scoring", ["cloze", "acc_norm"])
def test_a_tasks_own_lengths_go_before_the_texts(scoring):
    # -1.5 and -1.93 by the texts; -1.0 and -0.967 by the lengths given.
    logprobs = [np.array([-3.0]), np.array([-11.6])]
    assert judged(scoring, (SHORT, LONG), logprobs, answer=0)
    assert judged(scoring, (SHORT, LONG), logprobs, answer=1, lengths=(3, 12))
    assert judged("acc", (SHORT, LONG), logprobs, answer=0, lengths=(3, 12))


def test_of_equal_answers_the_first_is_taken():
    assert judged("acc", (SHORT, LONG), [np.array([-2.0]), np.array([-2.0])], answer=0)
    assert not judged("acc", (SHORT, LONG), [np.array([-2.0]), np.array([-2.0])], answer=1)


def test_answers_that_share_their_first_tokens_share_an_input():
    """One input: the shared targets, then the last target of every answer."""
    item = ChoiceItem("q", "s", "Question:", (" x a", " x b", " x c"), 2)
    parts = [np.array([-0.5, -0.25, -3.0, -2.0, -1.0])]
    row = ChoiceTask("t", [item], "acc", 0).outcomes([parts]).iloc[0]
    assert row["choice_logprobs"] == [-3.75, -2.75, -1.75]
    assert row["answer_logprob"] == -1.75
    assert row["correct"]


def test_every_question_has_its_own_row():
    items = [ChoiceItem(f"q{i}", f"s{i}", "Q", (" a", " b"), i % 2) for i in range(3)]
    logprobs = [[np.array([-1.0]), np.array([-2.0])]] * 3
    table = ChoiceTask("t", items, "acc", 0).outcomes(logprobs)
    assert table["id"].tolist() == ["q0", "q1", "q2"]
    assert table["subject"].tolist() == ["s0", "s1", "s2"]
    assert table["correct"].tolist() == [True, False, True]
    assert table["answer_logprob"].tolist() == [-1.0, -2.0, -1.0]
    assert ChoiceTask("t", items, "acc", 0).kinds() == ["t: s0", "t: s1", "t: s2"]
