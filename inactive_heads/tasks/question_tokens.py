"""A question as a model reads it: the text, its tokens, and the tokens that may follow.

All as lm-evaluation-harness has it: with a chat template no space stands before an answer; white
space at a prompt's end is read with the answer; an answer's tokens are those that the whole has
beyond the prompt's own number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from inactive_heads.errors import UserError
from inactive_heads.evaluation.log_likelihood import ScoredInput
from inactive_heads.models.batching import check_tokens, encode_samples
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ChoiceItem, Scoring, Task, TextTask
from inactive_heads.tasks.prompt import Prompt


@dataclass(frozen=True)
class Asked:
    """A question in a model's tokens.

    Attributes:
        text: the prompt, by the model's chat template if it uses one; the first, where each
            answer has its own.
        prompts: the tokens of each answer's prompt, without white space at its end.
        answers: the tokens of what may follow, that white space among them.
    """

    text: str
    prompts: list[list[int]]
    answers: list[list[int]]

    @property
    def tokens(self) -> list[int]:
        """The prompt's tokens, of the first answer where each has its own."""
        return self.prompts[0]

    @cached_property
    def alike(self) -> bool:
        """Whether only the answers' last tokens differ: one input then serves them all."""
        whole = zip(self.prompts, self.answers, strict=True)
        return len({(tuple(prompt), tuple(answer[:-1])) for prompt, answer in whole}) == 1

    @property
    def inputs(self) -> list[ScoredInput]:
        """What to run: one input for all answers where they are alike, else one for each.

        The one input's targets are the tokens that the answers share, then the last of each.
        """
        if self.alike:
            last = [answer[-1] for answer in self.answers]
            return [self._input(self.tokens, self.answers[0], last)]
        return [
            self._input(prompt, answer, [answer[-1]])
            for prompt, answer in zip(self.prompts, self.answers, strict=True)
        ]

    @staticmethod
    def _input(prompt: list[int], answer: list[int], last: list[int]) -> ScoredInput:
        tokens, first = prompt + answer[:-1], len(prompt) - 1
        positions = [*range(first, len(tokens) - 1), *[len(tokens) - 1] * len(last)]
        return ScoredInput(tokens, positions, [*answer[:-1], *last])


def asked_of(model: Model, item: ChoiceItem, scoring: Scoring) -> Asked:
    """The question in the model's tokens.

    Raises:
        UserError: prompt and answer are longer than the model's context; the tokenizer makes
            nothing of an answer, the same tokens of different letters, or tokens of a letter
            that are part of the prompt's.
    """
    continuations = item.continuations
    if model.chat is not None and isinstance(item.contexts[0], Prompt):
        continuations = tuple(one.removeprefix(" ") for one in continuations)
    name = f"question {item.id!r}"
    written = {context: written_prompt(model, context) for context in dict.fromkeys(item.contexts)}
    encoded = {text: model.encode(text.rstrip()) for text in written.values()}
    for tokens in encoded.values():
        check_tokens(tokens, model.shape, f"the prompt of {name}")
    texts = [written[context] for context in item.contexts]
    prompts, answers = [encoded[text] for text in texts], []
    for text, tokens, continuation in zip(texts, prompts, continuations, strict=True):
        whole = model.encode(text + continuation)
        answers.append(answer := whole[len(tokens) :])
        if not answer:
            raise UserError(
                f"the tokenizer of {model.name!r} makes no token of its own of the answer "
                f"{continuation!r} to {name}"
            )
        if scoring == "letter" and whole[: len(tokens)] != tokens:
            raise UserError(
                f"the tokenizer of {model.name!r} joins the answer {continuation!r} to {name} with "
                'the prompt before it; give scoring="cloze"'
            )
        check_tokens(tokens + answer[:-1], model.shape, f"the prompt of {name}")
    if scoring == "letter":
        _check_apart(model, continuations, answers)
    return Asked(texts[0], prompts, answers)


def written_prompt(model: Model, context: str) -> str:
    """A prompt as a model is asked it; what a text without a prompt follows is BOS (or EOS)."""
    if model.chat is not None and isinstance(context, Prompt):
        return model.chat.render(context.turns)
    opening = None
    if not context and model.tokenizer is not None:
        opening = model.tokenizer.bos_token or model.tokenizer.eos_token
    return str(opening or context)


def _check_apart(
    model: Model, continuations: Sequence[str], answers: Sequence[Sequence[int]]
) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for continuation, answer in zip(continuations, answers, strict=True):
        other = seen.setdefault(tuple(answer), continuation)
        if other != continuation:
            raise UserError(
                f"the tokenizer of {model.name!r} gives {other!r} and {continuation!r} the same "
                f'tokens {list(answer)}, so letters say nothing; give scoring="cloze"'
            )


def shown_prompt(model: Model, task: Task) -> str:
    """The first prompt (or text) of a task as its tokens decode, and its answers' tokens.

    Raises:
        UserError: as `asked_of`.
    """
    if isinstance(task, TextTask):
        tokens = encode_samples(model, task.samples[:1])[0]
        return "\n".join(_framed(model, f"{task.name}: the first text", tokens))
    asked = asked_of(model, item := task.items[0], task.scoring)
    chat = "no chat template" if model.chat is None else "the model's chat template"
    shots = f"{task.num_fewshot} shots" if task.num_fewshot != 1 else "1 shot"
    title = f"{task.name}: question {item.id!r}, {shots}, {chat}"
    lines = _framed(model, title, asked.tokens)
    for index, answer in enumerate(asked.answers):
        mark = "   <- right" if index == item.answer else ""
        lines.append(f"answer {_decoded(model, answer)!r}: tokens {answer}{mark}")
    return "\n".join(lines)


def _framed(model: Model, title: str, tokens: list[int]) -> list[str]:
    head = f"{title}, {len(tokens)} tokens, bos {model.provenance['bos']}"
    return [head, "-" * 80, _decoded(model, tokens), "-" * 80]


def _decoded(model: Model, tokens: list[int]) -> str:
    if model.tokenizer is None:
        return str(tokens)
    text = model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    assert isinstance(text, str), "one list of tokens is one text"
    return text
