"""Prompts that remember their parts, and the chat templates that make turns of these.

What a template is given is what lm-evaluation-harness gives it with ``--apply_chat_template``
and ``--fewshot_as_multiturn``: the description as the system's turn, every example as a user's
and an assistant's.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import Notice, UserError
from inactive_heads.third_party import explained

CHAT_TEMPLATE_RULES = ("auto", "on", "off")

Turns = list[dict[str, str]]
"""A conversation as transformers takes it: ``role`` and ``content`` of every turn."""


class Prompt(str):
    """A prompt as plain text, which it is everywhere, and the parts it was made of.

        prompt = Prompt("Capitals.\\n\\n", [("France?", "Paris")], "Italy?")
        assert prompt == "Capitals.\\n\\nFrance? Paris\\n\\nItaly?"

    Attributes:
        description: what opens it, with the empty line after it.
        examples: answered questions, ``(question, answer)``.
        question: the one that is asked.
    """

    description: str
    examples: Sequence[tuple[str, str]]
    question: str

    def __new__(
        cls, description: str, examples: Sequence[tuple[str, str]], question: str
    ) -> Prompt:
        shots = [f"{asked} {answer}\n\n" for asked, answer in examples]
        prompt = super().__new__(cls, "".join([description, *shots, question]))
        prompt.description, prompt.examples, prompt.question = description, examples, question
        return prompt

    def __getnewargs__(self) -> tuple[str, Sequence[tuple[str, str]], str]:  # type: ignore[override]
        return self.description, self.examples, self.question

    @property
    def turns(self) -> Turns:
        """The same as a conversation."""
        said = [("system", self.description)] if self.description else []
        for asked, answer in self.examples:
            said += [("user", asked), ("assistant", answer)]
        return [
            {"role": role, "content": content} for role, content in [*said, ("user", self.question)]
        ]


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A tokenizer's chat template.

    Attributes:
        tokenizer: whose template it is.
        name: the model's, for messages.
        arguments: what the template is given beside the conversation (``chat_template_args`` of a
            preset and of lm-evaluation-harness).
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        tokenizer: PreTrainedTokenizerBase | None,
        name: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> ChatTemplate:
        """The template of a model's tokenizer.

        Raises:
            UserError: it has none.
        """
        if tokenizer is None or not tokenizer.chat_template:
            lacks = "has no tokenizer" if tokenizer is None else "comes without a chat template"
            raise UserError(
                f"{name!r} {lacks}, and a chat template was asked for: give one with tokenizer= "
                "(--tokenizer FOLDER or hub name), of the model's instruct form say, or "
                'chat_template="off" (--chat-template off)'
            )
        return ChatTemplate(tokenizer, name, arguments or {})

    def render(self, prompt: Prompt) -> str:
        """The prompt as the template writes it, up to where the assistant's answer begins.

        Raises:
            UserError: the template cannot write such a conversation.
        """
        turns = prompt.turns
        if not self._takes_system_turns:
            turns = [turn for turn in turns if turn["role"] != "system"]
        with explained(
            f"the chat template of {self.name!r} cannot be used", 'give chat_template="off"'
        ):
            return self._write(turns)

    @property
    def digest(self) -> str:
        """A digest of the template and of what it is given."""
        content = f"{self.tokenizer.get_chat_template()}\n{sorted(self.arguments.items())}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _takes_system_turns(self) -> bool:
        turns = Prompt("description", [], "question").turns
        try:
            self._write(turns)
        except TemplateError:
            warnings.warn(
                f"the chat template of {self.name!r} takes no system turn: the description that "
                "opens a prompt is left out, as lm-evaluation-harness does",
                Notice,
                stacklevel=2,
            )
            return False
        return True

    def _write(self, turns: Turns) -> str:
        written = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **self.arguments
        )
        assert isinstance(written, str), "one conversation is one text"
        return written
