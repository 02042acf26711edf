"""What the metadata of each architecture says, as the options of its transformers config."""

from __future__ import annotations

from inactive_heads.models.weights.gguf.metadata import Metadata
from inactive_heads.models.weights.gguf.rope import LLAMA_BASE, rope_parameters
from inactive_heads.models.weights.gguf.shared_options import (
    ATTENTION_BIASES,
    QKV_BIASES,
    Options,
    attention_options,
    decoder_options,
    derived_head_width,
    expert_options,
    head_width,
    key_value_heads,
    layer_norm_options,
    layer_types,
    model_sizes,
)

MLP_BIASES = ("ffn_gate.bias", "ffn_up.bias", "ffn_down.bias")
SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN = 1, 2, 3
"""Values of expert_gating_func."""

BLOOM_ALIBI = 8.0


def llama(keys: Metadata) -> Options:
    """Llama, and Mistral without a window."""
    keys.expect("expert_count", 0)
    keys.expect("expert_used_count", 0)
    return decoder_options(keys) | {"mlp_bias": keys.has_tensor(*MLP_BIASES)}


def qwen2(keys: Metadata) -> Options:
    """Qwen 2 and 2.5. The width of a head follows from the model's; q, k and v have biases."""
    options = decoder_options(keys)
    derived_head_width(keys, options)
    del options["head_dim"], options["attention_bias"]
    return options | {"use_sliding_window": False}


def qwen3(keys: Metadata) -> Options:
    """Qwen 3."""
    return decoder_options(keys) | {"use_sliding_window": False}


def _qwen_experts(keys: Metadata, *, normalized: bool) -> Options:
    return expert_options(keys, SOFTMAX, normalized=normalized) | {
        "num_experts": keys.size("expert_count"),
        "moe_intermediate_size": keys.size("expert_feed_forward_length"),
        "norm_topk_prob": normalized,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def qwen2moe(keys: Metadata) -> Options:
    """Qwen 1.5 and 2 with experts, one of them shared."""
    shared = keys.size("expert_shared_feed_forward_length")
    options = qwen2(keys) | _qwen_experts(keys, normalized=False)
    options["qkv_bias"] = keys.has_tensor(*QKV_BIASES)
    return options | {"shared_expert_intermediate_size": shared}


def qwen3moe(keys: Metadata) -> Options:
    """Qwen 3 with experts."""
    return qwen3(keys) | _qwen_experts(keys, normalized=True)


def gpt_oss(keys: Metadata) -> Options:
    """gpt-oss: every other layer has a window, beginning with the first."""
    options = decoder_options(keys) | expert_options(keys, SOFTMAX_OF_CHOSEN, normalized=False)
    keys.expect("expert_feed_forward_length", options["intermediate_size"])
    options["rope_parameters"]["truncate"] = False
    return options | {
        "num_local_experts": keys.size("expert_count"),
        "sliding_window": keys.size("attention.sliding_window"),
        "layer_types": layer_types(keys, 2),
    }


def minimax_m2(keys: Metadata) -> Options:
    """MiniMax M2: experts chosen by sigmoids, a part of each head rotated."""
    options = decoder_options(keys, partial=True) | expert_options(keys, SIGMOID, normalized=True)
    keys.expect("expert_feed_forward_length", options["intermediate_size"])
    del options["attention_bias"]
    return options | {"num_local_experts": keys.size("expert_count")}


def phi3(keys: Metadata) -> Options:
    """Phi 3, 3.5 and 4."""
    sizes = model_sizes(keys)
    rope = rope_parameters(keys, derived_head_width(keys, sizes), partial=True)
    return sizes | {
        "intermediate_size": keys.size("feed_forward_length"),
        "num_key_value_heads": key_value_heads(keys, sizes),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "original_max_position_embeddings": rope.get(
            "original_max_position_embeddings", sizes["max_position_embeddings"]
        ),
        "sliding_window": keys.count("attention.sliding_window") or None,
    }


def _gemma(keys: Metadata, largest: int) -> Options:
    """Gemma 2 and 3. ``largest`` is the number of layers of the 27B model, which scales q anew."""
    options = decoder_options(keys)
    derived = options["hidden_size"] // options["num_attention_heads"]
    of_27b = options["num_hidden_layers"] == largest
    return options | {"query_pre_attn_scalar": derived if of_27b else options["head_dim"]}


def gemma2(keys: Metadata) -> Options:
    """Gemma 2: every other layer has a window, beginning with the first."""
    return _gemma(keys, 46) | {
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0),
        "sliding_window": keys.size("attention.sliding_window"),
        "layer_types": layer_types(keys, 2),
    }


