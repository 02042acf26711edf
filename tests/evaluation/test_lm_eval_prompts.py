"""Prompts and answers against lm-evaluation-harness itself, over local MMLU data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inactive_heads as ih
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.question_tokens import asked_of, written_prompt

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's own

PER_SUBJECT = 2


@pytest.fixture(scope="module")
def harness(mmlu_folder):
    from helpers.harness_tasks import HarnessMMLU

    return HarnessMMLU(mmlu_folder)


@pytest.fixture(scope="module")
def chat_model(demo_model):
    return ih.load_model(dtype="float32", chat_template="on")


@pytest.fixture(scope="module")
def plain_model(chat_model):
    return replace(chat_model, chat=None)


@pytest.fixture(scope="module")
def theirs(chat_model):
    """The harness's own model over the bundled weights."""
    from lm_eval.models.huggingface import HFLM

    from inactive_heads.models.weights.bundled import demo_folder

    return HFLM(pretrained=str(demo_folder()), device="cpu", dtype="float32", batch_size=4)


def requests_of(task, limit, theirs, chat):
    """What the harness would ask: per question, its (context, continuation) pairs."""
    task.build_all_requests(
        limit=limit,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        chat_template=theirs.apply_chat_template if chat else None,
    )
    pairs = [request.args for request in task.instances]
    n = 4
    return [pairs[start : start + n] for start in range(0, len(pairs), n)]


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
@pytest.mark.parametrize("shots", [0, 5])
def test_prompts_are_the_harness_s_to_the_character(
    harness, theirs, chat_model, plain_model, mmlu_folder, shots, chat
):
    model = chat_model if chat else plain_model
    ours = ih.load_task("mmlu", data=mmlu_folder, shots=shots)
    for subject in harness.subjects:
        items = [item for item in ours.items if item.subject == subject][:PER_SUBJECT]
        asked = requests_of(harness.task(subject, shots=shots), PER_SUBJECT, theirs, chat)
        for item, pairs in zip(items, asked, strict=True):
            found = asked_of(model, item, "letter")
            text = written_prompt(model, item.context)
            assert {context for context, _ in pairs} == {text}
            encoded = [theirs._encode_pair(*pair) for pair in pairs]
            assert [context for context, _ in encoded] == found.prompts
            assert [answer for _, answer in encoded] == found.answers


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_answers_are_the_harness_s(harness, theirs, chat_model, plain_model, mmlu_folder, chat):
    model = chat_model if chat else plain_model
    limit = 3
    whole = ih.load_task("mmlu", data=mmlu_folder, shots=0)
    for subject in harness.subjects[::15]:
        items = [item for item in whole.items if item.subject == subject][:limit]
        found = ih.evaluate(model, ChoiceTask("mmlu", items, "letter", 0)).items
        task = harness.task(subject, shots=0)
        requests_of(task, limit, theirs, chat)
        answers = theirs.loglikelihood(task.instances, disable_tqdm=True)
        expected = np.array([logprob for logprob, _ in answers]).reshape(limit, 4)
        np.testing.assert_allclose(np.stack(found.choice_logprobs), expected, atol=1e-4)
        gold = [doc["answer"] for doc in task.eval_docs][:limit]
        assert found.correct.tolist() == (expected.argmax(axis=1) == gold).tolist()


def test_cloze_is_mmlu_continuation(harness, theirs, plain_model, mmlu_folder):
    subject, limit = harness.subjects[3], 3
    whole = ih.load_task("mmlu", data=mmlu_folder, shots=2, scoring="cloze", subjects=[subject])
    items = whole.items[:limit]
    found = ih.evaluate(plain_model, ChoiceTask("mmlu", items, "cloze", 2)).items
    task = harness.task(subject, shots=2, kind="_continuation")
    asked = requests_of(task, limit, theirs, chat=False)
    assert [str(item.context) for item in items] == [pairs[0][0] for pairs in asked]
    answers = theirs.loglikelihood(task.instances, disable_tqdm=True)
    expected = np.array([logprob for logprob, _ in answers]).reshape(limit, 4)
    # Float32 errors of an answer's tokens add up as their log-probabilities do: against float64,
    # the harness is off by 2e-5 where the sum is -3, and by 1e-4 where it is -51.
    found_sums = np.stack(found.choice_logprobs)
    np.testing.assert_allclose(found_sums, expected, rtol=1e-5, atol=1e-4)
    for row, (doc, results) in enumerate(
        zip(task.eval_docs, np.split(np.array(answers), limit), strict=False)
    ):
        judged = task.process_results(doc, [tuple(one) for one in results])
        assert judged["acc_norm"] == float(found.correct[row])
