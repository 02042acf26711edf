"""Whether a set of heads, or what replaces their outputs, fits a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inactive_heads.analysis.heads.arguments import check_labelled
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.errors import UserError, shortened


def check_heads(heads: Sequence[tuple[int, int]], shape: ModelShape) -> None:
    """Check that a model has certain heads.

    Args:
        heads: ``(layer, head)`` pairs.
        shape: the model's sizes.

    Raises:
        UserError: a head is not one of the model's; the message names it.
    """
    for layer, head in heads:
        own = shape.of(layer).n_heads if layer in shape.layers else 0
        if 0 <= head < own:
            continue
        if 0 < own < shape.n_heads:
            raise UserError(
                f"head L{layer}H{head} is not in the model: layer {layer} has heads 0 to {own - 1}"
            )
        first, last = min(shape.layers), max(shape.layers)
        every = list(shape.layers) == list(range(first, last + 1))
        layers = f"{first} to {last}" if every else shortened(list(shape.layers))
        raise UserError(
            f"head L{layer}H{head} is not in the model: its attention layers are {layers}, "
            f"with heads 0 to {shape.n_heads - 1}"
        )


def check_sizes(about: Mapping[str, Any], shape: ModelShape) -> None:
    """Check that a set of heads was chosen for a model of these sizes, if it says for which.

    Args:
        about: where the set comes from, with ``n_layers`` and ``n_heads`` if they are known.
        shape: the model's sizes.

    Raises:
        UserError: a size is another; the message names both.
    """
    for name, own in {"n_layers": shape.n_layers, "n_heads": shape.n_heads}.items():
        if about.get(name, own) != own:
            raise UserError(
                f"the set of heads is of {about.get('model', 'a model')!s:.60} with {name} = "
                f"{shortened(about[name])}, this model has {own}; choose a set for this model"
            )


def check_mask_shape(given: tuple[int | None, int | None], shape: ModelShape) -> None:
    """Check the sizes of a mask without labels: its rows are all layers, with heads or without.

    Args:
        given: the number of layers and of heads; None where the mask has labels.
        shape: the model's sizes.

    Raises:
        UserError: they are not the model's.
    """
    expected = (shape.n_layers, shape.n_heads)
    sizes = tuple(
        size if size is not None else own for size, own in zip(given, expected, strict=True)
    )
    if sizes == expected:
        return
    hint = ""
    if sizes == expected[::-1]:
        hint = "; transpose it"
    elif sizes == (len(shape.layers), shape.n_heads):
        hint = "; only some layers have heads: give a DataArray with their numbers as 'layer'"
    elif sizes == (shape.n_layers, shape.n_key_value_heads):
        hint = "; it has one column for each key/value head, and a score one for each query head"
    raise UserError(
        f"the mask of heads has the shape {sizes}, the model (layers, heads) {expected}{hint}"
    )


def check_replacement(means: Any, shape: ModelShape) -> None:
    """Check that a replacement has a vector for every head of the model.

    Args:
        means: what should be the result of `mean_head_outputs`.
        shape: the model's sizes.

    Raises:
        UserError: it is no DataArray, is that of a model of another shape, or is not finite.
    """
    check_labelled(means, ("layer",), "mean head outputs", "mean_head_outputs")
    sizes = {"layer": len(shape.layers), "head": shape.n_heads, "d_head": shape.d_head}
    if dict(means.sizes) != sizes:
        raise UserError(
            f"the replacement has shape {means.shape}, the model's heads (layer, head, "
            f"d_head) = {tuple(sizes.values())}; make it with mean_head_outputs on this model"
        )
    layers = means["layer"].to_numpy().tolist()
    if layers != list(shape.layers):
        raise UserError(
            f"the replacement is of the layers {shortened(layers)}, the model has "
            f"{shortened(list(shape.layers))}; make it with mean_head_outputs on this model"
        )
    values = means.transpose("layer", "head", "d_head").to_numpy()
    for layer, own, one in zip(shape.layers, shape.heads, values, strict=True):
        there = np.zeros(one.shape, dtype=bool)
        there[: own.n_heads, : own.d_head] = True
        if not np.isfinite(one[there]).all():
            raise UserError("the replacement has values that are not finite; make it anew")
        if not np.isnan(one[~there]).all():
            raise UserError(
                f"the replacement has values in layer {layer} beyond its {own.n_heads} heads of width "
                f"{own.d_head}; make it with mean_head_outputs on this model"
            )
