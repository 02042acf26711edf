"""What a chat template has to do: tried once when it is loaded, and checked in each prompt."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import datetime

from jinja2.exceptions import TemplateError

from inactive_heads.errors import Notice, UserError
from inactive_heads.third_party import explained

Turns = list[dict[str, str]]
"""A conversation in transformers' format: ``role`` and ``content`` of every turn."""

Conversation = Turns | str
"""Turns, or a prompt that keeps its turns: a text with an attribute ``turns``."""

Write = Callable[..., str]
"""Writes a conversation by a template; keywords are transformers' options."""

QUESTION, FIRST, ANSWER = "Why <b> & {c} 7?", "Who 'd' is 8?", "Élan %e, 9"
"""What a template is tried on. They have what templates may alter: capitals and marks."""

DATE = datetime(2024, 7, 26)
"""Today, for templates that write the date: that of Llama 3.1's template where it is given none."""

LATER = datetime(2031, 10, 9, 8, 30, 5)

CODES = "aAwdbBmyYHIpMSfzZjUWcxXGuV"
"""The codes of a date's format that Python documents; other common ones are written with them."""

SHORT = {"%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%T": "%H:%M:%S", "%R": "%H:%M", "%h": "%b"}

PART_WRITTEN_OUT = re.compile(r"""['"]text['"]\s*:""")

REMEDY = 'give a tokenizer with another template, or chat_template="off"'


def usable(name: str) -> AbstractContextManager[None]:
    """A context in which errors of a template become one line.

    Args:
        name: the model's name, used in messages.

    Returns:
        The context. It raises a UserError for any exception.
    """
    return explained(f"the chat template of {name!r} cannot be used", 'give chat_template="off"')


def takes_parts(as_text: Write, as_parts: Write, name: str) -> bool:
    """Whether a template takes a turn's content as a list of parts instead of a text.

    Args:
        as_text: writes contents given as texts.
        as_parts: writes contents given as lists with one part, of type "text".
        name: the model's name, used in messages.

    Returns:
        False if a question given as a text is written as it is, else True.

    Raises:
        UserError: the template fails, or writes a question neither way, or more than once.
    """
    failure, most = None, 0
    for in_parts, write in enumerate((as_text, as_parts)):
        try:
            with usable(name):
                text = write([turn("user", QUESTION)])
        except UserError as error:
            failure = failure or error
            continue
        # A list that is written as Python or JSON has the question in it too.
        times = 0 if in_parts and PART_WRITTEN_OUT.search(text) else text.count(QUESTION)
        if times == 1:
            return bool(in_parts)
        most = max(most, times)
    if failure is not None and not most:
        raise failure
    how = f"writes a question {most} times" if most else "leaves out or alters a question"
    raise UserError(f"the chat template of {name!r} {how}; {REMEDY}")


def check_opening(write: Write, name: str) -> None:
    """Check that a template ends a question with what opens the answers of examples.

    Args:
        write: writes a conversation.
        name: the model's name, used in messages.

    Raises:
        UserError: the assistant's turn is not opened, or a question is written differently each
            time. A warning says so if the two openings differ.
    """
    turns, answered = [turn("user", QUESTION)], ""
    with usable(name):
        asked, again = write(turns), write(turns)
        bare = asked
        with suppress(TemplateError):  # a template may refuse what prompts may not need
            bare = write(turns, add_generation_prompt=False)
            answered = write([*turns, turn("assistant", ANSWER)], add_generation_prompt=False)
    if asked != again:
        raise UserError(
            f"the chat template of {name!r} writes a question differently each time; {REMEDY}"
        )
    before, found, _ = answered.partition(ANSWER)
    if not found or QUESTION not in before:
        return  # no example can be written, which is an error only if there are some
    asked, bare, opening = asked.rstrip(), bare.rstrip(), before.rstrip()
    if asked == bare != opening:
        raise UserError(
            f"the chat template of {name!r} does not open the assistant's turn after a question, "
            f"with {_after(opening)!r:.40} as before an example's answer; {REMEDY}"
        )
    if not (asked.startswith(opening) or opening.startswith(asked)):
        warnings.warn(
            f"the chat template of {name!r} opens an example's answer with {_after(opening)!r:.40}, "
            f"and the answer to a question with {_after(asked)!r:.40}",
            Notice,
            stacklevel=2,
        )


def on_day(source: str, day: datetime) -> str:
    """A template as it writes on a given day.

    Args:
        source: the template, in Jinja.
        day: what it takes for today.

    Returns:
        The template, with a ``strftime_now`` of its own if it asks for the date by that name.
    """
    if "strftime_now" not in source:
        return source
    written = dict(SHORT)
    for code in "dmHIMSj":  # without zeros in front
        written[f"%-{code}"] = str(int(day.strftime(f"%{code}")))
    written["%e"] = f"{day.day:2d}"
    written |= {f"%{code}": day.strftime(f"%{code}") for code in CODES}
    steps = "".join(f"|replace({json.dumps(a)},{json.dumps(b)})" for a, b in written.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}{source}"


def turns_of(given: Conversation) -> Turns:
    """The turns of a conversation or prompt.

    Args:
        given: turns, or a prompt that keeps its turns, as a task's ``items[0].context`` does.

    Returns:
        The turns.

    Raises:
        UserError: it is another text, or a turn has no role and content.
    """
    turns = getattr(given, "turns", given)
    if isinstance(turns, str):
        raise UserError(
            f"a conversation is a list of turns, not the text {turns!r:.50}; give "
            '[{"role": "user", "content": text}]'
        )
    for one in turns:
        if not isinstance(one, dict) or not {"role", "content"} <= set(one):
            raise UserError(f"a turn has a role and a content, and {one!r:.80} does not")
    return list(turns)


def missing(turns: Turns, text: str) -> tuple[str, str] | None:
    """The first turn whose content a text does not have.

    Questions and answers are looked for in their order; a description may stand anywhere, and white
    space around a content does not count.

    Args:
        turns: a conversation.
        text: the conversation as a template wrote it.

    Returns:
        What the turn is ("the question") and its content; None if none is missing.
    """
    at = 0
    for index, said in enumerate(turns):
        content, last = said["content"].strip(), index == len(turns) - 1
        if said["role"] == "system":
            if content not in text:
                return "the description", content
            continue
        found = text.find(content, at)
        if found < 0:
            what = "the question" if said["role"] == "user" else "the answer"
            return what if last else f"{what} of an example", content
        at = found + len(content)
    return None


def turn(role: str, content: str) -> dict[str, str]:
    """A turn in transformers' format.

    Args:
        role: "system", "user" or "assistant".
        content: what is said.
    """
    return {"role": role, "content": content}


def _after(written: str) -> str:
    """What stands after the question."""
    return written.rpartition(QUESTION)[2].strip()
