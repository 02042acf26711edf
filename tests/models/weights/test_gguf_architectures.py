"""Every architecture with unusual settings: a .gguf file gives the model that it was written from."""

import pytest
import torch
from helpers.gguf_files import NAMES, tiny_network, write_gguf

import inactive_heads as ih
from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.architectures import ARCHITECTURES, REFUSED
from inactive_heads.models.weights.gguf.load import GgufFile

IDS = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(1))


def rope(kind="default", theta=500.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = YARN | {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DELTA_NET = {
    "head_dim": 12,
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "linear_conv_kernel_dim": 3,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    **rope(partial_rotary_factor=0.5, mrope_section=[1, 1, 1], mrope_interleaved=True),
}
FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 3.0, 5.0, 9.0]}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 700.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
BIASES = {"attention_bias": True, "mlp_bias": True}
EPS = {"rms_norm_eps": 0.01}

MODELS = {
    "llama": {"head_dim": 12, **BIASES, **EPS, **rope()},
    "llama, rope_freqs": {"head_dim": 8, "tie_word_embeddings": True, **rope("llama3", **LLAMA3)},
    "llama, linear": rope("linear", factor=4.0),
    "llama, yarn": rope("yarn", **YARN),
    "qwen2": EPS | rope("yarn", **YARN),
    "qwen2, tied": EPS | {"tie_word_embeddings": True, **rope(theta=1e6)},
    "qwen2_moe": {"shared_expert_intermediate_size": 40, **EPS, **EXPERTS, **rope()},
    "qwen3": {"head_dim": 12, "attention_bias": True, **EPS, **rope()},
    "qwen3_moe": {"head_dim": 12, "norm_topk_prob": True, **EPS, **EXPERTS, **rope()},
    "qwen3_5_text": DELTA_NET | EPS,
    "qwen3_5_moe_text": DELTA_NET | EXPERTS | {"shared_expert_intermediate_size": 40},
    "gpt_oss": {
        "head_dim": 8,
        "sliding_window": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        **rope("yarn", **YARN, truncate=False),
    },
    "minimax_m2": {
        "head_dim": 12,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        **rope(partial_rotary_factor=0.5),
    },
    "phi3": {"pad_token_id": 0, "sliding_window": 5, **EPS, **rope(partial_rotary_factor=0.5)},
    "phi3, longrope": {
        "pad_token_id": 0,
        "original_max_position_embeddings": 16,
        **rope("longrope", original_max_position_embeddings=16, **FACTORS),
    },
    "gemma2": {
        "head_dim": 12,
        "query_pre_attn_scalar": 12,
        "sliding_window": 4,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        **EPS,
        **rope(),
    },
    "gemma3_text": {
        "head_dim": 12,
        "query_pre_attn_scalar": 12,
        "sliding_window": 4,
        "num_hidden_layers": 7,
        "final_logit_softcapping": 3.0,
        "rope_parameters": GEMMA3_ROPE,
        **EPS,
    },
    "starcoder2": {"norm_epsilon": 0.01, **rope()},
    "stablelm": {
        "layer_norm_eps": 0.01,
        "use_qkv_bias": True,
        "qk_layernorm": True,
        **rope(partial_rotary_factor=0.5),
    },
    "stablelm, parallel": {"use_parallel_residual": True, **rope(partial_rotary_factor=0.25)},
    "nemotron": {"norm_eps": 0.01, **BIASES, **rope(partial_rotary_factor=0.5)},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True, "layer_norm_epsilon": 0.01},
    "falcon, 7B": {"num_kv_heads": 1, "multi_query": True, "layer_norm_epsilon": 0.01},
    "bloom": {"layer_norm_epsilon": 0.01},
    "gpt2": {
        "vocab_size": 97,
        "n_layer": 3,
        "n_embd": 32,
        "n_head": 4,
        "n_positions": 64,
        "n_inner": 48,
        "layer_norm_epsilon": 0.01,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    "lfm2": {
        "layer_types": ["full_attention", "conv", "full_attention"],
        "block_auto_adjust_ff_dim": False,
        "norm_eps": 0.01,
        **rope(),
    },
}
NOT_SHOWN = ("falcon", "bloom", "qwen3_5_text", "qwen3_5_moe_text")
"""Architectures whose heads the flash engine cannot show."""


@pytest.mark.parametrize("case", MODELS)
def test_a_file_gives_the_model_it_was_written_from(case, tmp_path):
    network = tiny_network(case.split(",")[0], **MODELS[case])
    path = write_gguf(tmp_path / "m.gguf", network)
    read = GgufFile(path).network(torch.float32, "eager").eval()
    expected = network(IDS).logits
    torch.testing.assert_close(read(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    if case.split(",")[0] not in NOT_SHOWN:
        run = ih.ablate(ih.load_model(path), [IDS[0].tolist()], None)
        torch.testing.assert_close(run.logits, expected[:, -1], rtol=1e-4, atol=1e-4)


def test_every_architecture_is_tried():
    tried = {NAMES.get(case.split(",")[0], case.split(",")[0]) for case in MODELS}
    assert tried == set(ARCHITECTURES)


def test_no_architecture_of_transformers_is_forgotten():
    """What transformers reads is read here too, refused with a reason, or known to be neither."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    theirs = {NAMES.get(name, name) for name in GGUF_CONFIG_MAPPING}
    unread = theirs - set(ARCHITECTURES) - set(REFUSED) - {"general", "tokenizer"}
    # Mistral's files are "llama"; transformers has no model for "deci"; Gemma 4 is not proven.
    assert unread == {"mistral", "deci", "umt5", "gemma4"}


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("mamba", "no attention heads"), ("t5", "encoder-decoder"), ("gemma4", "only llama, qwen2")],
)
def test_other_architectures_are_refused_by_name(architecture, reason, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", tiny_network("llama"), architecture=architecture)
    with pytest.raises(UserError, match=rf"architecture '{architecture}'.*{reason}") as caught:
        ih.load_model(path)
    assert "\n" not in str(caught.value)


def test_weights_and_frequencies_keep_their_precision_in_16_bits(tmp_path):
    """Frequencies stay in float32: rounded to bfloat16 they would turn other angles."""
    network = tiny_network("llama", head_dim=8, **rope("llama3", **LLAMA3))
    path = write_gguf(tmp_path / "m.gguf", network)
    read = GgufFile(path).network(torch.bfloat16, "eager")
    assert read.lm_head.weight.dtype == torch.bfloat16
    expected = network.model.rotary_emb.inv_freq
    torch.testing.assert_close(read.model.rotary_emb.inv_freq, expected)
    copy = type(read)(read.config)  # whoever builds the network again gets the same angles
    torch.testing.assert_close(copy.model.rotary_emb.inv_freq, expected)
