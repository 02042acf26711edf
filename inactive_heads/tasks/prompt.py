"""Prompts that keep their parts, so that chat templates can write them as turns."""

from __future__ import annotations

from collections.abc import Sequence

from inactive_heads.models.chat_trial import Turns


class Prompt(str):
    """A prompt as plain text that also keeps the parts it was made of.

        prompt = Prompt("Capitals.\\n\\n", [("France?", "Paris")], "Italy?")
        assert prompt == "Capitals.\\n\\nFrance? Paris\\n\\nItaly?"

    Attributes:
        description: the text before the examples, including the blank line after it; may be empty.
        examples: answered questions, ``(question, answer)``.
        question: the question that is asked.
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
        """The prompt as a conversation: the examples as turns, then the question."""
        said = [("system", self.description)] if self.description else []
        for asked, answer in self.examples:
            said += [("user", asked), ("assistant", answer)]
        return [
            {"role": role, "content": content} for role, content in [*said, ("user", self.question)]
        ]
