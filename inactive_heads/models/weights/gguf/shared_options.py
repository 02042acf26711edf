"""The options that several architectures' configs share, as the metadata says them."""

from __future__ import annotations

from typing import Any

from inactive_heads.models.weights.gguf.metadata import Metadata
from inactive_heads.models.weights.gguf.rope import rope_parameters

QKV_BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
ATTENTION_BIASES = (*QKV_BIASES, "attn_output.bias")

Options = dict[str, Any]
"""Keyword arguments of a transformers config."""


def model_sizes(keys: Metadata) -> Options:
    """Layers, width, heads and context."""
    return {
        "num_hidden_layers": keys.size("block_count"),
        "hidden_size": keys.size("embedding_length"),
        "num_attention_heads": keys.size("attention.head_count"),
        "max_position_embeddings": keys.size("context_length"),
    }


def head_width(keys: Metadata, sizes: Options) -> int:
    """The width of a head: as the file says, or the model's width over the heads."""
    derived = sizes["hidden_size"] // sizes["num_attention_heads"]
    head_dim = keys.size("attention.key_length", derived)
    keys.expect("attention.value_length", head_dim)
    return head_dim


def derived_head_width(keys: Metadata, sizes: Options) -> int:
    """The width of a head in architectures where it always follows from the model's width."""
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise keys.refusal("attention.head_count", "the model's width is no multiple of it")
    derived: int = sizes["hidden_size"] // sizes["num_attention_heads"]
    keys.expect("attention.key_length", derived)
    keys.expect("attention.value_length", derived)
    return derived


def attention_options(keys: Metadata, *, partial: bool = False) -> Options:
    """Grouped-query attention, RMS norms, rotary positions."""
    sizes = model_sizes(keys)
    head_dim = head_width(keys, sizes)
    return sizes | {
        "num_key_value_heads": key_value_heads(keys, sizes),
        "head_dim": head_dim,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(keys, head_dim, partial=partial),
        "attention_bias": keys.has_tensor(*ATTENTION_BIASES),
    }


def decoder_options(keys: Metadata, *, partial: bool = False) -> Options:
    """What most architectures share."""
    return attention_options(keys, partial=partial) | {
        "intermediate_size": keys.size("feed_forward_length")
    }


def key_value_heads(keys: Metadata, sizes: Options) -> int:
    """Key/value heads per layer, a divisor of the query heads."""
    n_heads: int = sizes["num_attention_heads"]
    n_kv_heads = keys.size("attention.head_count_kv", n_heads)
    if n_heads % n_kv_heads:
        raise keys.refusal("attention.head_count_kv", f"{n_heads} heads cannot share so many")
    return n_kv_heads


def layer_norm_options(keys: Metadata, epsilon: str, *, partial: bool) -> Options:
    """Grouped-query attention, layer norms with biases, rotary positions."""
    sizes = model_sizes(keys)
    head_dim = derived_head_width(keys, sizes)
    return sizes | {
        "intermediate_size": keys.size("feed_forward_length"),
        "num_key_value_heads": key_value_heads(keys, sizes),
        epsilon: keys.number("attention.layer_norm_epsilon"),
        "rope_parameters": rope_parameters(keys, head_dim, partial=partial),
    }


def expert_options(keys: Metadata, gating: int, *, normalized: bool) -> Options:
    """Experts per token; how they are gated and weighted has to be what the architecture does."""
    keys.expect("expert_gating_func", gating)
    keys.expect("expert_weights_norm", normalized)
    keys.expect("expert_weights_scale", 0.0, 1.0)
    keys.expect("expert_group_count", 0, 1)
    keys.expect("expert_group_used_count", 0, 1)
    return {"num_experts_per_tok": keys.size("expert_used_count")}


def layer_types(keys: Metadata, period: int) -> list[str]:
    """Which layers have a window: as the file says, or all but the last of each ``period``."""
    n_layers, key = keys.size("block_count"), "attention.sliding_window_pattern"
    if keys.is_array(key):
        windowed = [bool(n) for n in keys.per_layer(key, n_layers)]
    else:
        period = keys.size(key, period)
        windowed = [(i + 1) % period != 0 for i in range(n_layers)]
    return ["sliding_attention" if each else "full_attention" for each in windowed]
