"""Multiple-choice tasks of lm-evaluation-harness, with the harness's prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.models.chat_trial import Turns
from inactive_heads.names import LM_EVAL, LM_EVAL_SCORINGS
from inactive_heads.specs import TaskSpec
from inactive_heads.tasks.base import ChoiceItem, choose_evenly
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.prompt import Prompt
from inactive_heads.tasks.reading.sources import check_task_folder
from inactive_heads.third_party import explained

FEWSHOT_SEED = 1234
"""The harness's seed for drawing few-shot examples."""

INSTEAD = "run it with the harness: inactive-heads lm-eval run --model inactive-heads --tasks"


def lm_eval_task(spec: TaskSpec) -> ChoiceTask:
    """A multiple-choice task of lm-evaluation-harness, or a group of them.

        task = ih.load_task("lm-eval:piqa", limit=200)
        task = ih.load_task("lm-eval:my_task", data="folder/with/my_task.yaml")

    Args:
        spec: ``name`` is "lm-eval:" and a name that the harness's ``--tasks`` takes: a task, a
            group ("mmlu") or a tag ("ai2_arc"); the tasks of a group or tag are the subjects.
            ``data`` is a folder of task files, as for ``--include_path``. ``num_fewshot`` is by
            default the number in the task's file, or 0. ``scoring`` is "acc", the most probable
            answer, or "acc_norm", the most probable per character; by default "acc_norm" if all the
            tasks report it. "letter" and "cloze" are other names for the two.

    Returns:
        The task, with the harness's prompts.

    Raises:
        UserError: the harness is not installed or has no such task; a subject or the scoring is
            unknown; a task is not multiple choice, judges answers by its own rules, has several
            right answers, or asks about images or sound; its data cannot be loaded; or it cannot be
            asked with that many examples.
    """
    name, data, scoring = spec.name.removeprefix(LM_EVAL), spec.data, spec.scoring
    tasks = _load(name, None if data is None else str(data))
    for task_name, task in tasks.items():
        _check(task_name, task)
    norm = all("acc_norm" in _metrics(task) for task in tasks.values())
    how = ("acc_norm" if norm else "acc") if scoring is None else LM_EVAL_SCORINGS[scoring]
    shots_of = {one: _set_shots(one, task, spec.num_fewshot) for one, task in tasks.items()}
    places = [(one, index) for one, task in tasks.items() for index in range(len(task.eval_docs))]
    chosen = choose_evenly(places, lambda place: place[0], spec.subjects, spec.limit, spec.seed)
    items = []
    for one, task in tasks.items():
        # In the order of the data, as in the harness: random examples are drawn in that order.
        indices = sorted(index for subject, index in chosen if subject == one)
        items += _items(one, task, indices, shots_of[one])
    about = {
        "data": str(data or "lm-evaluation-harness"),
        "num_fewshot": max(shots_of.values()),
        "scoring": how,
        "limit": spec.limit,
        "subjects": sorted({item.subject for item in items}),
        "seed": spec.seed,
        "task_versions": {
            one: (task.config.metadata or {}).get("version") for one, task in tasks.items()
        },
    }
    return ChoiceTask(spec.name, items, how, max(shots_of.values()), about)  # type: ignore[arg-type]


def _load(name: str, folder: str | None) -> dict[str, Any]:
    """The harness's task, or tasks of a group or tag, by name, with their data loaded."""
    if folder is not None:
        check_task_folder(folder)
    # Listing the harness's own 14,000 tasks takes ten seconds, so the folder is searched first.
    manager = _manager(folder, with_own=folder is None)
    if folder is not None and name not in manager.task_index:
        manager = _manager(folder, with_own=True)
    if name not in manager.task_index:
        near = ", ".join(sorted(one for one in manager.all_tasks if name.lower() in one)[:8])
        hint = f"similar names: {near}" if near else "`lm-eval ls tasks` lists all"
        raise UserError(f"lm-evaluation-harness has no task {name!r}; {hint}")
    kind = (manager.task_index[name].cfg or {}).get("output_type", "multiple_choice")
    _check_kind(name, kind)  # before the data are downloaded
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its messages about metrics do not apply here
    try:
        with explained(
            f"the task {name!r} of lm-evaluation-harness could not be loaded",
            "see whether its data set can be reached (on the hub, unless the task's file says "
            "otherwise), and has the fields that the task's file names",
        ):
            found: dict[str, Any] = manager.load([name])["tasks"]
    finally:
        logger.setLevel(level)
    return found


@cache
def _manager(folder: str | None, *, with_own: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=with_own)


def _check_kind(name: str, kind: str | None) -> None:
    if kind != "multiple_choice":
        raise UserError(
            f"the task {name!r} of lm-evaluation-harness is not multiple choice but {kind}; "
            f"{INSTEAD} {name}"
        )


