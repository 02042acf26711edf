"""How requests of lm-evaluation-harness become tokens: its rules, and our checks."""

from __future__ import annotations

from typing import Any

from lm_eval.api.model import TemplateLM
from transformers import PreTrainedTokenizerBase

from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.models.model import Model
from inactive_heads.models.text_encoder import own_tokens


class TokenizingModel(TemplateLM):
    """The half of a harness model that reads and writes texts.

    Args:
        model: the model, with a tokenizer.

    Raises:
        UserError: the model has no tokenizer.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if model.tokenizer is None:
            raise UserError(f"{model.name!r} has no tokenizer: give one with tokenizer=")
        self.model = model
        self.tokenizer: PreTrainedTokenizerBase = model.tokenizer
        self._chat: ChatTemplate | None = None

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token put before a text without a context: BOS, or EOS if there is no BOS."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """The model's context, in tokens."""
        return self.model.shape.n_ctx

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, which identifies it in the harness's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """A text's token ids.

        Args:
            string: the text.
            add_special_tokens: False leaves out BOS; otherwise the model's ``bos`` option decides.
                What the tokenizer adds after a text is left out, unlike in the harness's ``hf``.
            kwargs: not used.

        Returns:
            The token ids.
        """
        if add_special_tokens is False:
            return own_tokens(self.tokenizer, string)
        return self.model.encode(string)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the tokenizer's chat template writes it.

        Args:
            chat_history: the turns, each with a role and content.
            add_generation_prompt: whether to begin an answer, or else leave the last turn open.

        Returns:
            The text.

        Raises:
            UserError: see `ChatTemplate`.
        """
        if self._chat is None:
            self.chat_template(True)
        assert self._chat is not None, "set by chat_template"
        write = self._chat.render if add_generation_prompt else self._chat.continued
        return write(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The chat template that the harness asks for, which prompts are then written by.

        Args:
            chat_template: True, or the name of one of the tokenizer's several templates.

        Returns:
            The template; None if none is asked for.

        Raises:
            UserError: the tokenizer has no such template, or it cannot be used.
        """
        if not chat_template:
            return None
        several = isinstance(self.tokenizer.chat_template, dict)
        named = {"chat_template": chat_template} if several and chat_template is not True else {}
        self._chat = ChatTemplate.of(self.tokenizer, self.model.name, named)
        return self._chat.source

    def pair_of(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The tokens of a context and of its continuation, split as by the harness's `TemplateLM`.

        Args:
            context: the text before; an empty one becomes BOS, or EOS if there is no BOS.
            continuation: the text to judge.

        Returns:
            The context's token ids, and the continuation's.
        """
        if context:
            return self._encode_pair(context, continuation)
        after = self.tok_encode(continuation, add_special_tokens=False)
        prefix = self.prefix_token_id
        return ([prefix], after) if after[:1] != [prefix] else (after[:1], after[1:])
