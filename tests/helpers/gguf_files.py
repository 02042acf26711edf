"""Tiny models of every architecture as .gguf files, laid out as llama.cpp's converter does it.

Names of tensors are those of the package ``gguf``; layouts and keys are written here anew, so that
the reader is checked against something else than itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

NAMES = {
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "qwen3_5_text": "qwen35",
    "qwen3_5_moe_text": "qwen35moe",
    "gpt_oss": "gpt-oss",
    "minimax_m2": "minimax-m2",
    "gemma3_text": "gemma3",
}
"""llama.cpp's names of architectures, where they are not transformers'."""

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
SHIFTED = ("gemma2", "gemma3_text", "nemotron", "qwen3_5_text", "qwen3_5_moe_text")
"""Models whose norms multiply by 1 + weight."""

Arrays = dict[str, np.ndarray]


def tiny_network(model_type: str, **options) -> PreTrainedModel:
    """A model with random weights, none of them at its default."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **({} if model_type == "gpt2" else SIZES) | options)
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, weight in network.state_dict().items():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.25)
        elif name.endswith("A_log"):
            torch.nn.init.uniform_(weight, 0.0, 2.0)
        elif "norm" in name or "ln_" in name:
            torch.nn.init.normal_(weight, mean=0.0 if model_type in SHIFTED else 1.0, std=0.2)
        else:
            torch.nn.init.normal_(weight, std=0.5)
    return network


def write_gguf(
    path: Path,
    network: PreTrainedModel,
    *,
    architecture: str = "",
    keys: dict[str, object] | None = None,
    tensors: Arrays | None = None,
    without: Callable[[str], bool] = lambda name: False,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    tokenizer: Callable[[gguf.GGUFWriter, int], None] | None = None,
    parts: int = 0,
) -> Path:
    """A .gguf file of a model.

    Args:
        path: the file.
        network: the model.
        architecture: llama.cpp's name, if it is not the model's.
        keys: settings that are added or replaced, without the architecture in front; None leaves
            one out.
        tensors: tensors that are added or replaced.
        without: tensors that are left out.
        kind: how matrices are stored.
        tokenizer: writes a vocabulary; the default is a small one.
        parts: the number of tensors in each part, to split the file; 0 for one file.

    Returns:
        The path; of a file in parts, of the first.
    """
    name = architecture or NAMES.get(network.config.model_type, network.config.model_type)
    writer = gguf.GGUFWriter(path, name, split_max_tensors=parts)
    for key, value in (_settings(network) | (keys or {})).items():
        if value is not None:
            _add(writer, key if key.startswith(":") else f"{name}.{key}", value)
    (tokenizer or small_vocabulary)(writer, network.config.vocab_size)
    for tensor, array in (stored_tensors(network) | (tensors or {})).items():
        if without(tensor):
            continue
        if array.ndim > 1 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor, np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))[0] if parts else path