def gemma3(keys: Metadata) -> Options:
    """Gemma 3: five layers of six have a window and a base frequency of their own."""
    options = _gemma(keys, 62)
    capping = "final_logit_softcapping"
    window = keys.count("attention.sliding_window")
    types = layer_types(keys, 6)
    options["rope_parameters"] = {
        "full_attention": options["rope_parameters"],
        "sliding_attention": {
            "rope_type": "default",
            "rope_theta": keys.number("rope.freq_base_swa", LLAMA_BASE),
        },
    }
    return options | {
        "final_logit_softcapping": keys.number(capping) if keys.has(capping) else None,
        "sliding_window": window or options["max_position_embeddings"],
        "layer_types": types if window else ["full_attention"] * len(types),
    }


def starcoder2(keys: Metadata) -> Options:
    """StarCoder 2. Its files do not store the window of the original models."""
    return layer_norm_options(keys, "norm_epsilon", partial=False) | {
        "use_bias": True,
        "sliding_window": None,
    }


def stablelm(keys: Metadata) -> Options:
    """StableLM. What the layers are made of follows from the tensors, as in llama.cpp."""
    keys.known(["use_parallel_residual"])
    return layer_norm_options(keys, "layer_norm_eps", partial=True) | {
        "use_qkv_bias": keys.has_tensor(*QKV_BIASES),
        "use_parallel_residual": not keys.has_tensor("ffn_norm.weight"),
        "qk_layernorm": keys.has_tensor("attn_q_norm.weight", "attn_k_norm.weight"),
    }


def nemotron(keys: Metadata) -> Options:
    """Nemotron and Minitron."""
    sizes = model_sizes(keys)
    head_dim = head_width(keys, sizes)
    # The converter writes the same epsilon under both keys.
    epsilon = keys.number("attention.layer_norm_epsilon")
    keys.expect("attention.layer_norm_rms_epsilon", epsilon)
    return sizes | {
        "intermediate_size": keys.size("feed_forward_length"),
        "num_key_value_heads": key_value_heads(keys, sizes),
        "head_dim": head_dim,
        "norm_eps": epsilon,
        "rope_parameters": rope_parameters(keys, head_dim, partial=True),
        "attention_bias": keys.has_tensor(*ATTENTION_BIASES),
        "mlp_bias": keys.has_tensor(*MLP_BIASES),
    }


def falcon(keys: Metadata) -> Options:
    """Falcon 7B, 40B, 180B and Falcon 2 11B."""
    sizes = model_sizes(keys)
    head_dim = derived_head_width(keys, sizes)
    kv_heads = key_value_heads(keys, sizes)
    two_norms = keys.has_tensor("attn_norm_2.weight")
    return sizes | {
        "ffn_hidden_size": keys.size("feed_forward_length"),
        "num_kv_heads": kv_heads,
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
        "rope_parameters": rope_parameters(keys, head_dim),
        "new_decoder_architecture": two_norms or kv_heads > 1,
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
        "bias": keys.has_tensor("attn_qkv.bias", "attn_output.bias", *MLP_BIASES),
    }


