"""What is removed from each layer of a model, and whether its architecture is known to bear that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.routing.hf_attention import InterfaceAttention
from inactive_heads.engines.routing.uneven_groups import UNEVEN, heads_read, held_heads
from inactive_heads.removal.cut import Removal, missing_rows
from inactive_heads.removal.head_rows import LayerParts, find_parts


class Refused(Exception):
    """Why heads cannot be removed from an architecture, as a predicate."""


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """How heads are removed from one layer.

    Attributes:
        layer: the layer's number.
        removal: the heads to remove.
        attention: the attention module.
        projection: its W_O.
        parts: what the layer's heads are made of.
        d_head: width of a head's output.
    """

    layer: int
    removal: Removal
    attention: nn.Module
    projection: nn.Module
    parts: LayerParts
    d_head: int


def plan_layers(engine: FlashEngine, fixed: Fixed) -> list[LayerPlan]:
    """How heads are removed from each layer that loses any.

    Args:
        engine: runs the model.
        fixed: the heads to remove, and what replaces their outputs.

    Returns:
        A plan for each of these layers.

    Raises:
        Refused: the architecture cannot take that.
    """
    removed: dict[int, list[int]] = {}
    for layer, head in sorted(fixed.heads):
        removed.setdefault(layer, []).append(head)
    attentions = _attentions(engine, list(removed))
    parts = find_parts(engine, attentions)
    plans = []
    for layer, attention in attentions.items():
        own = engine.shape.of(layer)
        reads = heads_read(attention, own.n_heads, own.n_key_value_heads)
        removal = Removal(reads, removed[layer], fixed.silence(layer, own.n_heads).value)
        projection = engine.projections[layer]
        plan = LayerPlan(layer, removal, attention, projection, parts[layer], own.d_head)
        _check(plan, engine)
        plans.append(plan)
    return plans


def _attentions(engine: FlashEngine, layers: Sequence[int]) -> dict[int, nn.Module]:
    """The attention modules of some layers, whose weights belong to them alone."""
    if "key_value_layer" in engine.shape.differing:
        raise Refused("has layers that read the keys and values of other layers")
    own = {layer: module for module, layer in engine.places.numbers.own.items()}
    modules = engine.network.modules()
    held = Counter(id(one) for module in modules for one in module.parameters(recurse=False))
    projections = Counter(id(one) for one in engine.projections.values())
    for layer in layers:
        if layer not in own or projections[id(engine.projections[layer])] > 1:
            raise Refused(f"runs the attention module of layer {layer} in other layers too")
        weights = [*own[layer].parameters(), *engine.projections[layer].parameters()]
        if any(held[id(one)] > 1 for one in weights):
            raise Refused(f"shares weights of the attention of layer {layer} with other modules")
    return {layer: own[layer] for layer in layers}


def _check(plan: LayerPlan, engine: FlashEngine) -> None:
    """Raise an error where it is known that a layer cannot do without its heads."""
    layer, removal = plan.layer, plan.removal
    if not removal.kept:
        if not _is_one_tensor(plan.parts.returned):
            raise Refused(f"returns more than one tensor from the attention of layer {layer}")
        if plan.projection not in plan.attention.modules():
            raise Refused(f"has the output projection of layer {layer} outside of its attention")
        return
    if (what := missing_rows(removal, list(plan.parts.made.values()))) is not None:
        raise Refused(f"in layer {layer} has no outputs of linear layers that make {what} alone")
    if removal.even or held_heads(plan.attention) is not None:
        return
    if not isinstance(engine.places.attention, InterfaceAttention):
        raise Refused(
            "computes attention by itself, so that all key/value heads of a layer need the same "
            f"number of heads, and in layer {layer} they would not have that"
        )
    config = getattr(plan.attention, "config", None)
    chosen = getattr(config, "_attn_implementation", None)
    if chosen not in UNEVEN:
        raise Refused(f"computes attention by {chosen!r}, which takes no uneven groups of heads")


def _is_one_tensor(returned: Any) -> bool:
    if isinstance(returned, Tensor):
        return True
    return isinstance(returned, tuple) and all(one is None for one in returned[1:])
