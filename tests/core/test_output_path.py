"""What heads write into the residual stream, against Hugging Face's own modules."""

import functools

import pytest
import torch
from helpers import tiny_families as flash
from helpers.closeness import assert_close
from helpers.written import (
    LAYOUTS,
    Look,
    engine_of,
    expected,
    expected_reads,
    layers_with_attention,
)
from torch import nn

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.engines.flash import FlashEngine

CASES = [(name, engine) for name, layout in LAYOUTS.items() for engine in layout.engines]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_what_is_written_and_read_is_what_the_modules_compute(name, engine):
    layout = LAYOUTS[name]
    network = layout.tiny()
    samples = flash.samples((7, 4))
    run = engine_of(layout, engine, network)
    look = Look()
    run.run(TokenBatch.of(samples, side="left"), look)
    assert sorted(look.layers) == layers_with_attention(network, layout)
    for row, tokens in enumerate(samples):
        found = expected(network, layout, tokens)
        reads = dict(expected_reads(network, layout, found))
        for layer, seen in found.items():
            stream, written, updated, read = (
                one[row, -len(tokens) :] for one in look.layers[layer]
            )
            assert_close(stream, seen.stream.float(), rtol=1e-4)
            assert_close(written, seen.vectors.norm(dim=-1).float(), rtol=1e-4)
            assert_close(updated, seen.updated.float(), rtol=1e-4)
            assert_close(read, reads[layer].float(), rtol=1e-4)


def test_without_a_norm_what_is_written_is_the_result():
    network = flash.tiny("llama")
    seen = []
    FlashEngine(network, "tiny").run(
        TokenBatch.of([[1, 2, 3]]),
        lambda heads: seen.append((heads.written_norm, heads.result.norm(dim=-1))),
    )
    for written, result in seen:
        assert_close(written, result, rtol=1e-5)


@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_is_known_by_what_it_computes(centred):
    norm = nn.LayerNorm(16) if centred else nn.RMSNorm(16, eps=1e-6)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 16)
    found = Norm.of(norm)
    assert found.centred is centred
    assert_close(found.linear(x) * found.scale(x), norm(x), rtol=1e-4)


class Bare(nn.Module):
    """A norm without weights, as in OLMo and nanochat."""

    def __init__(self, centred, eps):
        super().__init__()
        self.centred, self.added = centred, eps

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.added)


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_without_weights_is_known_with_what_it_adds_to_the_mean_square(centred, eps):
    found = Norm.of(Bare(centred, eps), 16)
    assert (found.centred, found.gain.tolist()) == (centred, [1.0] * 16)
    assert found.eps == pytest.approx(eps, rel=0.01)
    with pytest.raises(ih.UserError, match="Bare is neither"):
        Norm.of(Bare(centred, eps))


def test_an_unknown_norm_is_named():
    class Other(nn.RMSNorm):
        def forward(self, x):
            return torch.tanh(super().forward(x))

    with pytest.raises(ih.UserError, match="Other is neither a LayerNorm nor"):
        Norm.of(Other(16, eps=1e-6))


def test_the_scale_is_that_of_all_heads_and_the_bias():
    weights, bias = torch.randn(2, 3, 8), torch.randn(8)
    norm = nn.RMSNorm(8, eps=1e-6)
    path = OutputPath(weights, bias, Norm.of(norm))
    z = torch.randn(1, 4, 2, 3)
    total = torch.einsum("bphd,hdm->bpm", z, weights) + bias
    expected = total.square().mean(-1, keepdim=True).add(1e-6).rsqrt()
    torch.testing.assert_close(path.written_scale(path.total(z)), expected)


def gated(block, hidden_states, **others):
    normed = block.input_layernorm(hidden_states)
    gate = block.self_attn.q_proj(normed).mean(-1, keepdim=True).sigmoid()
    stream = hidden_states + gate * block.self_attn(normed, **others)[0]
    return stream + block.mlp(block.post_attention_layernorm(stream))


def squared(block, hidden_states, **others):
    stream = hidden_states * hidden_states.abs()
    stream = stream + block.self_attn(block.input_layernorm(stream), **others)[0]
    return stream + block.mlp(block.post_attention_layernorm(stream))


REFUSED = {
    "gated": (
        lambda: with_block("llama", 1, gated),
        "LlamaRMSNorm reads no multiple of attention's output",
        {1},
        set(),
    ),
    "several streams": (
        lambda: flash.tiny("gemma3n_text", **SEVERAL),
        "Gemma3nTextDecoderLayer is entered by 2 residual streams side by side",
        {0, 1, 2},
        set(),
    ),
    "scaled by coordinate": (
        lambda: flash.tiny("doge", num_key_value_heads=2),
        "what DogeRMSNorm reads is no multiple of the residual stream",
        {0, 1, 2},
        set(),
    ),
    "changed after layer 0": (
        lambda: with_block("llama", 1, squared),
        "LlamaRMSNorm reads is no multiple of the residual stream",
        {1},
        {0},
    ),
}
SEVERAL = {
    "num_key_value_heads": 2,
    "layer_types": ["full_attention"] * 3,
    "num_kv_shared_layers": 0,
    "vocab_size_per_layer_input": 97,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "altup_num_inputs": 2,
}


def with_block(model_type, layer, forward):
    network = flash.tiny(model_type)
    block = network.model.layers[layer]
    block.forward = functools.partial(forward, block)
    return network


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_said_is_refused_when_it_is_asked_and_only_then(case):
    make, reason, unwritten, unread = REFUSED[case]
    engine = FlashEngine(make(), "tiny")
    shown = []

    def look(heads):
        shown.append(heads.result_norm)
        for statistic, refused in (("written_norm", unwritten), ("read_norm", unwritten | unread)):
            if heads.layer not in refused:
                assert bool(getattr(heads, statistic).isfinite().all())
                continue
            with pytest.raises(ih.UserError, match="is not known") as error:
                getattr(heads, statistic)
            assert reason in str(error.value)
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 300

    engine.run(TokenBatch.of([[1, 2, 3]]), look)
    assert len(shown) == len(engine.shape.layers)
