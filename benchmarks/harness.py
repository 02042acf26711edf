"""Compares MMLU with lm-evaluation-harness: every prompt, and the answers to 200 questions.

    python benchmarks/harness.py path/to/mmlu [--questions 200] [--shots 5]

Needs the extra "lm-eval" and the bundled model. The prompts of all questions take minutes; 200
answers at 5 shots take about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import inactive_heads as ih
from inactive_heads.models.weights.bundled import demo_folder
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.question_tokens import asked_of, written_prompt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
CHOICES = 4


def main() -> None:
    """Reads the command line and prints the comparison."""
    warnings.simplefilter("ignore")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--prompts", action="store_true", help="prompts alone, of all questions")
    asked = parser.parse_args()

    from helpers.harness_tasks import HarnessMMLU
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(demo_folder()), device="cpu", dtype="float32", batch_size=1)
    chat = ih.load_model(dtype="float32", chat_template="on")
    harness = HarnessMMLU(asked.data)
    for name, model in {"plain": replace(chat, chat=None), "chat": chat}.items():
        if asked.prompts:
            compare_prompts(harness, theirs, model, name, asked)
        else:
            compare_answers(harness, theirs, model, name, asked)


def compare_prompts(harness, theirs, model, name, asked) -> None:
    """Prints how many questions have the same prompts and tokens.

    Args:
        harness: the MMLU tasks of the harness.
        theirs: the model in the harness.
        model: the same model here.
        name: "plain" or "chat".
        asked: the command line.
    """
    task = ih.load_task("mmlu", data=asked.data, shots=asked.shots)
    same = 0
    for subject in harness.subjects:
        items = [item for item in task.items if item.subject == subject]
        for item, instances in zip(
            items, built(harness, theirs, subject, asked.shots, None, name), strict=True
        ):
            found = asked_of(model, item, "letter")
            pairs = [theirs._encode_pair(*one.args) for one in instances]
            texts = {one.args[0] for one in instances}
            ours = list(zip(found.prompts, found.answers, strict=True))
            same += texts == {written_prompt(model, item.context)} and pairs == ours
    print(f"{name}, {asked.shots} shots: {same} of {len(task.items)} prompts and tokens are equal")


def compare_answers(harness, theirs, model, name, asked) -> None:
    """Prints differences in log-probabilities and accuracy, on questions from every subject.

    Args:
        harness: the MMLU tasks of the harness.
        theirs: the model in the harness.
        model: the same model here.
        name: "plain" or "chat".
        asked: the command line.
    """
    each = -(-asked.questions // len(harness.subjects))
    task = ih.load_task("mmlu", data=asked.data, shots=asked.shots)
    items, instances, gold = [], [], []
    for subject in harness.subjects:
        of_subject = [item for item in task.items if item.subject == subject][:each]
        for item, group in zip(
            of_subject, built(harness, theirs, subject, asked.shots, each, name), strict=True
        ):
            items.append(item)
            instances += group
            gold.append(group[0].doc["answer"])
    items, gold = items[: asked.questions], gold[: asked.questions]
    instances = instances[: CHOICES * asked.questions]
    start = time.perf_counter()
    answers = theirs.loglikelihood(instances, disable_tqdm=True)
    middle = time.perf_counter()
    found = ih.evaluate(model, ChoiceTask("mmlu", items, "letter", asked.shots)).items
    end = time.perf_counter()
    expected = np.array([logprob for logprob, _ in answers]).reshape(-1, CHOICES)
    error = np.abs(np.stack(found.choice_logprobs) - expected).max()
    right = expected.argmax(axis=1) == gold
    print(
        f"{name}, {asked.shots} shots, {len(items)} questions: largest difference of a "
        f"log-probability {error:.1e}; accuracy {100 * found.correct.mean():.2f}%, the harness's "
        f"{100 * right.mean():.2f}%, {int((found.correct != right).sum())} answers differ; "
        f"{end - middle:.0f} s, the harness {middle - start:.0f} s"
    )


def built(harness, theirs, subject, shots, limit, name):
    """The harness's requests for one subject.

    Args:
        harness: the MMLU tasks of the harness.
        theirs: the model in the harness.
        subject: the subject's name.
        shots: the number of few-shot examples.
        limit: the largest number of questions; None for all.
        name: "plain" or "chat".

    Returns:
        For each question, a list of four requests, one per choice.
    """
    task = harness.task(subject, shots=shots)
    chat = name == "chat"
    task.build_all_requests(
        limit=limit,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        chat_template=theirs.apply_chat_template if chat else None,
    )
    found = task.instances
    return [found[start : start + CHOICES] for start in range(0, len(found), CHOICES)]


if __name__ == "__main__":
    main()