def _check(name: str, task: Any) -> None:
    _check_kind(name, task.OUTPUT_TYPE)
    from lm_eval.api.task import ConfigurableTask

    own_rules = task.config.process_results is not None or (
        type(task).process_results is not ConfigurableTask.process_results
    )
    if own_rules or task.multiple_target or task.config.doc_to_image or task.config.doc_to_audio:
        what = "judges answers by rules of its own" if own_rules else "has several right answers"
        if task.config.doc_to_image or task.config.doc_to_audio:
            what = "asks about images or sound"
        raise UserError(f"the task {name!r} of lm-evaluation-harness {what}; {INSTEAD} {name}")


def _metrics(task: Any) -> Iterable[str]:
    return [metric["metric"] for metric in task.config.metric_list or []]


def _set_shots(name: str, task: Any, shots: int | None) -> int:
    """Set and return the task's number of examples; as in the harness, 0 in its file is final."""
    own = task.config.num_fewshot
    if shots is not None and own == 0 and shots != 0:
        raise UserError(
            f"the task {name!r} of lm-evaluation-harness takes no examples; give 0 shots"
        )
    number = int(own or 0) if shots is None else shots
    if number < 0:
        raise UserError(f"shots must be 0 or more, not {number}")
    task.set_config(key="num_fewshot", value=number)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return number


def _items(name: str, task: Any, indices: Sequence[int], shots: int) -> list[ChoiceItem]:
    items = []
    docs = task.eval_docs
    for index in indices:
        doc = docs[index]
        with explained(
            f"document {index} of the task {name!r} cannot be asked with {shots} shots",
            "give fewer shots, or mend the task's file",
        ):
            choices = task.doc_to_choice(doc)
            _check_choices(choices, f"document {index} of the task {name!r}")
            contexts = _contexts(task, doc, shots)
            requests = task.construct_requests(
                doc=doc,
                ctx=contexts if task.multiple_input else contexts[0],
                metadata=(name, index, 1),
            )
            right = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        answer = choices.index(right) if isinstance(right, str) and right in choices else right
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise UserError(
                f"document {index} of the task {name!r} has no right answer: {right!r:.60}; it needs "
                "the index or the text of a choice"
            )
        items.append(
            ChoiceItem(
                id=f"{name}-{index}",
                subject=name,
                context=contexts if task.multiple_input else contexts[0],
                # Requests beyond the choices are for other metrics of the harness.
                continuations=tuple(one.args[1] for one in requests[: len(choices)]),
                answer=answer,
                lengths=tuple(map(len, choices)),
            )
        )
    return items


def _check_choices(choices: Any, place: str) -> None:
    """The harness takes the letters of a text, or the keys of an object, for choices."""
    if not isinstance(choices, list | tuple) or not all(isinstance(one, str) for one in choices):
        raise UserError(
            f"{place} has the choices {choices!r:.80}, not a list of texts; mend the task's file or "
            "its data"
        )


def _contexts(task: Any, doc: Any, shots: int) -> tuple[str, ...]:
    """The document's prompts: one for all answers, or one for each answer."""
    prefix = task.doc_to_prefix(doc)
    drawn = task.sampler.rnd.getstate() if hasattr(task, "sampler") else None
    texts = task.fewshot_context(doc, num_fewshot=shots, gen_prefix=prefix)
    if drawn is not None:
        task.sampler.rnd.setstate(drawn)  # draw the same examples again, as turns
    turns: list[Turns] = []

    def write(said: Turns, add_generation_prompt: bool) -> str:
        turns.append(said)
        return ""

    task.fewshot_context(
        doc,
        num_fewshot=shots,
        gen_prefix=prefix,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=write,
    )
    whole = [texts] if isinstance(texts, str) else texts
    return tuple(HarnessPrompt.of(text, said) for text, said in zip(whole, turns, strict=True))


class HarnessPrompt(Prompt):
    """A prompt of the harness: its text, and the parts that a chat template writes as turns."""

    def __new__(
        cls, text: str, description: str, examples: Sequence[tuple[str, str]], question: str
    ) -> HarnessPrompt:
        prompt = str.__new__(cls, text)
        prompt.description, prompt.examples, prompt.question = description, examples, question
        return prompt

    def __getnewargs__(self) -> tuple[str, str, Sequence[tuple[str, str]], str]:  # type: ignore[override]
        return str(self), self.description, self.examples, self.question

    @staticmethod
    def of(text: str, turns: Turns) -> str:
        """The prompt of a conversation.

        Args:
            text: the prompt as plain text.
            turns: the same as turns, with an optional system turn and examples before the question.

        Returns:
            A `HarnessPrompt`; the plain text if the last turn is not the user's, because the task
            begins the answer for the model.
        """
        said = [turn["content"] for turn in turns]
        if turns[-1]["role"] != "user":
            return text
        description = said.pop(0) if turns[0]["role"] == "system" else ""
        examples = list(zip(said[:-1:2], said[1:-1:2], strict=True))
        return HarnessPrompt(text, description, examples, said[-1])
