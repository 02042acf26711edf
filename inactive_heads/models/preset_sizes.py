"""The sizes that a preset gives of its model, before the model is downloaded.

A number holds for every layer. Where layers differ, ``n_heads``, ``n_key_value_heads`` and ``d_head``
are lists, which repeat over the layers; a layer with 0 heads has no attention:

n_heads = [0, 0, 0, 16]              # Qwen3-Next: attention in every fourth layer
d_head = [256, 256, 256, 256, 512]   # Gemma 4 E2B: wider heads in every fifth
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from inactive_heads.core.model_shape import ModelShape
from inactive_heads.errors import UserError
from inactive_heads.toml import string_of

PerLayer = int | tuple[int, ...]
"""A size of every layer, or sizes that repeat over the layers."""

PER_LAYER = ("n_heads", "n_key_value_heads", "d_head")


@dataclass(frozen=True)
class Sizes:
    """A stored model's sizes, under TransformerLens's names.

    Attributes:
        architecture: transformers' ``model_type``, such as "llama"; that of the part for text, if the
            model has others.
        parameters: number of parameters that are loaded.
        n_layers: number of layers, with or without attention heads.
        n_heads: query heads per layer; 0 in layers without attention.
        n_key_value_heads: key/value heads per layer.
        d_head: width of a head's value vectors and output z.
        d_model: width of the residual stream.
        d_mlp: width of the MLP's hidden layer, or of an expert's; the widest.
        n_ctx: the longest input, in tokens.
        d_vocab: number of tokens in the vocabulary.
    """

    architecture: str
    parameters: int
    n_layers: int
    n_heads: PerLayer
    n_key_value_heads: PerLayer
    d_head: PerLayer
    d_model: int
    d_mlp: int
    n_ctx: int
    d_vocab: int

    @property
    def heads(self) -> dict[int, tuple[int, int, int]]:
        """By layer that has attention heads: query heads, key/value heads, and d_head."""
        columns = [_of_layers(getattr(self, name), self.n_layers) for name in PER_LAYER]
        rows = enumerate(zip(*columns, strict=True))
        return {layer: (own, groups, width) for layer, (own, groups, width) in rows if own}

    @property
    def shape(self) -> ModelShape:
        """The sizes as an engine has them; of layers that differ, the largest."""
        heads = self.heads
        n_heads, n_key_value_heads, d_head = (
            max(sizes) for sizes in zip(*heads.values(), strict=True)
        )
        return ModelShape(
            layers=tuple(heads),
            n_layers=self.n_layers,
            n_heads=n_heads,
            n_key_value_heads=n_key_value_heads,
            d_head=d_head,
            d_model=self.d_model,
            n_ctx=self.n_ctx,
            d_vocab=self.d_vocab,
        )


def parse_sizes(table: dict[str, Any], where: str) -> Sizes:
    """The sizes that a preset's table ``[sizes]`` gives.

    Args:
        table: the parsed table; every size must be in it.
        where: the file's name, used in error messages.

    Returns:
        The sizes.

    Raises:
        UserError: a size is missing or unknown, or is no number above 0, or a list does not fit the
            layers; the message names it.
    """
    names = [one.name for one in fields(Sizes)]
    if odd := sorted({*names} ^ {*table}):
        raise UserError(
            f"{where}: [sizes] needs {', '.join(names)}; {odd[0]} is not as it should be"
        )
    architecture = str(string_of(table, "architecture", where))
    whole = [name for name in names[1:] if name not in PER_LAYER]
    sizes: dict[str, Any] = {name: _size(table[name], name, where) for name in whole}
    for name in PER_LAYER:
        sizes[name] = _per_layer(table[name], name, sizes["n_layers"], where)
    return Sizes(architecture, **sizes)


def _per_layer(value: Any, name: str, n_layers: int, where: str) -> PerLayer:
    if not isinstance(value, list):
        return _size(value, name, where)
    if not value or n_layers % len(value):
        raise UserError(
            f"{where}: {name} lists {len(value)} layers, which do not repeat over {n_layers}; give "
            "one number, or a list whose length divides n_layers"
        )
    least = 0 if name == "n_heads" else 1
    sizes = tuple(_size(one, name, where, least) for one in value)
    if not any(sizes):
        raise UserError(f"{where}: {name} = {value!r} leaves no layer with attention heads")
    return sizes


def _size(value: Any, name: str, where: str, least: int = 1) -> int:
    # TOML's true becomes True, which is an int. Floats are allowed for numbers like 135e6.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        wanted = "a number above 0" if least else "numbers, 0 for a layer without attention"
        raise UserError(f"{where}: {name} = {value!r}; give {wanted}")
    return int(value)


def _of_layers(size: PerLayer, n_layers: int) -> tuple[int, ...]:
    pattern = size if isinstance(size, tuple) else (size,)
    return pattern * (n_layers // len(pattern))
