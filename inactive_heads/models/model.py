"""A language model whose heads can be visited, and how it reads text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from inactive_heads.engines.base import Engine, ModelShape
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate

BOS_RULES = ("auto", "on", "off")


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A language model whose heads can be visited, with its tokenizer.

    Attributes:
        engine: runs the model and shows its heads.
        tokenizer: None for a model that came without; it then takes token ids only.
        provenance: where the model is from and how it was loaded, for whoever saves results.
        encode_text: a text's token ids under the model's BOS rule; `encode` checks them.
        recipe: the arguments with which `load_model` loads it once more, in another process;
            None for a model that was given as it is.
        chat: the chat template that prompts are written by; None where they are asked as texts.
        batch_size: inputs run together where nobody says how many: a preset's word, or "auto".
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase | None
    provenance: dict[str, str | int]
    encode_text: Callable[[str], list[int]] = field(repr=False)
    recipe: dict[str, Any] | None = None
    chat: ChatTemplate | None = None
    batch_size: int | str = "auto"

    @property
    def name(self) -> str:
        """The model's name as shown to people."""
        return str(self.provenance["model"])

    @property
    def shape(self) -> ModelShape:
        """The model's sizes."""
        return self.engine.shape

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, never cut, with BOS as the model was loaded to have it.

        Raises:
            UserError: the model has no tokenizer, or one with tokens that it does not have.
        """
        ids = self.encode_text(text)
        if ids and max(ids) >= self.shape.d_vocab:
            raise UserError(
                f"the tokenizer gives token {max(ids)}, and the vocabulary of {self.name!r} has "
                f"{self.shape.d_vocab}: it belongs to another model"
            )
        return ids

    def __repr__(self) -> str:
        shape = self.shape
        return (
            f"Model({self.name!r}: {len(shape.layers)} layers of {shape.n_heads} heads, "
            f"{self.provenance['dtype']} on {self.provenance['device']}, engine {self.engine.name!r})"
        )


def text_encoder(
    tokenizer: PreTrainedTokenizerBase | None, bos: str, name: str
) -> Callable[[str], list[int]]:
    """A function from a text to its token ids, under a BOS rule.

    "auto" is the tokenizer's own rule, "off" adds no special tokens, "on" puts BOS first
    where the tokenizer does not. A text that opens with BOS (EOS of a tokenizer without), as chat
    templates may write it, gets no other: the rule of lm-evaluation-harness.

    Raises:
        UserError: no such rule, or "on" with a tokenizer that has no BOS token. The function
            raises it when there is no tokenizer.
    """
    _check_rule("bos", bos, BOS_RULES)
    if bos == "on" and tokenizer is not None and tokenizer.bos_token_id is None:
        raise UserError(
            f"bos='on', but the tokenizer of {name!r} has no BOS token; give 'auto' or 'off'"
        )

    opening = None if tokenizer is None else tokenizer.bos_token or tokenizer.eos_token

    def encode(text: str) -> list[int]:
        if tokenizer is None:
            raise UserError(_no_tokenizer(name))
        special = bos != "off" and not (opening and text.startswith(opening))
        # A tokenizer file may carry a length to cut at: truncation=False overrides it.
        options = {"truncation": False, "padding": False, "verbose": False}
        ids = list(tokenizer(text, add_special_tokens=special, **options).input_ids)
        if bos == "on" and ids[:1] != [tokenizer.bos_token_id]:
            ids.insert(0, tokenizer.bos_token_id)
        return ids

    return encode


def _check_rule(option: str, value: str, rules: tuple[str, ...]) -> None:
    if value not in rules:
        raise UserError(f"{option}={value!r} is unknown; give one of {', '.join(rules)}")


def _no_tokenizer(name: str) -> str:
    return (
        f"{name!r} has no tokenizer, so it cannot read text: give one with "
        "load_model(..., tokenizer=FOLDER or hub name), or give token ids instead of texts"
    )
