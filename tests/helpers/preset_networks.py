"""Presets' networks: whole on a device that holds no numbers, and scaled down with random weights."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from helpers.preset_configs import CONFIGS
from inactive_heads.models.preset_sizes import Sizes
from inactive_heads.models.weights.configuration import loader_of

PLAIN = (
    "gpt2",
    "gpt_neox",
    "llama",
    "olmo2",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "mistral",
    "phi",
    "phi3",
)
"""Architectures whose configuration follows from a preset's sizes."""
VOCABULARY, WINDOW, D_MODEL = 97, 4, 32
TINY: dict[str, int] = {
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "intermediate_size": 48,
    "intermediate_size_mlp": 48,
    "shared_intermediate_size": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "top_k_experts": 2,
    "n_shared_experts": 1,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "max_position_embeddings": 64,
}
"""What a size becomes, where a model has it; what is 0 or None in the model stays so."""
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "patch_size": 4,
    "image_size": 8,
}
AUDIO = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "output_proj_dims": 16,
    "subsampling_conv_channels": [8, 4],
}


def plain_options(sizes: Sizes, *, tied: bool) -> dict[str, Any]:
    """The configuration of a model that is known by its sizes."""
    options = {
        "vocab_size": sizes.d_vocab,
        "hidden_size": sizes.d_model,
        "intermediate_size": sizes.d_mlp,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_key_value_heads,
        "head_dim": sizes.d_head,
        "max_position_embeddings": sizes.n_ctx,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
    }
    if sizes.architecture == "gpt2":
        return {
            "vocab_size": sizes.d_vocab,
            "n_embd": sizes.d_model,
            "n_inner": sizes.d_mlp,
            "n_layer": sizes.n_layers,
            "n_head": sizes.n_heads,
            "n_positions": sizes.n_ctx,
        }
    if sizes.architecture == "gpt_neox":
        del options["num_key_value_heads"], options["head_dim"]
    return options


def projections(
    network: PreTrainedModel,
) -> dict[int, tuple[torch.nn.Module, torch.nn.Module]]:
    """Layer → its attention and the attention's output projection, in the decoder of text."""
    found = {}
    for name, module in network.named_modules():
        at = re.search(r"layers\.(\d+)\.self_attn$", name)
        if at and "vision" not in name and "audio" not in name:
            output = module.o_proj if hasattr(module, "o_proj") else module.out_proj
            found[int(at[1])] = module, output
    return found


def built(architecture: str, options: dict[str, Any]) -> PreTrainedModel:
    """A network of a configuration, by the class that a stored one is loaded with."""
    config = AutoConfig.for_model(architecture, **copy.deepcopy(options))
    network: PreTrainedModel = loader_of(config).from_config(config)
    return network


def whole(name: str) -> PreTrainedModel:
    """The network of a preset in `CONFIGS`, without numbers."""
    with torch.device("meta"):
        network = built(*CONFIGS[name])
    network.tie_weights()
    return network


def tiny(name: str) -> PreTrainedModel:
    """A small network with the head ratios, windows, gates and kinds of layers of a preset."""
    architecture, options = CONFIGS[name]
    small = copy.deepcopy(options)
    text = small.get("text_config", small)
    text.update(_scaled(text))
    if small.get("vision_config") is not None or architecture == "mistral3":
        small["vision_config"] = VISION | {"model_type": f"{architecture}_vision"}
        if architecture == "mistral3":
            small["vision_config"]["model_type"] = "pixtral"
    if small.get("audio_config") is not None:
        small["audio_config"] = AUDIO
    torch.manual_seed(0)
    network = built(architecture, small).eval().requires_grad_(False)
    for name_of, weight in network.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.25)
        elif "norm" not in name_of:
            torch.nn.init.normal_(weight, std=0.3)
    return network


def _scaled(text: dict[str, Any]) -> dict[str, Any]:
    scaled: dict[str, Any] = {
        key: TINY[key] for key, value in text.items() if value and key in TINY
    }
    scaled |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    counts = [
        key
        for key in ("num_attention_heads", "num_key_value_heads", "num_global_key_value_heads")
        if text.get(key)
    ]
    shared = math.gcd(*(text[key] for key in counts))
    if text["num_attention_heads"] == shared:  # as many key/value heads: keep two
        shared //= 2
    scaled |= {key: text[key] // shared for key in counts}
    n_heads, d_model = scaled["num_attention_heads"], text["hidden_size"]
    widths = {key: text[key] // 16 for key in ("head_dim", "global_head_dim") if key in text}
    scaled |= {key: max(width, 8) for key, width in widths.items()}
    fills = "head_dim" not in text or text["head_dim"] * text["num_attention_heads"] == d_model
    scaled["hidden_size"] = n_heads * scaled.get("head_dim", 8) if fills else D_MODEL
    if "mamba_expand" in text:
        scaled |= {"mamba_n_heads": 4, "mamba_d_head": scaled["hidden_size"] // 2}
    if "linear_num_key_heads" in text:
        times = text["linear_num_value_heads"] // text["linear_num_key_heads"]
        scaled |= {"linear_num_key_heads": 2, "linear_num_value_heads": 2 * times}
    return scaled | _layers(text)


def _layers(text: dict[str, Any]) -> dict[str, Any]:
    """The first layers, with every kind that the model has."""
    kinds = text.get("layer_types")
    if kinds is None:
        return {"num_hidden_layers": 4}
    period = next(n for n in range(1, len(kinds) + 1) if kinds == kinds[:n] * (len(kinds) // n))
    if text.get("num_kv_shared_layers"):  # the second half reads the first half's keys and values
        return {
            "num_hidden_layers": 2 * period,
            "layer_types": kinds[: 2 * period],
            "num_kv_shared_layers": period,
        }
    n_layers = max(2, min(period, 6))
    return {"num_hidden_layers": n_layers, "layer_types": kinds[:n_layers]}