def gpt2(keys: Metadata) -> Options:
    """GPT-2."""
    sizes = model_sizes(keys)
    derived_head_width(keys, sizes)
    keys.expect("attention.head_count_kv", sizes["num_attention_heads"])
    return {
        "n_layer": sizes["num_hidden_layers"],
        "n_embd": sizes["hidden_size"],
        "n_head": sizes["num_attention_heads"],
        "n_positions": sizes["max_position_embeddings"],
        "n_inner": keys.size("feed_forward_length"),
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
    }


def bloom(keys: Metadata) -> Options:
    """BLOOM."""
    sizes = model_sizes(keys)
    derived_head_width(keys, sizes)
    keys.expect("attention.head_count_kv", sizes["num_attention_heads"])
    keys.expect("feed_forward_length", 4 * sizes["hidden_size"])
    keys.expect("attention.max_alibi_bias", BLOOM_ALIBI)
    return {
        "n_layer": sizes["num_hidden_layers"],
        "hidden_size": sizes["hidden_size"],
        "n_head": sizes["num_attention_heads"],
        "seq_length": sizes["max_position_embeddings"],
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
    }


def lfm2(keys: Metadata) -> Options:
    """LFM2: layers with short convolutions have no key/value heads."""
    sizes = model_sizes(keys)
    head_dim = derived_head_width(keys, sizes)
    kv_heads = keys.per_layer("attention.head_count_kv", sizes["num_hidden_layers"])
    if len(set(kv_heads) - {0}) != 1:
        raise keys.refusal("attention.head_count_kv", "one number for all layers with heads")
    return sizes | {
        "intermediate_size": keys.size("feed_forward_length"),
        "block_auto_adjust_ff_dim": False,
        "num_key_value_heads": max(kv_heads),
        "layer_types": ["full_attention" if n else "conv" for n in kv_heads],
        "norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "conv_L_cache": keys.size("shortconv.l_cache"),
        "conv_bias": keys.has_tensor("shortconv.conv.bias", "shortconv.in_proj.bias"),
        "rope_parameters": rope_parameters(keys, head_dim),
    }


def qwen35(keys: Metadata) -> Options:
    """Qwen 3.5: gated delta nets, and attention in every n-th layer."""
    options = attention_options(keys, partial=True)
    # All axes of a text's positions are equal, so these sections change nothing.
    sections = [n for n in keys.per_item("rope.dimension_sections") if n]
    if sections:
        options["rope_parameters"] |= {"mrope_section": sections, "mrope_interleaved": True}
    if keys.has("feed_forward_length"):
        options["intermediate_size"] = keys.size("feed_forward_length")
    n_layers = options["num_hidden_layers"] - predicting_layers(keys)
    period = keys.size("full_attention_interval", 4)
    value_heads, inner = keys.size("ssm.time_step_rank"), keys.size("ssm.inner_size")
    return options | {
        "num_hidden_layers": n_layers,
        "layer_types": [
            "linear_attention" if (i + 1) % period else "full_attention" for i in range(n_layers)
        ],
        "linear_conv_kernel_dim": keys.size("ssm.conv_kernel"),
        "linear_key_head_dim": keys.size("ssm.state_size"),
        "linear_num_key_heads": keys.size("ssm.group_count"),
        "linear_num_value_heads": value_heads,
        "linear_value_head_dim": inner // value_heads,
    }


def predicting_layers(keys: Metadata) -> int:
    """How many of the last layers predict further tokens, and are no part of the model itself."""
    n_layers = keys.count("nextn_predict_layers")
    if n_layers >= keys.size("block_count"):
        raise keys.refusal("nextn_predict_layers", "the model has no other layers")
    return n_layers


def qwen35moe(keys: Metadata) -> Options:
    """Qwen 3.5 with experts, one of them shared."""
    return (
        qwen35(keys)
        | expert_options(keys, SOFTMAX, normalized=True)
        | {
            "num_experts": keys.size("expert_count"),
            "moe_intermediate_size": keys.size("expert_feed_forward_length"),
            "shared_expert_intermediate_size": keys.size("expert_shared_feed_forward_length"),
        }
    )
