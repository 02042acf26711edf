"""A copy of a network with heads cut out."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from inactive_heads.engines.network.forward_pass import run_lock
from inactive_heads.removal.cut import bias_without, cut_outputs, cut_projection, finish_layer
from inactive_heads.removal.no_heads import NoHeads
from inactive_heads.removal.plan import LayerPlan


def copy_without_heads(network: PreTrainedModel, plans: Sequence[LayerPlan]) -> PreTrainedModel:
    """Copy a network and cut heads out of the copy.

    Args:
        network: the model, which stays as it is.
        plans: how heads are removed from its layers.

    Returns:
        The copy, in evaluation mode, without gradients and without the hooks of callers.
    """
    with run_lock(network):
        copied = _copied(network)
    names = {module: name for name, module in network.named_modules()}
    for plan in plans:
        attention = copied.get_submodule(names[plan.attention])
        projection = copied.get_submodule(names[plan.projection])
        if not plan.removal.kept:
            copied.set_submodule(names[plan.attention], _without_any(plan, projection))
            continue
        for linear, made in plan.parts.made.items():
            cut_outputs(copied.get_submodule(names[linear]), plan.removal, made)
        cut_projection(projection, plan.removal)
        finish_layer(attention, plan.removal, plan.d_head, _sinks(plan))
    return copied


def _copied(network: PreTrainedModel) -> PreTrainedModel:
    hooks = [
        table
        for module in network.modules()
        for name, table in vars(module).items()
        if name.endswith("_hooks") and isinstance(table, OrderedDict)
    ]
    # A hook may hold anything; each of the tables gets an empty one as its copy.
    copied: PreTrainedModel = copy.deepcopy(network, {id(table): OrderedDict() for table in hooks})
    return copied.eval().requires_grad_(False)


def _without_any(plan: LayerPlan, projection: nn.Module) -> NoHeads:
    bias, returned = bias_without(projection, plan.removal), plan.parts.returned
    number = getattr(plan.attention, "layer_idx", plan.layer)
    returns = len(returned) if isinstance(returned, tuple) else None
    return NoHeads(None if bias is None else bias.clone(), number, returns)


def _sinks(plan: LayerPlan) -> str | None:
    """The name of the attention module's parameter with a sink for every head."""
    sinks = plan.parts.sinks
    if sinks is None:
        return None
    own = plan.attention.named_parameters(recurse=False)
    return next((name for name, one in own if one.data_ptr() == sinks.data_ptr()), None)
