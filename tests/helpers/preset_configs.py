"""The configurations of presets' models, as public copies of their config.json have them.

What has no bearing on the network's shape is left out. The presets say where each was read. Models of
the first presets (Llama, Qwen3, …) need no more than their sizes: see `preset_networks`.
"""

from __future__ import annotations

from typing import Any

F, S, L, C = "full_attention", "sliding_attention", "linear_attention", "conv"


def gemma4(vision: dict[str, Any], audio: dict[str, Any] | None, **text: Any) -> dict[str, Any]:
    common = {
        "head_dim": 256,
        "global_head_dim": 512,
        "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "final_logit_softcapping": 30.0,
    }
    return {"text_config": common | text, "vision_config": vision, "audio_config": audio}


SMALL_VISION = {"hidden_size": 768, "num_hidden_layers": 16, "num_attention_heads": 12}
"""Other sizes are transformers' defaults, which are those of google/gemma-4-e2b-it."""
LARGE_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
}


def qwen35(
    n_layers: int, d_model: int, heads: tuple[int, int], values: int, *, tied: bool, **mlp: int
) -> dict[str, Any]:
    return {
        "text_config": {
            "hidden_size": d_model,
            "num_hidden_layers": n_layers,
            "layer_types": [L, L, L, F] * (n_layers // 4),
            "num_attention_heads": heads[0],
            "num_key_value_heads": heads[1],
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": values,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "max_position_embeddings": 262144,
            "vocab_size": 248320,
            "tie_word_embeddings": tied,
        }
        | mlp,
        "tie_word_embeddings": tied,
    }


def olmo3(n_layers: int, d_model: int, heads: tuple[int, int], d_mlp: int) -> dict[str, Any]:
    return {
        "hidden_size": d_model,
        "num_hidden_layers": n_layers,
        "layer_types": [S, S, S, F] * (n_layers // 4),
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": d_mlp,
        "sliding_window": 4096,
        "max_position_embeddings": 65536,
        "vocab_size": 100278,
    }


def granite4(d_model: int, heads: tuple[int, int], layer_types: list[str], **mamba: int) -> dict:
    return {
        "hidden_size": d_model,
        "num_hidden_layers": 40,
        "layer_types": layer_types,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "shared_intermediate_size": 8192,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "mamba_expand": 2,
        "max_position_embeddings": 131072,
        "vocab_size": 100352,
        "tie_word_embeddings": True,
    } | mamba


def ministral3(n_layers: int, d_model: int, d_mlp: int, *, tied: bool) -> dict[str, Any]:
    return {
        "text_config": {
            "model_type": "ministral3",
            "hidden_size": d_model,
            "num_hidden_layers": n_layers,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": d_mlp,
            "max_position_embeddings": 262144,
            "vocab_size": 131072,
            "tie_word_embeddings": tied,
        },
        "tie_word_embeddings": tied,
    }


def lfm2(d_model: int, heads: int, d_mlp: int, layer_types: list[str]) -> dict[str, Any]:
    return {
        "hidden_size": d_model,
        "num_hidden_layers": len(layer_types),
        "layer_types": layer_types,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": d_mlp,
        "block_auto_adjust_ff_dim": False,
        "max_position_embeddings": 128000,
        "vocab_size": 65536,
    }


SHORT_LFM2 = [C, C, F, C, C, F, C, C, F, C, F, C, F, C, F, C]
LONG_LFM2 = [C, C, F] * 2 + [C, C, C, F] * 4 + [C, C, F] * 2 + [C, C]

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma-4-e2b": (
        "gemma4",
        gemma4(
            SMALL_VISION,
            {},
            hidden_size=1536,
            intermediate_size=6144,
            num_hidden_layers=35,
            layer_types=[S, S, S, S, F] * 7,
            num_attention_heads=8,
            num_key_value_heads=1,
            num_kv_shared_layers=20,
            use_double_wide_mlp=True,
            sliding_window=512,
            max_position_embeddings=131072,
        ),
    ),
    "gemma-4-e4b": (
        "gemma4",
        gemma4(
            SMALL_VISION,
            {},
            hidden_size=2560,
            intermediate_size=10240,
            num_hidden_layers=42,
            layer_types=[S, S, S, S, S, F] * 7,
            num_attention_heads=8,
            num_key_value_heads=2,
            num_kv_shared_layers=18,
            sliding_window=512,
            max_position_embeddings=131072,
        ),
    ),
    "gemma-4-26b-a4b": (
        "gemma4",
        gemma4(
            LARGE_VISION,
            None,
            hidden_size=2816,
            intermediate_size=2112,
            moe_intermediate_size=704,
            enable_moe_block=True,
            num_experts=128,
            top_k_experts=8,
            num_hidden_layers=30,
            layer_types=[S, S, S, S, S, F] * 5,
            num_attention_heads=16,
            num_key_value_heads=8,
            num_global_key_value_heads=2,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
            sliding_window=1024,
            max_position_embeddings=262144,
        ),
    ),
    "gemma-4-31b": (
        "gemma4",
        gemma4(
            LARGE_VISION,
            None,
            hidden_size=5376,
            intermediate_size=21504,
            num_hidden_layers=60,
            layer_types=[S, S, S, S, S, F] * 10,
            num_attention_heads=32,
            num_key_value_heads=16,
            num_global_key_value_heads=4,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
            sliding_window=1024,
            max_position_embeddings=262144,
        ),
    ),
    "qwen3.5-0.8b": ("qwen3_5", qwen35(24, 1024, (8, 2), 16, tied=True, intermediate_size=3584)),
    "qwen3.5-2b": ("qwen3_5", qwen35(24, 2048, (8, 2), 16, tied=True, intermediate_size=6144)),
    "qwen3.5-4b": ("qwen3_5", qwen35(32, 2560, (16, 4), 32, tied=True, intermediate_size=9216)),
    "qwen3.5-9b": ("qwen3_5", qwen35(32, 4096, (16, 4), 32, tied=False, intermediate_size=12288)),
    "qwen3.5-27b": ("qwen3_5", qwen35(64, 5120, (24, 4), 48, tied=False, intermediate_size=17408)),
    "qwen3.5-35b-a3b": (
        "qwen3_5_moe",
        qwen35(
            40,
            2048,
            (16, 2),
            32,
            tied=False,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
            num_experts=256,
            num_experts_per_tok=8,
        ),
    ),
    "qwen3-next-80b-a3b-instruct": (
        "qwen3_next",
        {
            "hidden_size": 2048,
            "intermediate_size": 5120,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "num_hidden_layers": 48,
            "layer_types": [L, L, L, F] * 12,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "max_position_embeddings": 262144,
            "vocab_size": 151936,
        },
    ),
    "llama-4-scout-17b-16e-instruct": (
        "llama4",
        {
            "text_config": {
                "hidden_size": 5120,
                "intermediate_size": 8192,
                "intermediate_size_mlp": 16384,
                "interleave_moe_layer_step": 1,
                "num_local_experts": 16,
                "num_experts_per_tok": 1,
                "num_hidden_layers": 48,
                "num_attention_heads": 40,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "attention_chunk_size": 8192,
                "max_position_embeddings": 10485760,
                "vocab_size": 202048,
            }
        },
    ),
    "gpt-oss-20b": (
        "gpt_oss",
        {
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "num_hidden_layers": 24,
            "layer_types": [S, F] * 12,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "sliding_window": 128,
            "max_position_embeddings": 131072,
            "vocab_size": 201088,
        },
    ),
    "olmo-3-1025-7b": ("olmo3", olmo3(32, 4096, (32, 32), 11008)),
    "olmo-3.1-32b-instruct": ("olmo3", olmo3(64, 5120, (40, 8), 27648)),
    "smollm3-3b-base": (
        "smollm3",
        {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "no_rope_layer_interval": 4,
            "max_position_embeddings": 65536,
            "vocab_size": 128256,
        },
    ),
    "granite-4.0-micro": ("granitemoehybrid", granite4(2560, (40, 8), [F] * 40)),
    "granite-4.0-h-micro": (
        "granitemoehybrid",
        granite4(
            2048,
            (32, 8),
            [L, L, L, L, L, F, L, L, L, L] * 4,
            mamba_n_heads=64,
            mamba_d_head=64,
            mamba_d_state=128,
        ),
    ),
    "ministral-3-3b-base": ("mistral3", ministral3(26, 3072, 9216, tied=True)),
    "ministral-3-8b-base": ("mistral3", ministral3(34, 4096, 14336, tied=False)),
    "lfm2-350m": ("lfm2", lfm2(1024, 16, 4608, SHORT_LFM2)),
    "lfm2-700m": ("lfm2", lfm2(1536, 24, 6912, SHORT_LFM2)),
    "lfm2-1.2b": ("lfm2", lfm2(2048, 32, 8192, SHORT_LFM2)),
    "lfm2-2.6b": ("lfm2", lfm2(2048, 32, 10752, LONG_LFM2)),
    "deepseek-v2-lite": (
        "deepseek_v2",
        {
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "first_k_dense_replace": 1,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "q_lora_rank": None,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "max_position_embeddings": 163840,
            "vocab_size": 102400,
        },
    ),
    "mixtral-8x7b-v0.1": (
        "mixtral",
        {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "sliding_window": None,
            "max_position_embeddings": 32768,
            "vocab_size": 32000,
        },
    ),
}
