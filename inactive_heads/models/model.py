"""A language model whose heads can be visited, how it is loaded, and how it reads text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from inactive_heads.engines.base import Engine, ModelShape
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.specs import ModelSpec

EngineName = Literal["flash", "lens"]
Rule = Literal["auto", "on", "off"]


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A language model whose heads can be visited, with its tokenizer.

    Attributes:
        engine: runs the model and shows its heads.
        tokenizer: None for a model without one, which then takes token ids only.
        provenance: where the model comes from and how it was loaded; saved with every result.
        encode_text: turns a text into token ids under the model's BOS rule; `encode` checks them.
        spec: how the model was loaded, so that another process can load it again; None for a
            TransformerBridge or HookedTransformer that was given as it is.
        chat: the chat template that writes prompts; None if prompts are plain text.
        batch_size: inputs run together unless a call says otherwise: a preset's number, or "auto".
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase | None
    provenance: dict[str, str | int]
    encode_text: Callable[[str], list[int]] = field(repr=False)
    spec: ModelSpec | None = None
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

    @property
    def recipe(self) -> dict[str, Any] | None:
        """The arguments with which `load_model` loads the model again; None where ``spec`` is."""
        return None if self.spec is None else dict(vars(self.spec))

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, never cut, with BOS as the model was loaded to have it.

            model.encode("Hello")  # [15496] with GPT-2

        Args:
            text: any text; an empty one has no tokens but BOS.

        Returns:
            Token ids, each below ``shape.d_vocab``.

        Raises:
            UserError: the model has no tokenizer, or the tokenizer belongs to another model: it
                gives a token that is not in the vocabulary.
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

    A text that already opens with BOS (or EOS, if the tokenizer has no BOS), as chat templates may
    write it, gets no second one. This is the rule of lm-evaluation-harness.

    Args:
        tokenizer: the model's; without one, the function raises an error.
        bos: "auto" is the tokenizer's own rule, "off" adds no special tokens, "on" puts BOS first
            if the tokenizer does not.
        name: the model's name, used in error messages.

    Returns:
        The function. It never cuts or pads a text.

    Raises:
        UserError: "on" with a tokenizer that has no BOS token. The function raises it if there is
            no tokenizer.
    """
    if bos == "on" and tokenizer is not None and tokenizer.bos_token_id is None:
        raise UserError(
            f"bos='on', but the tokenizer of {name!r} has no BOS token; give 'auto' or 'off'"
        )

    opening = None if tokenizer is None else tokenizer.bos_token or tokenizer.eos_token

    def encode(text: str) -> list[int]:
        if tokenizer is None:
            raise UserError(no_tokenizer(name))
        special = bos != "off" and not (opening and text.startswith(opening))
        # A tokenizer file may carry a length to cut at: truncation=False overrides it.
        options = {"truncation": False, "padding": False, "verbose": False}
        ids = list(tokenizer(text, add_special_tokens=special, **options).input_ids)
        if bos == "on" and ids[:1] != [tokenizer.bos_token_id]:
            ids.insert(0, tokenizer.bos_token_id)
        return ids

    return encode


def no_tokenizer(name: str) -> str:
    """The error message for a model that is given text and has no tokenizer.

    Args:
        name: the model's name.

    Returns:
        One line that says what to do.
    """
    return (
        f"{name!r} has no tokenizer, so it cannot read text: give one with "
        "load_model(..., tokenizer=FOLDER or hub name), or give token ids instead of texts"
    )
