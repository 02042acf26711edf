"""Models whose code comes with their weights, and computes attention by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_models import SAMPLES, tiny_llama
from safetensors.torch import save_file

import inactive_heads as ih

CODE = """
import math
import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class OwnConfig(PretrainedConfig):
    model_type = "own"


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotated(x, past):
    half = x.shape[-1] // 2
    steps = torch.arange(past, past + x.shape[-2], device=x.device)[:, None]
    angle = steps / 10000 ** (torch.arange(half, device=x.device) / half)
    one, other = x[..., :half], x[..., half:]
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_heads, self.width = config.num_attention_heads, config.hidden_size
        self.W_pack = nn.Linear(self.width, 3 * self.width, bias=False)
        self.o_proj = nn.Linear(self.width, self.width, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        packed = self.W_pack(x).view(batch, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = rotated(packed[0], 0), rotated(packed[1], 0), packed[2]
        scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.shape[-1])
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        summed = torch.matmul(weights, value).transpose(1, 2)
        return self.o_proj(summed.reshape(batch, length, self.width))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        wide = config.intermediate_size
        self.gate_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.down_proj = nn.Linear(wide, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn, self.mlp = Attention(config), Mlp(config)
        self.input_layernorm = Norm(config.hidden_size)
        self.post_attention_layernorm = Norm(config.hidden_size)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.num_hidden_layers)])
        self.norm = Norm(config.hidden_size)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class OwnModel(PreTrainedModel, GenerationMixin):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False, **_):
        return CausalLMOutputWithPast(logits=self.lm_head(self.model(input_ids)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The weights of `tiny_llama`, one key/value head per head, under the names of its code."""
    folder = tmp_path_factory.mktemp("models") / "own"
    folder.mkdir()
    (folder / "own_code.py").write_text(CODE)
    config = plain().config
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )
    described = {name: getattr(config, name) for name in names} | {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {
            "AutoConfig": "own_code.OwnConfig",
            "AutoModelForCausalLM": "own_code.OwnModel",
        },
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(described))
    weights = dict(plain().state_dict())
    for layer in range(config.num_hidden_layers):
        place = f"model.layers.{layer}.self_attn."
        parts = [weights.pop(f"{place}{name}_proj.weight") for name in "qkv"]
        weights[f"{place}W_pack.weight"] = torch.cat(parts)
    weights = {name: one.contiguous() for name, one in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def plain():
    return tiny_llama(num_key_value_heads=4)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    plain().save_pretrained(folder)
    return ih.load_model(folder)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_heads_are_those_of_the_same_weights_in_transformers_code(folder, expected, dtype):
    model = ih.load_model(folder, trust_remote_code=True, dtype=dtype)
    assert model.engine.name == "flash"
    assert model.shape == expected.shape
    scores = [*ih.PAPER_SCORES, "RON"]
    found, right = (
        ih.score_heads(one, SAMPLES, scores=scores, progress=False) for one in (model, expected)
    )
    for name in scores:
        assert_close(found.sel(score=name).values, right.sel(score=name).values, rtol=1e-4)
    cut = float(right.sel(score="AHON (LN)").median()) * 1.001
    runs = [
        ih.ablate(one, SAMPLES, ih.PerInput("AHON (LN)", cut), progress=False)
        for one in (model, expected)
    ]
    np.testing.assert_array_equal(runs[0].zeroed, runs[1].zeroed)
    assert_close(runs[0].logits, runs[1].logits, rtol=1e-4)


def test_it_writes_the_same_text(folder, expected):
    model = ih.load_model(folder, trust_remote_code=True)
    heads = ih.Fixed([(0, 1), (2, 3)])
    texts = [
        ih.generate(one, SAMPLES, heads, max_new_tokens=4, progress=False).tokens
        for one in (model, expected)
    ]
    assert texts[0] == texts[1]


def test_its_code_runs_only_if_that_is_asked_for(folder):
    with pytest.raises(ih.UserError, match="trust_remote_code=True"):
        ih.load_model(folder)
