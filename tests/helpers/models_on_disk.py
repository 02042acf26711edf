"""Small models as they lie on disk: hub-layout folders, .gguf files, the hub's cache."""

import json
from pathlib import Path

import gguf
import numpy as np
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from helpers.tiny_models import tiny_llama

WORDS = [
    "<s>",
    "</s>",
    "<unk>",
    *["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "far"],
]


def word_tokenizer(*, bos="<s>", adds_bos=False, words=WORDS, cut_at=None):
    """A tokenizer of whole words; a word's id is its place in ``words``."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", words.index("<s>"))]
        )
    if cut_at is not None:
        backend.enable_truncation(cut_at)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token="</s>", unk_token="<unk>"
    )


def save_folder(folder: Path, network=None, tokenizer="words", **options) -> Path:
    """A folder as `save_pretrained` writes it; ``tokenizer=None`` leaves the tokenizer out."""
    (tiny_llama() if network is None else network).save_pretrained(folder, **options)
    if tokenizer is not None:
        (word_tokenizer() if tokenizer == "words" else tokenizer).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put_in_hub_cache(cache: Path, name: str, commit: str = "c0ffee" * 6 + "abcd", **options) -> str:
    """Lays a model down as the hub's cache does; returns its commit hash."""
    repository = cache / f"models--{name.replace('/', '--')}"
    save_folder(repository / "snapshots" / commit, **options)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return commit


def write_gguf(path: Path, network, kind=gguf.LlamaFileType.ALL_F32) -> Path:
    """A Llama as llama.cpp's converter writes it, in float32 or (kind MOSTLY_Q8_0) quantized."""
    config = network.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = ["<s>", "</s>", "<unk>", *"abcdefghij", "ab", "cd", "abcd"]
    tokens += [f"<{i}>" for i in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b", "c d", "ab cd"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    for name, tensor in network.state_dict().items():
        weights = tensor.numpy()
        if "q_proj" in name:
            weights = permuted(weights, config.num_attention_heads)
        if "k_proj" in name:
            weights = permuted(weights, config.num_key_value_heads)
        if kind != gguf.LlamaFileType.ALL_F32 and weights.ndim == 2:
            packed = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(gguf_name(name), weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows in the order in which llama.cpp turns them: pairs side by side, not in halves."""
    halves = weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


def gguf_name(name: str) -> str:
    table = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for theirs, ours in table.items():
        name = name.replace(theirs, ours)
    return name
