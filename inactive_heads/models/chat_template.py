"""Chat templates, which write the parts of a prompt as turns.

Turns are those of lm-evaluation-harness under ``--apply_chat_template`` and
``--fewshot_as_multiturn``: the description as a system turn, every example as a user turn and an
assistant turn.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import Notice, UserError
from inactive_heads.third_party import explained

Turns = list[dict[str, str]]
"""A conversation in transformers' format: ``role`` and ``content`` of every turn."""


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A tokenizer's chat template, with the arguments that it gets.

        chat = ChatTemplate.of(model.tokenizer, model.name)
        chat.render([{"role": "user", "content": "What is 1 + 1?"}])

    Attributes:
        tokenizer: the tokenizer that has the template.
        name: the model's name, used in messages.
        arguments: arguments of the template besides the conversation (``chat_template_args`` of a
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
        """The chat template of a model's tokenizer.

        Args:
            tokenizer: the model's tokenizer; None if it has none.
            name: the model's name, used in messages.
            arguments: arguments of the template besides the conversation; none by default.

        Returns:
            The template.

        Raises:
            UserError: there is no tokenizer, or it has no chat template.
        """
        if tokenizer is None or not tokenizer.chat_template:
            lacks = "has no tokenizer" if tokenizer is None else "comes without a chat template"
            raise UserError(
                f"{name!r} {lacks}, and a chat template was asked for: give one with tokenizer= "
                "(--tokenizer FOLDER or hub name), of the model's instruct form say, or "
                'chat_template="off" (--chat-template off)'
            )
        return ChatTemplate(tokenizer, name, arguments or {})

    def render(self, turns: Turns) -> str:
        """The conversation as text, up to where the assistant's answer begins.

        Args:
            turns: the conversation, with a user turn last. System turns are left out if the
                template does not support them, which a warning says once.

        Returns:
            One text, including special tokens.

        Raises:
            UserError: the template raises an error for this conversation.
        """
        if not self._takes_system_turns:
            turns = [turn for turn in turns if turn["role"] != "system"]
        with explained(
            f"the chat template of {self.name!r} cannot be used", 'give chat_template="off"'
        ):
            return self._write(turns)

    @property
    def digest(self) -> str:
        """16 hex digits that identify the template and its arguments."""
        content = f"{self.tokenizer.get_chat_template()}\n{sorted(self.arguments.items())}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _takes_system_turns(self) -> bool:
        turns = [
            {"role": "system", "content": "description"},
            {"role": "user", "content": "question"},
        ]
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
