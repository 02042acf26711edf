"""The architectures that are read, and which tensors of the file become which weights.

Names are those of transformers' modules and of llama.cpp's tensors. Where they lack ".weight" or
".bias", both are meant. A layer's names stand without the layer's number in front; "*"
stands for the number of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inactive_heads.models.weights.gguf import configs, layouts
from inactive_heads.models.weights.gguf.layouts import Made
from inactive_heads.models.weights.gguf.metadata import Metadata

Names = Mapping[str, str | Made]


@dataclass(frozen=True)
class Architecture:
    """How an architecture of llama.cpp becomes a model of transformers.

    Attributes:
        model_type: transformers' name.
        config: the options of transformers' config; it reads every key that matters.
        layer: the weights of a layer.
        top: the weights outside the layers.
        trained_further: how many layers after the model's own predict further tokens; they are not
            part of the model, and their tensors are left unread.
    """

    model_type: str
    config: Callable[[Metadata], dict[str, Any]]
    layer: Names
    top: Names
    trained_further: Callable[[Metadata], int] = field(default=lambda keys: 0)


TOP: Names = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
ATTENTION: Names = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
}
GATED_MLP: Names = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
DECODER: Names = {**ATTENTION, **GATED_MLP}
EXPERTS: Names = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": Made(
        ("ffn_gate_exps.weight", "ffn_up_exps.weight"), layouts.stacked_rows
    ),
    "mlp.experts.down_proj": Made(("ffn_down_exps.weight",), layouts.unchanged),
}
SHARED_EXPERT: Names = {
    "mlp.shared_expert_gate": Made(("ffn_gate_inp_shexp",), layouts.one_row),
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}


def _shifted(names: Names) -> Names:
    """The same names, where the file has added 1 to the weights."""
    return {k: Made((v,), layouts.minus_one) for k, v in names.items() if isinstance(v, str)}


GEMMA_NORMS: Names = {
    "input_layernorm": "attn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GEMMA: Names = {**DECODER, **_shifted(GEMMA_NORMS)}
GEMMA_TOP: Names = {**TOP, **_shifted({"model.norm": "output_norm"})}

QWEN35: Names = {
    **DECODER,
    **_shifted(
        {
            "input_layernorm": "attn_norm",
            "post_attention_layernorm": "post_attention_norm",
            "self_attn.q_norm": "attn_q_norm",
            "self_attn.k_norm": "attn_k_norm",
        }
    ),
    "linear_attn.norm": "ssm_norm",
    "linear_attn.A_log": Made(("ssm_a",), layouts.log_of_minus),
    "linear_attn.dt_bias": Made(("ssm_dt.bias",), layouts.by_key_head),
    "linear_attn.in_proj_a": Made(("ssm_alpha",), layouts.by_key_head),
    "linear_attn.in_proj_b": Made(("ssm_beta",), layouts.by_key_head),
    "linear_attn.in_proj_z": Made(("attn_gate",), layouts.by_key_head),
    "linear_attn.in_proj_qkv": Made(("attn_qkv",), layouts.qkv_by_key_head),
    "linear_attn.conv1d": Made(("ssm_conv1d",), layouts.kernel_by_key_head),
    "linear_attn.out_proj": Made(("ssm_out",), layouts.columns_by_key_head),
}


PHI3: Names = {
    "input_layernorm": "attn_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LLAMA: Names = {
    **DECODER,
    "self_attn.q_proj": Made(("attn_q",), layouts.halves_of_heads),
    "self_attn.k_proj": Made(("attn_k",), layouts.halves_of_key_heads),
}
GPT_OSS: Names = {
    **ATTENTION,
    "post_attention_layernorm": "post_attention_norm",
    "self_attn.sinks": Made(("attn_sinks.weight",), layouts.unchanged),
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": Made(
        ("ffn_gate_exps.weight", "ffn_up_exps.weight"), layouts.interleaved_columns
    ),
    "mlp.experts.gate_up_proj_bias": Made(
        ("ffn_gate_exps.bias", "ffn_up_exps.bias"), layouts.interleaved
    ),
    "mlp.experts.down_proj": Made(("ffn_down_exps.weight",), layouts.transposed),
    "mlp.experts.down_proj_bias": Made(("ffn_down_exps.bias",), layouts.unchanged),
}
NEMOTRON: Names = {
    **DECODER,
    "input_layernorm.weight": Made(("attn_norm.weight",), layouts.minus_one),
    "post_attention_layernorm.weight": Made(("ffn_norm.weight",), layouts.minus_one),
}
NEMOTRON_TOP: Names = {
    **TOP,
    "model.norm.weight": Made(("output_norm.weight",), layouts.minus_one),
}
STABLELM: Names = {
    **DECODER,
    "self_attn.q_layernorm.norms.*.weight": "attn_q_norm.weight",
    "self_attn.k_layernorm.norms.*.weight": "attn_k_norm.weight",
}
FALCON: Names = {
    "self_attention.query_key_value": Made(("attn_qkv",), layouts.groups_of_heads),
    "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
    "input_layernorm": "attn_norm",
    "ln_attn": "attn_norm_2",
    "ln_mlp": "attn_norm",
}
OLD_TOP: Names = {
    "transformer.word_embeddings": "token_embd",
    "transformer.word_embeddings_layernorm": "token_embd_norm",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}
BLOOM: Names = {
    "input_layernorm": "attn_norm",
    "self_attention.query_key_value": Made(("attn_qkv",), layouts.qkv_of_heads),
    "self_attention.dense": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}
GPT2: Names = {
    "ln_1": "attn_norm",
    "attn.c_attn": Made(("attn_qkv",), layouts.transposed),
    "attn.c_proj": Made(("attn_output",), layouts.transposed),
    "ln_2": "ffn_norm",
    "mlp.c_fc": Made(("ffn_up",), layouts.transposed),
    "mlp.c_proj": Made(("ffn_down",), layouts.transposed),
}
GPT2_TOP: Names = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}
LFM2: Names = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "conv.conv": Made(("shortconv.conv",), layouts.kernel),
}

LFM2_TOP: Names = {**TOP, "model.embedding_norm": "token_embd_norm"}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", configs.llama, LLAMA, TOP),
    "qwen2": Architecture("qwen2", configs.qwen2, DECODER, TOP),
    "qwen2moe": Architecture(
        "qwen2_moe", configs.qwen2moe, {**ATTENTION, **EXPERTS, **SHARED_EXPERT}, TOP
    ),
    "qwen3": Architecture("qwen3", configs.qwen3, DECODER, TOP),
    "qwen3moe": Architecture("qwen3_moe", configs.qwen3moe, {**ATTENTION, **EXPERTS}, TOP),
    "qwen35": Architecture(
        "qwen3_5_text", configs.qwen35, QWEN35, GEMMA_TOP, configs.predicting_layers
    ),
    "qwen35moe": Architecture(
        "qwen3_5_moe_text",
        configs.qwen35moe,
        {**QWEN35, **EXPERTS, **SHARED_EXPERT},
        GEMMA_TOP,
        configs.predicting_layers,
    ),
    "gpt-oss": Architecture("gpt_oss", configs.gpt_oss, GPT_OSS, TOP),
    "minimax-m2": Architecture(
        "minimax_m2",
        configs.minimax_m2,
        {
            **ATTENTION,
            **EXPERTS,
            "mlp.e_score_correction_bias": Made(("exp_probs_b.bias",), layouts.unchanged),
        },
        TOP,
    ),
    "phi3": Architecture("phi3", configs.phi3, PHI3, TOP),
    "gemma2": Architecture("gemma2", configs.gemma2, GEMMA, GEMMA_TOP),
    "gemma3": Architecture("gemma3_text", configs.gemma3, GEMMA, GEMMA_TOP),
    "starcoder2": Architecture(
        "starcoder2",
        configs.starcoder2,
        {**ATTENTION, "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
        TOP,
    ),
    "stablelm": Architecture("stablelm", configs.stablelm, STABLELM, TOP),
    "nemotron": Architecture("nemotron", configs.nemotron, NEMOTRON, NEMOTRON_TOP),
    "falcon": Architecture("falcon", configs.falcon, FALCON, OLD_TOP),
    "bloom": Architecture("bloom", configs.bloom, BLOOM, OLD_TOP),
    "gpt2": Architecture("gpt2", configs.gpt2, GPT2, GPT2_TOP),
    "lfm2": Architecture("lfm2", configs.lfm2, LFM2, LFM2_TOP),
}
"""By llama.cpp's name of the architecture."""

KNOWN_KEYS = ("vocab_size", "tensor_data_layout")
"""Keys of any architecture that do not change what a model computes; vocab_size is checked."""

REFUSED = {
    "mamba": "it has no attention heads",
    "mamba2": "it has no attention heads",
    "rwkv6": "it has no attention heads",
    "rwkv7": "it has no attention heads",
    "t5": "it is an encoder-decoder; only decoders can be scored",
    "t5encoder": "it is an encoder; only decoders can be scored",
    "bert": "it is an encoder; only decoders can be scored",
    "nomic-bert": "it is an encoder; only decoders can be scored",
}
"""Why some other architectures cannot be scored at all."""
