"""Weights in 4 and 8 bits, as gpt-oss and Ministral 3 store them, are unpacked as they are read."""

import json

import pytest
import torch
from helpers.tiny_models import tiny, tiny_llama
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig

import inactive_heads as ih
from inactive_heads.models.weights.checkpoint import Checkpoint

TOKENS = [5, 6, 7, 8, 9, 10]
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The numbers of 4 bits: a sign, two bits of exponent, one of mantissa."""
FP8 = {
    "blocks": {"activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "tensors": {
        "activation_scheme": "static",
        "dequantize": False,
        "weight_block_size": None,
        "modules_to_not_convert": ["lm_head"],
    },
}


def write(folder, network, tensors, quantization):
    network.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config))


def read_back(folder, network, method):
    """The packed model is the one whose weights are the unpacked numbers."""
    assert Checkpoint("tiny", folder).config.quantization_config["dequantize"] is True
    model = ih.load_model(folder, dtype="float32")
    assert model.provenance["unpacked_from"] == method
    with torch.no_grad():
        expected = network(input_ids=torch.tensor([TOKENS])).logits[:, -1]
    found = torch.as_tensor(ih.ablate(model, [TOKENS], None).logits)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_experts_in_mxfp4(tmp_path):
    network = tiny(
        GptOssConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=4,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    tensors = {}
    for name, weight in network.named_parameters():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            n_experts, inputs, outputs = weight.shape
            numbers = torch.randint(0, 16, (n_experts, outputs, inputs))
            scales = torch.randint(120, 126, (n_experts, outputs, inputs // 32))
            pairs = numbers.unflatten(-1, (-1, 16, 2))  # the first number in the lower 4 bits
            tensors[f"{name}_blocks"] = (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8)
            tensors[f"{name}_scales"] = scales.to(torch.uint8)
            factors = (2.0 ** (scales - 127)).repeat_interleave(32, dim=-1)
            weight.data = (FP4[numbers] * factors).transpose(1, 2).contiguous()
        else:
            tensors[name] = weight.data.to(torch.bfloat16)
            weight.data = tensors[name].float()
    kept = [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ]
    write(tmp_path, network, tensors, {"quant_method": "mxfp4", "modules_to_not_convert": kept})
    read_back(tmp_path, network, "mxfp4")


@pytest.mark.parametrize("per", FP8)
def test_matrices_in_fp8(per, tmp_path):
    network = tiny_llama(hidden_size=64, intermediate_size=128)
    tensors = {}
    for name, weight in network.named_parameters():
        if name.endswith("_proj.weight"):
            tensors[name] = (weight.data * 100).to(torch.float8_e4m3fn)
            scale = torch.tensor(0.0125)  # one block holds the whole matrix
            tensors[f"{name}_scale_inv"] = scale.reshape(1, 1) if per == "blocks" else scale.clone()
            if per == "tensors":
                tensors[name.replace("weight", "activation_scale")] = torch.tensor(1.0)
            weight.data = tensors[name].float() * scale
        else:
            tensors[name] = weight.data.to(torch.bfloat16)
            weight.data = tensors[name].float()
    write(tmp_path, network, tensors, {"quant_method": "fp8"} | FP8[per])
    assert {one.dtype for one in load_file(tmp_path / "model.safetensors").values()} > {
        torch.float8_e4m3fn
    }
    read_back(tmp_path, network, "fp8")
