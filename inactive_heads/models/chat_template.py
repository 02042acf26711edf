"""Prompts that remember their parts, and the chat templates that make turns of these.

What a template is given is what lm-evaluation-harness gives it with ``--apply_chat_template``
and ``--fewshot_as_multiturn``: the description as the system's turn, every example as a user's
and an assistant's.
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
"""A conversation as transformers takes it: ``role`` and ``content`` of every turn."""


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

    def render(self, turns: Turns) -> str:
        """The conversation as the template writes it, up to where the assistant's answer begins.

        Args:
            turns: the conversation, a user's turn last; system turns are left out where the
                template takes none.

        Returns:
            One text, special tokens and all.

        Raises:
            UserError: the template cannot write such a conversation.
        """
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
