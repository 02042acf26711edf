"""A network run the plain way, with a hook on every output projection, found by its name.

Nothing here knows the engines: z is what enters W_O, and a silenced head is one whose columns of
that input are zero.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from helpers.running_blocks import running

PROJECTION = (
    r"(\d+)\.(self_attn|self_attention|attn|attention|multi_head_attention|mixer)"
    r"\.(o_proj|out_proj|c_proj|dense|Wo)"
)
"""Layer and name of the output projection in most architectures; two numbers where a layer has two."""
PROJECTIONS = {
    "big_bird": r"(\d+)\.attention\.output\.dense",
    "dbrx": r"(\d+)\.norm_attn_norm\.attn\.out_proj",
    "cpmant": r"(\d+)\.self_att\.self_attention\.attention_out",
    "gpt_neo": r"(\d+)\.attn\.attention\.out_proj",
    "longcat_flash": r"(\d+)\.self_attn\.([01])\.o_proj",
    "moshi": r"(\d+)\.self_attn\.o_proj\.linear",
    "nemotron_h": r"(\d+)\.mixer\.o_proj",
    "minimax": r"(\d+)\.self_attn\.o_proj",
    "recurrent_gemma": r"(\d+)\.temporal_block\.o_proj",
    "deepseek_v4": r"(\d+)\.self_attn\.o_a_proj",
    "jetmoe": r"(\d+)\.self_attention\.experts\.output_linear",
    "xlm": r"attentions\.(\d+)\.out_lin",
    "zamba": r"(\d+)\.shared_transf\.self_attn\.o_proj",
    "zamba2": r"(\d+)\.shared_transformer\.self_attn\.o_proj",
}
"""The same in architectures that name it otherwise."""
PROJECTIONS |= dict.fromkeys(
    [
        "bert",
        "bert-generation",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "git",
        "megatron-bert",
        "reformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    ],
    PROJECTIONS["big_bird"],
)
BEFORE_SINKS = ("granite_swa", "granitemoe_swa")
"""Architectures whose eager attention returns its weights before the sinks have taken their share."""
ELSEWHERE = ("vision", "audio", "image", "patcher")
"""Parts of a composite model that read no text."""
LINEAR = ("linear_attention", "conv", "moe", "mlp")
"""Types of layers without attention heads, whose projection may bear the same name."""


class Place(NamedTuple):
    """The output projection of one layer, and where its block stands."""

    projection: nn.Module
    blocks: str
    at: int


def places(network: PreTrainedModel) -> dict[int, Place]:
    """The output projection of every layer with attention heads, by the layer's number.

    Several layers may have the same module.

    Raises:
        AssertionError: two projections are of one layer.
    """
    config = network.config.get_text_config()
    pattern = PROJECTIONS.get(network.config.model_type, PROJECTIONS.get(config.model_type))
    kinds = getattr(config, "layer_types", None) or []
    found: dict[int, Place] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        match = re.search(rf"(?:^|\.){pattern or PROJECTION}$", name)
        if match is None or any(part in name for part in ELSEWHERE):
            continue
        numbers = [int(part) for part in match.groups() if part.isdigit()]
        layer = numbers[0] if len(numbers) == 1 else 2 * numbers[0] + numbers[1]
        if layer < len(kinds) and kinds[layer] in LINEAR:
            continue
        assert layer not in found, f"layer {layer} has several output projections"
        found[layer] = Place(module, name[: match.start(1) - 1], numbers[0])
    return found


def projections(network: PreTrainedModel) -> dict[int, nn.Module]:
    """The output projection of every layer with attention heads, by the layer's number."""
    return {layer: place.projection for layer, place in places(network).items()}


def n_heads(network: PreTrainedModel, layer: int) -> int:
    """The number of a layer's query heads, as the config says."""
    config = network.config.get_text_config()
    by_layer = getattr(config, "num_attention_heads_per_layer", None)
    return by_layer[layer] if by_layer else config.num_attention_heads


@dataclass
class PlainRun:
    """What a plain run of one input gave.

    Attributes:
        logits: ``(pos, d_vocab)``.
        z: what entered the output projection, ``(pos, head, d_head)``, by layer.
        patterns: attention weights, ``(head, query, key)``, by layer; of the layers whose weights
            the model returns, if it is eager and they are over the tokens.
    """

    logits: np.ndarray
    z: dict[int, np.ndarray] = field(default_factory=dict)
    patterns: dict[int, np.ndarray] = field(default_factory=dict)


def plain_run(
    network: PreTrainedModel,
    tokens: Sequence[int],
    masks: Mapping[int, np.ndarray] | None = None,
    *,
    patterns: bool = False,
) -> PlainRun:
    """Run one input, with the heads in ``masks`` (a boolean per head, by layer) zeroed."""
    z: dict[int, np.ndarray] = {}
    found = places(network)
    layers = {(place.projection, place.at): layer for layer, place in found.items()}
    (blocks,) = {place.blocks for place in found.values()}

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> object:
        entering = args[0]
        layer = layers[module, now.block]
        heads = entering.reshape(len(tokens), n_heads(network, layer), -1)
        z[layer] = heads.double().numpy()
        if masks is None or layer not in masks:
            return None
        kept = torch.as_tensor(~np.asarray(masks[layer]))[:, None]
        return ((heads * kept).reshape(entering.shape), *args[1:])

    modules = {place.projection: None for place in found.values()}
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    asked = {"output_attentions": True} if patterns else {}
    with torch.no_grad(), running(network.get_submodule(blocks)) as now:
        output = network(torch.tensor([list(tokens)]), use_cache=False, **asked)
    for handle in handles:
        handle.remove()
    logits = output.logits[0].double().numpy()
    patterns = patterns and network.config.model_type not in BEFORE_SINKS
    returned = _patterns(output, len(tokens), list(found)) if patterns else {}
    return PlainRun(logits, z, returned)


def _patterns(output: object, n: int, layers: list[int]) -> dict[int, np.ndarray]:
    given = getattr(output, "attentions", None) or ()
    by_layer = [one for one in given if one is not None]
    if len(by_layer) != len(layers):
        return {}
    return {
        layer: one[0].double().numpy()
        for layer, one in zip(layers, by_layer, strict=True)
        if one.ndim == 4 and one.shape[-2:] == (n, n)
    }


def per_input(
    network: PreTrainedModel, tokens: Sequence[int], threshold: float
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Logits and masks of zeroing by AHON (LN), in float64 if the model itself runs in it.

    Every layer is scored with the layers before it zeroed.
    """
    exact = copy.deepcopy(network).double()
    exact.set_experts_implementation("eager")  # others take no float64
    try:
        plain_run(exact, tokens)
    except RuntimeError:  # XGLM's mask, Inkling's float32 buffers
        exact = network
    masks: dict[int, np.ndarray] = {}
    for layer in sorted(projections(exact)):
        masks[layer] = ahon_ln(plain_run(exact, tokens, masks).z[layer]) < threshold
    return plain_run(exact, tokens, masks).logits, masks


def ahon_ln(z: np.ndarray) -> np.ndarray:
    """AHON (LN) of one layer's ``(pos, head, d_head)``, one number per head."""
    ahon = np.linalg.norm(z, axis=-1).mean(axis=0)
    return ahon / ahon.mean()
