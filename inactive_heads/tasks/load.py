"""Tasks by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.tasks.base import ChoiceTask, Task, TextTask, choose_evenly
from inactive_heads.tasks.multiple_choice import _ask, _mmlu, _quiz
from inactive_heads.tasks.texts import load_texts


def load_task(
    name: str,
    *,
    data: str | Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    subjects: Sequence[str] | None = None,
    scoring: str | None = None,
    seed: int = 0,
) -> Task:
    """A task by name: "mmlu", "quiz" (bundled), "text-loss", or one of lm-evaluation-harness.

        task = ih.load_task("quiz", limit=50)
        task = ih.load_task("mmlu", data="folder/of/cais-mmlu", shots=5, limit=100)
        task = ih.load_task("lm-eval:piqa", limit=100)

    Args:
        name: "mmlu" is `cais/mmlu`, from the hub or a local copy; "quiz" is general knowledge,
            bundled; "text-loss" is next-token loss on texts; "lm-eval:" and a name is that task
            of lm-evaluation-harness: see `inactive_heads.tasks.lm_eval.harness_task`.
        data: mmlu: a folder in the layout of the hub's data set. quiz: a .jsonl file of one's
            own questions, with the bundled file's fields. text-loss: as for `load_texts`.
        shots: answered examples in the prompt (the subject's first dev questions); 5 for mmlu,
            0 for quiz, what its file says for a task of the harness, if not given.
        limit: how many questions (or texts), spread over the subjects, chosen by ``seed``.
        subjects: only these.
        scoring: "letter" or "cloze"; if not given "letter" for mmlu, "cloze" for quiz. A task of
            the harness: "acc" or "acc_norm".

    Raises:
        UserError: an unknown name, data that are missing or lack a column, a limit below 1,
            more shots than there are examples, an unknown subject.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    if name == "text-loss":
        source = data or "bundled"
        texts = load_texts(source, n=limit, seed=seed)
        return TextTask(name, texts, {"texts": str(source), "limit": limit, "seed": seed})
    if name.startswith("lm-eval:"):
        from inactive_heads.tasks.lm_eval import harness_task  # which makes tasks of this module

        return harness_task(
            name.removeprefix("lm-eval:"),
            data=data,
            shots=shots,
            limit=limit,
            subjects=subjects,
            scoring=scoring,
            seed=seed,
        )
    if name not in ("mmlu", "quiz"):
        raise UserError(
            f"unknown task {name!r}; there are: mmlu, quiz, text-loss, and lm-eval:TASK for those "
            "of lm-evaluation-harness"
        )
    how = scoring or ("letter" if name == "mmlu" else "cloze")
    if how not in ("letter", "cloze"):
        raise UserError(f"scoring must be letter or cloze, not {how!r}")
    n_shots = (5 if name == "mmlu" else 0) if shots is None else shots
    dev, test = _mmlu(data) if name == "mmlu" else _quiz(data)
    test = choose_evenly(test, lambda question: question.subject, subjects, limit, seed)
    items = [_ask(question, dev.get(question.subject, []), n_shots, how) for question in test]
    about = {
        "data": str(data or ("cais/mmlu" if name == "mmlu" else "bundled")),
        "num_fewshot": n_shots,
        "scoring": how,
        "limit": limit,
        "subjects": sorted({question.subject for question in test}),
        "seed": seed,
    }
    return ChoiceTask(name, items, how, n_shots, about)  # type: ignore[arg-type]
