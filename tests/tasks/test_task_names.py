"""A task's name in place of a task."""

import pytest
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model


@pytest.fixture(scope="module")
def model():
    """A tiny model with room for every text: its tokens are the lengths of the first words."""
    engine = LensEngine(bridge_of(tiny_llama(), "tiny"))

    def encode(text):
        return [len(word) % 97 for word in text.split()[-12:]]

    return Model(engine, None, {"model": "tiny"}, encode)


def test_a_name_is_the_task_of_that_name(model):
    task = ih.load_task("text-loss")
    expected = ih.evaluate(model, task, progress=False)
    assert ih.evaluate(model, "text-loss", progress=False).items.equals(expected.items)
    options = {"scores": ["AHON"], "percents": [10], "progress": False}
    assert ih.sweep(model, "text-loss", **options).equals(ih.sweep(model, task, **options))


CALLS = {
    "evaluate": lambda model, task: ih.evaluate(model, task),
    "sweep": lambda model, task: ih.sweep(model, task),
    "compare_scores": lambda model, task: ih.compare_scores(["AHON"], model=model, task=task),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("quizz", "unknown task 'quizz'; there are: mmlu, quiz, text-loss"),
        (["one text"], r'a task is needed, not list; give load_task\("quiz"\), or TextTask'),
        ({"name": "quiz"}, r'a task is needed, not dict; give load_task\("quiz"\)'),
        (ih.ChoiceItem("q", "s", "x", (" a", " b"), 0), "a task is needed, not ChoiceItem"),
        (ih.TextTask, "a task is needed, not "),
    ],
    ids=lambda value: f"{value!s:.20}",
)
def test_what_is_no_task_is_refused_in_one_line(call, task, message, model):
    with unchecked(), pytest.raises(ih.UserError, match=message):
        call(model, task)
