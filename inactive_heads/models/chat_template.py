"""Chat templates, which write the parts of a prompt as turns.

Turns are those of lm-evaluation-harness under ``--apply_chat_template`` and
``--fewshot_as_multiturn``: the description as a system turn, every example as a user turn and an
assistant turn. A template is used only if what it writes has every part of the prompt in it,
unaltered but for white space around it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.chat_trial import (
    ANSWER,
    DATE,
    FIRST,
    LATER,
    QUESTION,
    REMEDY,
    Conversation,
    Turns,
    check_opening,
    missing,
    on_day,
    takes_parts,
    turn,
    turns_of,
    usable,
)

OWN_ARGUMENTS = {"conversation", "tokenize", "add_generation_prompt", "continue_final_message"}
"""Arguments of transformers' call that are set here."""


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
        in_parts: whether the template takes a turn's content as a list of parts, as those of
            vision models do, instead of a text.
        dated: whether the template writes today's date, which is always `DATE` then.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    in_parts: bool = False
    dated: bool = False

    @staticmethod
    def of(
        tokenizer: PreTrainedTokenizerBase | None,
        name: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> ChatTemplate:
        """The chat template of a model's tokenizer, tried on a question and an answer.

        Args:
            tokenizer: the model's tokenizer; None if it has none.
            name: the model's name, used in messages.
            arguments: arguments of the template besides the conversation; none by default.
                ``chat_template`` is the name of one of several templates.

        Returns:
            The template. A warning says so if it writes today's date, which is then `DATE`.

        Raises:
            UserError: there is no tokenizer; or it has no chat template, or several and none is
                named; or the template fails, does not write a question as it is, does not open
                the assistant's turn, or writes differently each time.
        """
        given = getattr(tokenizer, "chat_template", None)
        if tokenizer is None or not given:
            lacks = "has no tokenizer" if tokenizer is None else "comes without a chat template"
            raise UserError(
                f"{name!r} {lacks}, and a chat template was asked for: give one with tokenizer= "
                "(--tokenizer FOLDER or hub name), of the model's instruct form say, or "
                'chat_template="off" (--chat-template off)'
            )
        chat = ChatTemplate(tokenizer, name, arguments or {})
        if wrong := sorted(OWN_ARGUMENTS & {*chat.arguments}):
            raise UserError(
                f"chat_template_args of {name!r} has {', '.join(wrong)}, which is set by this "
                "package; leave it out"
            )
        _check_name(given, chat.arguments.get("chat_template", "default"), name)
        in_parts = takes_parts(chat._write, replace(chat, in_parts=True)._write, name)
        chat = replace(chat, in_parts=in_parts)
        check_opening(chat._write, name)
        with usable(name):
            dated = chat._writes_date()
        if dated:
            warnings.warn(
                f"the chat template of {name!r} writes today's date: here it is always "
                f"{DATE:%d %b %Y}, so that results do not change from day to day",
                Notice,
                stacklevel=2,
            )
        return replace(chat, dated=dated)

    def render(self, turns: Conversation) -> str:
        """The conversation as text, up to where the assistant's answer begins.

        Args:
            turns: the conversation, with a user turn last, or a task's prompt. System turns are
                left out if the template refuses them, which a warning says once.

        Returns:
            One text, including special tokens.

        Raises:
            UserError: it is no conversation, the template raises an error for it, or leaves out or
                alters the content of a turn.
        """
        return self._whole(turns, add_generation_prompt=True)

    def continued(self, turns: Conversation) -> str:
        """The conversation as text, up to the end of what the last turn says.

        Args:
            turns: the conversation, with a turn last that the model goes on with. System turns are
                left out if the template refuses them, which a warning says once.

        Returns:
            One text, including special tokens.

        Raises:
            UserError: as `render`.
        """
        return self._whole(turns, add_generation_prompt=False, continue_final_message=True)

    @property
    def source(self) -> str:
        """The template itself, in Jinja."""
        return str(self.tokenizer.get_chat_template(self.arguments.get("chat_template")))

    @property
    def digest(self) -> str:
        """16 hex digits that identify the template and its arguments."""
        content = f"{self.source}\n{sorted(self.arguments.items())}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def record(self) -> str:
        """What is saved with results: that it is on, its digest, and the date that it writes."""
        date = f", today is {DATE:%Y-%m-%d}" if self.dated else ""
        return f"on ({self.digest}{date})"

    def _whole(self, given: Conversation, **options: Any) -> str:
        turns = turns_of(given)
        if not self._takes_system_turns:
            turns = [one for one in turns if one["role"] != "system"]
        lost = None
        if any(one["role"] == "assistant" for one in turns[:-1]):
            lost = self._lost_of_examples
        if lost is None:
            with usable(self.name):
                text = self._write(turns, **options)
            lost = missing(turns, text)
        if lost is not None:
            what, content = lost
            raise UserError(
                f"the chat template of {self.name!r} leaves out or alters {what}, as in "
                f"{content!r:.50}; {REMEDY}"
            )
        return text

    @cached_property
    def _takes_system_turns(self) -> bool:
        try:
            self._write([turn("system", "description"), turn("user", "question")])
        except TemplateError:
            warnings.warn(
                f"the chat template of {self.name!r} takes no system turn: the description that "
                "opens a prompt is left out, as lm-evaluation-harness does",
                Notice,
                stacklevel=2,
            )
            return False
        return True

    @cached_property
    def _lost_of_examples(self) -> tuple[str, str] | None:
        """What the template leaves out of an example, found with texts that stand out."""
        turns = [turn("user", FIRST), turn("assistant", ANSWER), turn("user", QUESTION)]
        with usable(self.name):
            return missing(turns, self._write(turns))

    def _writes_date(self) -> bool:
        """Whether a conversation differs on another day."""
        asked, differs = [turn("user", QUESTION)], False
        with suppress(TemplateError):  # a template may take no system turn
            for turns in (asked, [turn("system", "description"), *asked]):
                differs |= self._write(turns) != self._write(turns, day=LATER)
        return differs

    def _write(self, turns: Turns, day: datetime = DATE, **options: Any) -> str:
        said: Any = turns
        if self.in_parts:
            said = [one | {"content": [{"type": "text", "text": one["content"]}]} for one in said]
        given: dict[str, Any] = {"add_generation_prompt": True, **self.arguments}
        given["chat_template"] = on_day(self.source, day)
        written = self.tokenizer.apply_chat_template(said, tokenize=False, **given | options)
        assert isinstance(written, str), "one conversation is one text"
        return written


def _check_name(given: Any, wanted: Any, name: str) -> None:
    """Check that the template asked for is among those of a tokenizer that has several."""
    if not isinstance(given, Mapping) or wanted in given or "{" in str(wanted):
        return
    names = ", ".join(map(str, given))
    lacks = f"no {wanted!r}" if wanted != "default" else "none is the default"
    raise UserError(
        f"{name!r} comes with the chat templates {names}, and {lacks}: name one in a preset, "
        f'chat_template_args = {{ chat_template = "{next(iter(given))}" }}'
    )
