"""A tiny model with random weights of every architecture in transformers' causal-LM mapping.

Sizes are set by the name of the config's field; what an architecture needs beyond that stands in
`architecture_sizes`. Its distinctive parts stay on: fewer key/value heads than heads, windows shorter than the
inputs, gates, norms, soft caps, sinks, experts, and at least one layer of full attention in hybrids.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from helpers.architecture_sizes import OPTIONS, SIZES

WITHOUT_ATTENTION = "has no attention"
CODES = "reads several streams of audio codes, and no text"
ASSISTANT = "runs only on the keys and values of the model that it assists"
NOT_DECODERS: dict[str, str] = {
    "falcon_mamba": WITHOUT_ATTENTION,
    "mamba": WITHOUT_ATTENTION,
    "mamba2": WITHOUT_ATTENTION,
    "rwkv": WITHOUT_ATTENTION,
    "xlstm": WITHOUT_ATTENTION,
    "musicgen": CODES,
    "musicgen_melody": CODES,
    "gemma4_assistant": ASSISTANT,
    "gemma4_unified_assistant": ASSISTANT,
}
"""Types of the mapping that are no decoders with attention, and why."""


ENCODERS = {
    "bert",
    "bert-generation",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "megatron-bert",
    "reformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Encoders, which an option of the config makes decoders: they are tried, and counted apart."""
NOT_BUILT: dict[str, str] = {
    "gemma3n": "needs timm for its vision part; its language model is gemma3n_text",
}
"""Decoders that cannot be built here, and why."""


def architectures() -> list[str]:
    """Every type of the mapping that has attention, decodes and can be built, sorted."""
    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(NOT_DECODERS) - set(NOT_BUILT))


def tiny_architecture(
    model_type: str, attention: str | None = None, **changes: Any
) -> PreTrainedModel:
    """A tiny model of a type with random weights, the same each time, in float32 and eval mode.

    Args:
        model_type: one of `architectures`.
        attention: how it computes attention; transformers' choice by default.
        changes: other values for fields of the config (of its language model, if it has more).
    """
    torch.manual_seed(0)
    config = tiny_config(model_type, **changes)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    network = network.float().eval()
    randomize(network)
    return network


def tiny_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """The config of `tiny_architecture`."""
    config_class = CONFIG_MAPPING[model_type]
    parts = set(getattr(config_class, "sub_configs", {}))
    if not parts & {"text_config", "vision_config", "patcher_config"}:
        return config_class(**_options(config_class, changes))
    whole = config_class()
    options = _options(config_class, {} if "text_config" in parts else changes)
    for name in parts:
        part = getattr(whole, name)
        if isinstance(part, PreTrainedConfig):
            own = _options(type(part), changes if name == "text_config" else {})
            options[name] = {"model_type": part.model_type} | own
    return config_class(**options)


def _options(config_class: type[PreTrainedConfig], changes: dict[str, Any]) -> dict[str, Any]:
    """What a config is made with: its sizes, with a fourth layer where layers differ."""
    fields = {field.name: field.default for field in dataclasses.fields(config_class)}
    names = {name for name, default in fields.items() if default or "softcap" not in name}
    sizes = {name: value for name, value in SIZES.items() if name in names}
    if names & {"layer_types", "layers_block_type"}:
        sizes |= {name: 4 for name in sizes if name in ("num_hidden_layers", "num_layers")}
    own = {name: value for name, value in changes.items() if name in names}
    return sizes | OPTIONS.get(config_class.model_type, {}) | own


def randomize(network: PreTrainedModel) -> None:
    """Random weights for which attention is far from uniform, and nothing is zero or one.

    Vectors (gains, biases, gates, sinks) keep the size that the architecture gives them: a draw
    is added. So do the parameters of state spaces, which are stable only there.
    """
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim < 2 or name.endswith("A_log"):
                parameter.add_(0.2 * noise)
            else:  # in wide models less, or rounding grows from layer to layer
                parameter.copy_(min(0.25, 2 * parameter.shape[-1] ** -0.5) * noise)