def small_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """A byte-level vocabulary of a few letters; "abcd" is token 15."""
    tokens = ["<s>", "</s>", "<unk>", *"abcdefghij", "ab", "cd", "abcd"]
    tokens += [f"<{i}>" for i in range(len(tokens), size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b", "c d", "ab cd"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    """A setting; a colon in front stands for no architecture in front."""
    key = key.removeprefix(":")
    for type_, add in (
        (bool, writer.add_bool),
        (int, writer.add_uint32),
        (float, writer.add_float32),
        (str, writer.add_string),
        (list, writer.add_array),
    ):
        if isinstance(value, type_):
            writer.kv_data[0].pop(key, None)
            add(key, value)
            return
    raise TypeError(f"{key} = {value!r}")


def _settings(network: PreTrainedModel) -> dict[str, object]:
    c = network.config
    get = lambda *names: next((v for n in names if (v := getattr(c, n, None)) is not None), None)  # noqa: E731
    settings: dict[str, object] = {
        "block_count": c.num_hidden_layers,
        "context_length": get("max_position_embeddings", "n_positions") or 64,
        "embedding_length": c.hidden_size,
        "feed_forward_length": get("ffn_hidden_size", "n_inner", "intermediate_size"),
        "attention.head_count": c.num_attention_heads,
        "attention.head_count_kv": get("num_kv_heads", "num_key_value_heads"),
        "attention.layer_norm_rms_epsilon": get("rms_norm_eps"),
        "attention.layer_norm_epsilon": get("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
        "attention.sliding_window": get("sliding_window") or None,
        "vocab_size": c.vocab_size,
        "attn_logit_softcapping": get("attn_logit_softcapping"),
        "final_logit_softcapping": get("final_logit_softcapping"),
        "expert_count": get("num_experts", "num_local_experts"),
        "expert_used_count": get("num_experts_per_tok"),
        "expert_feed_forward_length": get("moe_intermediate_size"),
        "expert_shared_feed_forward_length": get("shared_expert_intermediate_size"),
        "shortconv.l_cache": get("conv_L_cache"),
        ":general.file_type": 0,
    }
    if getattr(c, "head_dim", None):
        settings |= {"attention.key_length": c.head_dim, "attention.value_length": c.head_dim}
    if c.model_type in ("bloom", "gpt2"):
        settings["feed_forward_length"] = getattr(c, "n_inner", None) or 4 * c.hidden_size
        settings["attention.head_count_kv"] = c.num_attention_heads
    if c.model_type == "lfm2":
        heads = [c.num_key_value_heads * (each != "conv") for each in c.layer_types]
        settings |= {"attention.head_count_kv": heads}
        settings["attention.layer_norm_rms_epsilon"] = c.norm_eps
    if c.model_type == "nemotron":
        settings["attention.layer_norm_epsilon"] = c.norm_eps
    if c.model_type.startswith("qwen3_5"):
        settings |= {
            "ssm.conv_kernel": c.linear_conv_kernel_dim,
            "ssm.state_size": c.linear_key_head_dim,
            "ssm.group_count": c.linear_num_key_heads,
            "ssm.time_step_rank": c.linear_num_value_heads,
            "ssm.inner_size": c.linear_value_head_dim * c.linear_num_value_heads,
            "full_attention_interval": c.num_hidden_layers,
            "rope.dimension_sections": [1, 1, 1, 0],
        }
    rope = getattr(c, "rope_parameters", None)
    return settings | (_rope_settings(network, rope) if rope else {})


def _rope_settings(network: PreTrainedModel, rope: dict) -> dict[str, object]:
    c = network.config
    local = rope.get("sliding_attention", {})
    rope = rope.get("full_attention", rope)
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    settings: dict[str, object] = {
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
    }
    if local:
        settings["rope.freq_base_swa"] = float(local["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        settings |= {"rope.scaling.type": rope["rope_type"]}
        settings["rope.scaling.factor"] = float(rope["factor"])
    if rope["rope_type"] in ("yarn", "longrope"):
        original = rope["original_max_position_embeddings"]
        settings["rope.scaling.original_context_length"] = original
    if rope["rope_type"] == "longrope":
        settings["rope.scaling.attn_factor"] = float(network.model.rotary_emb.attention_scaling)
    return settings


def stored_tensors(network: PreTrainedModel) -> Arrays:
    """A model's tensors as llama.cpp stores them."""
    c = network.config
    arch = next(
        k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == NAMES.get(c.model_type, c.model_type)
    )
    names = gguf.get_tensor_name_map(arch, c.num_hidden_layers)
    seen: set[int] = set()
    found: Arrays = {}
    for name, weight in network.state_dict(keep_vars=True).items():
        if id(weight) in seen:
            continue
        seen.add(id(weight))
        if ".norms." in name:  # of each head: stacked below
            continue
        for stored, array in _laid_out(c, name, weight.detach()):
            module, _, ending = stored.removeprefix("transformer.").rpartition(".")
            known = names.get_name(module) or names.get_name(f"transformer.{module}")
            whole = None if known else names.get_name(stored)
            assert known or whole, stored
            found[whole or f"{known}.{ending}"] = array.numpy()
    for i in range(c.num_hidden_layers if getattr(c, "qk_layernorm", False) else 0):
        for which in "qk":
            norms = getattr(network.model.layers[i].self_attn, f"{which}_layernorm").norms
            stacked = torch.stack([norm.weight for norm in norms])
            found[f"blk.{i}.attn_{which}_norm.weight"] = stacked.numpy()
    rope = getattr(c, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        plain = rope["rope_theta"] ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
        found["rope_freqs.weight"] = (plain / network.model.rotary_emb.inv_freq).numpy()
    if rope.get("rope_type") == "longrope":
        for which in ("short", "long"):
            factors = np.array(rope[f"{which}_factor"], np.float32)
            found[f"rope_factors_{which}.weight"] = factors
    return found


def _laid_out(c, name: str, w: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """What a weight is stored as."""
    kind = c.model_type
    norm = "norm" in name and name.endswith("weight")
    if kind in SHIFTED and norm and "linear_attn" not in name:
        yield name, w + 1
    elif kind == "llama" and ("q_proj" in name or "k_proj" in name):
        n = c.num_attention_heads if "q_proj" in name else c.num_key_value_heads
        yield name, w.reshape(n, 2, len(w) // n // 2, -1).transpose(1, 2).reshape(w.shape)
    elif kind == "gpt2" and w.ndim == 2 and "wte" not in name and "wpe" not in name:
        yield name, w.T
    elif kind == "bloom" and "query_key_value" in name:
        yield name, w.reshape(c.n_head, 3, -1, *w.shape[1:]).transpose(0, 1).reshape(w.shape)
    elif kind == "falcon" and "query_key_value" in name:
        kv = c.num_kv_heads if c.new_decoder_architecture else 1
        grouped = w.reshape(kv, -1, c.head_dim, w.shape[1])
        parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
        yield name, torch.cat([part.reshape(-1, w.shape[1]) for part in parts])
    elif ".experts." in name and kind == "gpt_oss":
        yield from _gpt_oss_experts(name, w)
    elif name.endswith("experts.gate_up_proj"):
        base = name.removesuffix("gate_up_proj")
        yield f"{base}gate_proj.weight", w[:, : w.shape[1] // 2]
        yield f"{base}up_proj.weight", w[:, w.shape[1] // 2 :]
    elif name.endswith("experts.down_proj"):
        yield f"{name}.weight", w
    elif name.endswith("shared_expert_gate.weight"):
        yield name, w[0]
    elif name.endswith("e_score_correction_bias"):
        yield name.replace("e_score_correction_bias", "e_score_correction.bias"), w
    elif name.endswith(("sinks",)):
        yield f"{name}.weight", w
    elif "conv.conv" in name:
        yield name, w.squeeze(1) if w.ndim > 1 else w
    elif "linear_attn" in name:
        yield _linear_attention(c, name, w)
    else:
        yield name, w


def _gpt_oss_experts(name: str, w: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    ending = "bias" if name.endswith("_bias") else "weight"
    base = name.removesuffix("_bias")
    w = w if ending == "bias" else w.transpose(-1, -2)
    axis = -1 if ending == "bias" else -2
    if base.endswith("down_proj"):
        yield f"{base}.{ending}", w
        return
    base = base.removesuffix("gate_up_proj")
    for i, part in enumerate(("gate_proj", "up_proj")):
        even = torch.arange(i, w.shape[axis], 2)
        yield f"{base}{part}.{ending}", w.index_select(axis, even)


def _linear_attention(c, name: str, w: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Value heads side by side that have different key heads (Qwen 3.5)."""
    groups = c.linear_num_key_heads

    def tiled(x: torch.Tensor) -> torch.Tensor:
        per = c.linear_num_value_heads // groups
        return x.reshape(groups, per, -1, *x.shape[1:]).transpose(0, 1).reshape(x.shape)

    n_qk = 2 * groups * c.linear_key_head_dim
    if name.endswith("A_log"):
        return name, tiled(-w.exp())
    if name.endswith("dt_bias"):
        return name.replace("dt_bias", "dt_proj.bias"), tiled(w)
    if "conv1d" in name or "in_proj_qkv" in name:
        w = w.squeeze(1) if "conv1d" in name else w
        return name, torch.cat([w[:n_qk], tiled(w[n_qk:])])
    if "out_proj" in name:
        return name, tiled(w.T).T
    return name, (w if "norm" in name else tiled(w))
