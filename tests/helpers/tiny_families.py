"""Tiny models with random weights, one of each architecture, and inputs for them."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

N_HEADS, D_HEAD = 4, 8
MULTIPLIER = 0.3
"""By which Granite multiplies what it adds to the residual stream."""
GROUPED = {"num_key_value_heads": 2}
ARCHITECTURES = {
    "gpt2": {"n_head": N_HEADS, "n_layer": 3, "n_embd": 32, "n_positions": 64},
    "gpt_neox": {"intermediate_size": 64},
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": D_HEAD},
    "olmo2": GROUPED,
    "mistral": GROUPED | {"sliding_window": 4},
    "gemma2": GROUPED | {"head_dim": D_HEAD, "sliding_window": 4, "attn_logit_softcapping": 2.0},
    "gemma3_text": GROUPED | {"head_dim": D_HEAD, "sliding_window": 4},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": GROUPED | {"pad_token_id": 0, "sliding_window": 4, "partial_rotary_factor": 0.75},
    "gpt_oss": GROUPED | {"head_dim": D_HEAD, "sliding_window": 4, "num_local_experts": 4},
    "granite": GROUPED | {"residual_multiplier": MULTIPLIER},
    "lfm2": GROUPED | {"layer_types": ["full_attention", "conv", "full_attention"]},
}
_SMALL = GROUPED | {"head_dim": D_HEAD}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["full_attention", "linear_attention", "full_attention"],
}
GATED = {
    "bitnet": GROUPED,  # a norm of all heads together
    "afmoe": _SMALL | {"sliding_window": 4, "num_dense_layers": 3},  # a gate for every coordinate
    "laguna": _SMALL | {"sliding_window": 4, "mlp_layer_types": ["dense"] * 3},  # for every head
    "qwen3_5_text": _SMALL | _LINEAR,
    "qwen3_next": _SMALL | _LINEAR | {"mlp_only_layers": [0, 1, 2]},
}
"""Architectures that put a norm or a gate between attention and its output projection."""
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LENGTHS = (11, 7, 1, 9)


def tiny(model_type, **options):
    """A model with random weights, large enough that attention is far from uniform."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 97} if model_type == "gpt2" else SIZES
    config = AutoConfig.for_model(
        model_type, **(sizes | (ARCHITECTURES | GATED).get(model_type, {}) | options)
    )
    network = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.25)
        elif "norm" not in name and "ln" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def samples(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 97, (n,), generator=generator).tolist() for n in lengths]


def attention_modules(network):
    """layer → its attention."""
    return {
        module.layer_idx: module
        for name, module in network.named_modules()
        if name.endswith(("attn", "attention")) and hasattr(module, "layer_idx")
    }
