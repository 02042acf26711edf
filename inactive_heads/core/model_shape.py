"""The sizes of a model, and of each of its attention layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from inactive_heads.errors import UserError


@dataclass(frozen=True)
class HeadSizes:
    """The sizes of one layer's attention heads.

    Attributes:
        n_heads: query heads.
        n_key_value_heads: key/value heads, a divisor of ``n_heads``.
        d_head: width of a head's value vectors and output z.
        key_value_layer: the earlier layer whose keys and values the heads read; None if they read
            their own layer's.
    """

    n_heads: int
    n_key_value_heads: int
    d_head: int
    key_value_layer: int | None = None


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model, under TransformerLens's names.

    Layers are alike, unless ``heads`` says otherwise:

        ModelShape((0, 1), 2, 4, 2, 8, 32, n_ctx=64, d_vocab=97)  # 4 heads in both layers
        heads = {0: HeadSizes(4, 2, 8), 1: HeadSizes(6, 3, 8)}
        ModelShape.of_layers(heads, n_layers=2, d_model=32, n_ctx=64, d_vocab=97)

    Attributes:
        layers: the layers that have attention heads, in ascending order: all layers, except in
            hybrids.
        n_layers: number of layers, with or without attention heads.
        n_heads: query heads per layer; the largest number, if layers differ. Results have one
            place for each.
        n_key_value_heads: key/value heads per layer, the largest number.
        d_head: width of a head's value vectors and output z, the largest.
        d_model: width of the residual stream.
        n_ctx: the longest input, in tokens.
        d_vocab: number of tokens that the model has logits for.
        heads: the sizes of every layer, in the order of ``layers``; by default alike.

    Raises:
        UserError: ``heads`` does not fit the other sizes.
    """

    layers: tuple[int, ...]
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_model: int
    n_ctx: int
    d_vocab: int
    heads: tuple[HeadSizes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        largest = HeadSizes(self.n_heads, self.n_key_value_heads, self.d_head)
        if not self.heads:
            object.__setattr__(self, "heads", (largest,) * len(self.layers))
            return
        found = _largest(self.heads)
        if len(self.heads) != len(self.layers) or found != largest:
            raise UserError(
                f"a ModelShape of {len(self.layers)} layers with at most {largest} cannot have "
                f"{len(self.heads)} layers with at most {found}; make it with ModelShape.of_layers"
            )

    @staticmethod
    def of_layers(
        heads: Mapping[int, HeadSizes], *, n_layers: int, d_model: int, n_ctx: int, d_vocab: int
    ) -> ModelShape:
        """The shape of a model whose layers may differ.

        Args:
            heads: by layer, the sizes of its heads; layers without attention heads are left out.
            n_layers: number of layers, with or without attention heads.
            d_model: width of the residual stream.
            n_ctx: the longest input, in tokens.
            d_vocab: number of tokens that the model has logits for.

        Returns:
            The shape.
        """
        layers = tuple(sorted(heads))
        own = tuple(heads[layer] for layer in layers)
        most = _largest(own)
        return ModelShape(
            layers=layers,
            n_layers=n_layers,
            n_heads=most.n_heads,
            n_key_value_heads=most.n_key_value_heads,
            d_head=most.d_head,
            d_model=d_model,
            n_ctx=n_ctx,
            d_vocab=d_vocab,
            heads=own,
        )

    def of(self, layer: int) -> HeadSizes:
        """The sizes of one layer's heads.

        Args:
            layer: one of ``layers``.

        Returns:
            Its sizes.
        """
        return self.heads[self.layers.index(layer)]

    @cached_property
    def total_heads(self) -> int:
        """The number of heads in all layers together."""
        return sum(one.n_heads for one in self.heads)

    @cached_property
    def exists(self) -> np.ndarray:
        """``(layer, head)``, true where the layer has the head."""
        own = np.array([one.n_heads for one in self.heads])
        return np.arange(self.n_heads) < own[:, None]

    @cached_property
    def differing(self) -> dict[str, list[int]]:
        """The sizes in which layers differ, by name, in the order of ``layers``.

        Results carry them as coordinates along "layer". ``key_value_layer`` is a layer's own number
        where it reads its own keys and values.
        """
        sizes = {
            "n_heads": [one.n_heads for one in self.heads],
            "n_key_value_heads": [one.n_key_value_heads for one in self.heads],
            "d_head": [one.d_head for one in self.heads],
        }
        found = {name: values for name, values in sizes.items() if len(set(values)) > 1}
        reads = [one.key_value_layer for one in self.heads]
        if any(layer is not None for layer in reads):
            found["key_value_layer"] = [
                own if layer is None else layer
                for own, layer in zip(self.layers, reads, strict=True)
            ]
        return found

    def bytes_per_token(self, itemsize: int) -> int:
        """A rough estimate of the memory that one token takes in one layer.

        Args:
            itemsize: bytes per number in the model's dtype.

        Returns:
            Bytes in the layer with the most, logits and attention patterns not included.
        """
        residual, heads = self.d_model, max(one.n_heads * one.d_head for one in self.heads)
        # The residual stream, its norm and the sum, and three tensors of an MLP four times as wide;
        # the heads' vectors, and what scores compute from them in float32.
        return itemsize * (4 + 3 * 4) * residual + (6 * itemsize + 6 * 4) * heads


def _largest(heads: tuple[HeadSizes, ...]) -> HeadSizes:
    return HeadSizes(
        max(one.n_heads for one in heads),
        max(one.n_key_value_heads for one in heads),
        max(one.d_head for one in heads),
    )
