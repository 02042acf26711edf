"""A question as a model reads it: its text, its tokens, and the tokens of its answers.

Follows lm-evaluation-harness. With a chat template, answers have no leading space. White space at
the end of a prompt becomes part of the answer. Prompt and answer are tokenized together; the
answer's tokens are those after the number of tokens that the prompt has alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from inactive_heads.errors import UserError
from inactive_heads.models.batching import check_known, check_tokens
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ChoiceItem, ScoredInput, Scoring
from inactive_heads.tasks.prompt import Prompt


@dataclass(frozen=True)
class Asked:
    """A question in a model's tokens.

    Attributes:
        text: the prompt, written by the model's chat template if it uses one; the first answer's
            prompt, if each answer has its own.
        prompts: the tokens of each answer's prompt, without white space at its end.
        answers: the tokens of each answer, including that white space.
        joined: whether the tokens of prompt and answer together do not begin with the prompt's.
    """

    text: str
    prompts: list[list[int]]
    answers: list[list[int]]
    joined: bool = False

    @property
    def tokens(self) -> list[int]:
        """The prompt's tokens; those of the first answer's prompt, if each answer has its own."""
        return self.prompts[0]

    @cached_property
    def alike(self) -> bool:
        """Whether the answers differ in their last token only, so that one input is enough."""
        whole = zip(self.prompts, self.answers, strict=True)
        return len({(tuple(prompt), tuple(answer[:-1])) for prompt, answer in whole}) == 1

    def confused(self, continuations: Sequence[str]) -> bool:
        """Whether different answers have the same tokens, so that only their lengths differ.

        Args:
            continuations: the answers' texts.
        """
        told = zip(self.prompts, self.answers, strict=True)
        apart = {(tuple(prompt), tuple(answer)) for prompt, answer in told}
        texts = {(tuple(one), text) for one, text in zip(self.prompts, continuations, strict=True)}
        return len(apart) < len(texts)

    @property
    def inputs(self) -> list[ScoredInput]:
        """The inputs to run: one for all answers if they are `alike`, otherwise one for each.

        The targets of a shared input are the tokens that all answers share, then the last token of
        each.
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
    """A question in the model's tokens.

    Args:
        model: the model, whose tokenizer and chat template are used.
        item: the question.
        scoring: how answers are judged; with "letter", each letter must have its own tokens.

    Returns:
        The prompts' and answers' tokens.

    Raises:
        UserError: a prompt is empty, or longer than the model's context with its answer; the chat
            template cannot write it; or the tokenizer gives an answer no token, gives two letters
            the same tokens, or merges a letter with the prompt.
    """
    continuations = item.continuations
    if model.chat is not None and isinstance(item.contexts[0], Prompt):
        continuations = tuple(one.removeprefix(" ") for one in continuations)
    name = f"question {item.id!r}"
    written = {context: written_prompt(model, context) for context in dict.fromkeys(item.contexts)}
    encoded = {text: model.encode(text.rstrip()) for text in written.values()}
    for text, tokens in encoded.items():
        check_tokens(tokens, model.shape, f"the prompt of {name}")
        check_known(model, text, tokens, f"the prompt of {name}")
    texts = [written[context] for context in item.contexts]
    prompts, answers, joined = [encoded[text] for text in texts], [], False
    for text, tokens, continuation in zip(texts, prompts, continuations, strict=True):
        whole = model.encode(text + continuation)
        answers.append(answer := whole[len(tokens) :])
        if not answer:
            raise UserError(
                f"the tokenizer of {model.name!r} makes no token of its own of the answer "
                f"{continuation!r} to {name}"
            )
        if whole[: len(tokens)] != tokens:
            joined = True
        if joined and scoring == "letter":
            raise UserError(
                f"the tokenizer of {model.name!r} joins the answer {continuation!r} to {name} with "
                'the prompt before it; give scoring="cloze"'
            )
        check_tokens(tokens + answer[:-1], model.shape, f"the prompt of {name}")
    if scoring == "letter":
        _check_apart(model, continuations, answers)
    return Asked(texts[0], prompts, answers, joined)


def written_prompt(model: Model, context: str) -> str:
    """A prompt as the model reads it.

    Args:
        model: the model, whose chat template writes a `Prompt` if the model uses one.
        context: the prompt; any text that is not a `Prompt` stays as it is.

    Returns:
        The text. An empty context becomes the BOS token (or EOS if the tokenizer has no BOS), so
        that there is a token before the answer.

    Raises:
        UserError: the chat template cannot write the prompt.
    """
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


def framed(model: Model, title: str, tokens: list[int]) -> list[str]:
    """An input for display: a title, and the text of its tokens between rules.

    Args:
        model: the model, whose tokenizer is used.
        title: the start of the first line.
        tokens: the input's token ids.

    Returns:
        The lines.
    """
    head = f"{title}, {len(tokens)} tokens, bos {model.provenance['bos']}"
    return [head, "-" * 80, decoded(model, tokens), "-" * 80]


def decoded(model: Model, tokens: list[int]) -> str:
    """The text of tokens.

    Args:
        model: the model, whose tokenizer is used.
        tokens: token ids.

    Returns:
        The text; the ids as a list if the model has no tokenizer.
    """
    if model.tokenizer is None:
        return str(tokens)
    text = model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    assert isinstance(text, str), "one list of tokens is one text"
    return text
