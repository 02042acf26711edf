"""The sizes of the heads that TransformerLens shows, layer by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inactive_heads.core.model_shape import HeadSizes, ModelShape
from inactive_heads.core.tensor_types import Logits, OutputWeights
from inactive_heads.engines.lens_visit import HOOKS, hooks_of
from inactive_heads.engines.network.blocks import projection_weights
from inactive_heads.engines.routing.refusals import Unsupported
from inactive_heads.errors import shortened

Hooks = Sequence[tuple[str, Callable[..., None]]]
"""Names of hooks, each with a function that only looks."""


def shape_of(bridge: Any) -> ModelShape:
    """The sizes that a bridge's config tells, alike in all layers.

    Args:
        bridge: a TransformerBridge or HookedTransformer.

    Returns:
        The shape; its layers are those that have all hooks in `HOOKS`.

    Raises:
        Unsupported: no layer has them, or a layer with attention lacks one.
    """
    cfg, names = bridge.cfg, bridge.hook_dict
    has = {
        layer: [hook for hook, name in hooks_of(layer, names).items() if name in names]
        for layer in range(cfg.n_layers)
    }
    layers = tuple(layer for layer, hooks in has.items() if len(hooks) == len(HOOKS))
    if not layers:
        raise Unsupported(
            f"no layer of {cfg.model_name!r} has attention heads that TransformerLens can "
            f"show: it has none of the hooks {', '.join('attn.' + hook for hook in HOOKS)}",
            "lens",
        )
    partly = [layer for layer, hooks in has.items() if "hook_pattern" in hooks]
    if hidden := sorted(set(partly) - set(layers)):
        raise Unsupported(
            f"TransformerLens shows no hook_v or hook_z in the attention layers {shortened(hidden)} of "
            f"{cfg.model_name!r} (do they read another layer's keys and values?)",
            "lens",
        )
    return ModelShape(
        layers=layers,
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_key_value_heads=cfg.n_key_value_heads or cfg.n_heads,
        d_head=cfg.d_head,
        d_model=cfg.d_model,
        n_ctx=cfg.n_ctx,
        d_vocab=cfg.d_vocab,
    )


def shown_shape(
    shape: ModelShape,
    name: str,
    hooks: Callable[[int], Mapping[str, str]],
    run: Callable[[Hooks], Logits],
) -> tuple[ModelShape, Logits]:
    """The sizes that the hooks show, where layers differ.

    Args:
        shape: from `shape_of`.
        name: the model's name, used in error messages.
        hooks: a layer's, from `hooks_of`.
        run: runs the model on a few tokens with hooks, and returns its logits.

    Returns:
        The shape, ``shape`` itself if layers are alike and as the config says; and the logits.

    Raises:
        Unsupported: the hooks of a layer do not show the same heads, or all show other heads than the
            config says.
    """
    seen: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)

    def look(tensor: Tensor, hook: object, *, layer: int, kind: str) -> None:
        seen[layer][kind] = tuple(tensor.shape)

    logits = run(
        [
            (hook, partial(look, layer=layer, kind=kind))
            for layer in shape.layers
            for kind, hook in hooks(layer).items()
        ]
    )
    for layer in shape.layers:
        if not seen[layer].keys() >= set(HOOKS):
            raise Unsupported(
                f"TransformerLens does not show the heads of layer {layer} of {name!r}, which "
                "are in its list of hooks",
                "lens",
            )
    told = (shape.n_heads, shape.d_head)
    z = {seen[layer]["hook_z"][2:] for layer in shape.layers}
    if z == {told} and len({seen[layer]["hook_v"][2:] for layer in shape.layers}) == 1:
        return shape, logits
    if len(z) == 1 and z != {told}:
        raise Unsupported(
            f"{name!r} shows (heads, d_head) = {z.pop()} in layer {shape.layers[0]}, and its "
            f"config says {told}: TransformerLens does not fit this model",
            "lens",
        )
    found = {layer: _sizes(name, layer, seen[layer]) for layer in shape.layers}
    own = ModelShape.of_layers(
        found,
        n_layers=shape.n_layers,
        d_model=shape.d_model,
        n_ctx=shape.n_ctx,
        d_vocab=shape.d_vocab,
    )
    return own, logits


def _sizes(name: str, layer: int, seen: dict[str, tuple[int, ...]]) -> HeadSizes:
    """The sizes that a layer's hooks agree on."""
    v, pattern, z = (seen[kind] for kind in HOOKS)
    fits = len(z) == len(v) == len(pattern) == 4 and z[2:] == (pattern[1], v[3])
    if not fits or z[2] % v[2]:
        raise Unsupported(
            f"the hooks of layer {layer} of {name!r} show different heads: z {z}, v {v}, pattern "
            f"{pattern}; TransformerLens does not fit this model",
            "lens",
        )
    return HeadSizes(z[2], v[2], z[3])


def output_weights(attention: Any, sizes: HeadSizes) -> OutputWeights:
    """W_O of a layer whose sizes are not those of TransformerLens's config, by which it splits W_O.

    Args:
        attention: the layer's component, ``blocks[layer].attn``.
        sizes: the layer's sizes.

    Returns:
        ``(head, d_head, d_model)``, without gradients.

    Raises:
        Unsupported: the layer's projection is not known.
    """
    projection = getattr(getattr(attention, "o", None), "original_component", None)
    if isinstance(projection, nn.Linear | Conv1D):
        weights = projection_weights(projection)
        if weights.shape[0] == sizes.n_heads * sizes.d_head:
            return rearrange(weights, "(h d_head) d_model -> h d_head d_model", h=sizes.n_heads)
    raise Unsupported(
        f"TransformerLens's component {type(attention).__name__} has no output projection of "
        f"{sizes.n_heads} heads of width {sizes.d_head}: it does not fit this model",
        "lens",
    )
