"""The protocols of engines and visitors, and the types that pass between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import HeadMask, HeadMeans, HeadVectors, Logits, TokenMask
from inactive_heads.engines.prefix_tree import Row


@dataclass(frozen=True)
class Silence:
    """A visitor's answer: the heads of one layer whose output z is replaced at every position.

        silence = Silence(heads.mean_over_tokens(heads.z_norm) < 0.1)

    Attributes:
        mask: ``(batch, head)``, true where an input's head is silenced; one row applies to all
            inputs. On any device.
        value: what the head's output becomes, ``(head, d_head)``: for example its mean over a
            calibration set. Zero if None.
    """

    mask: HeadMask
    value: HeadMeans | None = None

    def apply(self, z: HeadVectors) -> HeadVectors:
        """The head outputs with the silenced heads replaced, padding included.

        Args:
            z: head outputs, ``(batch, pos, head, d_head)``. Not modified.

        Returns:
            A new tensor of the same shape, dtype and device.
        """
        mask = self.mask.to(z.device)[:, None, :, None]
        if self.value is None:
            return z.masked_fill(mask, 0)
        return torch.where(mask, self.value.to(z), z)


@runtime_checkable
class Visitor(Protocol):
    """A function that sees every layer's heads, in the order in which the model computes them."""

    def __call__(self, heads: HeadActivations, /) -> Silence | None:
        """Look at one layer's heads, and answer with those to silence.

        Args:
            heads: the layer's activations, which reflect the answers in earlier layers.

        Returns:
            The heads to silence before the model runs the next layer. None leaves the layer
            unchanged.
        """
        ...


LayerSilences = Callable[[int], Silence | None]
"""Returns the heads of a layer to silence, the same for all inputs: a mask of one row, or None."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model, under TransformerLens's names.

    All attention layers have the same sizes.

    Attributes:
        layers: the layers that have attention heads, in ascending order: all layers, except in
            hybrids.
        n_layers: number of layers, with or without attention heads.
        n_heads: query heads per layer.
        n_key_value_heads: key/value heads per layer, a divisor of ``n_heads``.
        d_head: width of a head's value vectors and output z.
        d_model: width of the residual stream.
        n_ctx: the longest input, in tokens.
        d_vocab: number of tokens that the model has logits for.
    """

    layers: tuple[int, ...]
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_model: int
    n_ctx: int
    d_vocab: int

    def bytes_per_token(self, itemsize: int) -> int:
        """A rough estimate of the memory that one token takes in one layer.

        Args:
            itemsize: bytes per number in the model's dtype.

        Returns:
            Bytes, logits and attention patterns not included.
        """
        residual, heads = self.d_model, self.n_heads * self.d_head
        # The residual stream, its norm and the sum, and three tensors of an MLP four times as wide;
        # the heads' vectors, and what scores compute from them in float32.
        return itemsize * (4 + 3 * 4) * residual + (6 * itemsize + 6 * 4) * heads


@runtime_checkable
class Engine(Protocol):
    """Runs a model once over a batch and shows a visitor the heads of every layer.

    What every engine guarantees:

    - The visitor is called for every layer of ``shape.layers``, in ascending order, and its answer
      is applied to z, the input of W_O, before later layers run.
    - An input's results do not depend on padding, on its side, or on the rest of the batch.
    - Without a visitor, logits are those of the model itself.
    - A run leaves the model unmodified, even if it fails: no hook or setting outlives it. No
      gradients are recorded.

    Attributes:
        name: the engine's name, as in ``load_model(..., engine=name)``.
        shape: the model's sizes.
    """

    name: str
    shape: ModelShape

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        ...

    def bytes_per_token(self, longest: int) -> int:
        """A rough estimate of the memory that one token takes during a run.

        Args:
            longest: length of the batch's longest input, in tokens.

        Returns:
            Bytes; used to choose batch sizes.
        """
        ...

    def run(
        self, batch: TokenBatch, visitor: Visitor | None = None, keep: TokenMask | None = None
    ) -> Logits:
        """Run the model once over a batch.

        Args:
            batch: the inputs, none longer than ``shape.n_ctx``, on the engine's device.
            visitor: sees every layer's heads and may answer with those to silence; None runs the
                model alone.
            keep: ``(batch, pos)``, true at the tokens after which logits are wanted; each input's
                last token by default.

        Returns:
            Next-token logits, ``(kept, d_vocab)``, float32: the kept tokens of the first input,
            then of the second, and so on.
        """
        ...


@runtime_checkable
class SharingEngine(Engine, Protocol):
    """An engine that can run shared prefixes once if no visitor needs activations."""

    def shares_prefixes(self) -> bool:
        """Whether prefixes can be shared for this model.

        Returns:
            False if `run_row` must not be called.
        """
        ...

    def run_row(
        self, row: Row, keep: TokenMask, silences: LayerSilences, cache: Any = None
    ) -> tuple[Logits, Any]:
        """Run a row of segments, each of which continues segments above it.

        Args:
            row: the segments; see `inactive_heads.engines.prefix_tree`.
            keep: ``(1, pos)``, true at the row's tokens after which logits are wanted.
            silences: returns the heads to silence in a layer, the same for all inputs.
            cache: the cache that the run of the previous row returned, which must not be used
                again; None for the first row.

        Returns:
            Next-token logits after the kept tokens, ``(kept, d_vocab)``, float32, and the cache for
            the next row.
        """
        ...
