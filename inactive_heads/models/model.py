"""A language model whose heads can be visited, how it is loaded, and how it reads text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from inactive_heads.core.model_shape import ModelShape
from inactive_heads.engines.base import Engine
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.models.text_encoder import check_text
from inactive_heads.specs import ModelSpec


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A language model whose heads can be visited, with its tokenizer.

    Attributes:
        engine: runs the model and shows its heads.
        tokenizer: None for a model without one, which then takes token ids only.
        provenance: where the model comes from and how it was loaded; saved with every result.
        encode_text: turns a text into token ids under the model's BOS rule; `encode` checks them.
        spec: how the model was loaded, so that another process can load it again; None for a
            TransformerBridge or HookedTransformer that was given as it is, and for a model from
            `remove_heads`.
        chat: the chat template that writes prompts; None if prompts are plain text.
        batch_size: inputs run together unless a call says otherwise: a preset's number, or "auto".
        refused: the engines that ``engine="auto"`` tried before, and why each cannot show the
            model's heads.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase | None
    provenance: dict[str, str | int]
    encode_text: Callable[[str], list[int]] = field(repr=False)
    spec: ModelSpec | None = None
    chat: ChatTemplate | None = None
    batch_size: int | str = "auto"
    refused: Mapping[str, str] = field(default_factory=dict)

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
                gives a token that is not in the vocabulary; or it is no text, or has a lone
                surrogate.
        """
        check_text(text, "the text")
        ids = self.encode_text(text)
        if ids and max(ids) >= self.shape.d_vocab:
            raise UserError(
                f"the tokenizer gives token {max(ids)}, and the vocabulary of {self.name!r} has "
                f"{self.shape.d_vocab}: it belongs to another model"
            )
        return ids

    def __repr__(self) -> str:
        shape = self.shape
        numbers = [one.n_heads for one in shape.heads]
        heads = (
            f"{min(numbers)} to {shape.n_heads}" if min(numbers) < shape.n_heads else shape.n_heads
        )
        return (
            f"Model({self.name!r}: {len(shape.layers)} layers of {heads} heads, "
            f"{self.provenance['dtype']} on {self.provenance['device']}, engine {self.engine.name!r})"
        )
