"""A question with four choices, as it stands in a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from inactive_heads.tasks.base import Scoring

LETTERS = ("A", "B", "C", "D")
"""The letters of a question's four choices."""


@dataclass(frozen=True)
class Question:
    """A question with four choices.

    Attributes:
        id: identifies the question in results.
        subject: the question's subject.
        question: the question's text.
        choices: the four choices' texts.
        answer: the index of the right choice.
        place: where it stands, for messages: "line 3 of questions.jsonl".
    """

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int
    place: str = field(default="", compare=False)

    def prompt(self, scoring: Scoring) -> str:
        """The question as it stands in a prompt, up to and including "Answer:".

        Args:
            scoring: "cloze" leaves out the choices; "letter" lists them with their letters.

        Returns:
            The text, without a space at the end.
        """
        text = self.question.strip()
        if scoring == "cloze":
            return f"Question: {text}\nAnswer:"
        lines = [
            f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True)
        ]
        return "\n".join([text, *lines, "Answer:"])

    def options(self, scoring: Scoring) -> tuple[str, ...]:
        """The possible answers to the prompt.

        Args:
            scoring: "letter" for the letters, "cloze" for the choices' texts.
        """
        return LETTERS if scoring == "letter" else self.choices
