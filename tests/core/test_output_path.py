"""What heads write into the residual stream, against Hugging Face's own modules."""

import copy

import pytest
import torch
from helpers import tiny_families as flash
from helpers.closeness import assert_close
from helpers.written import ENGINES, Look, expected, expected_reads
from torch import nn

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import Norm, OutputPath
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.network.blocks import _multiplier


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model_type", flash.ARCHITECTURES)
def test_what_is_written_is_what_the_modules_compute(model_type, name):
    network = flash.tiny(model_type)
    for module in network.modules():  # gains that are all alike would hide a wrong one
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 1:
            torch.nn.init.uniform_(weight, 0.5, 2)
    samples = flash.samples((7, 4))
    engine = ENGINES[name](copy.deepcopy(network))
    look = Look()
    engine.run(TokenBatch.of(samples, side="left"), look)
    assert len(look.layers) == len(engine.shape.layers)
    for row, tokens in enumerate(samples):
        found = expected(network, model_type, tokens)
        for layer, read in expected_reads(found, model_type):
            mine = look.layers[layer][3][row, -len(tokens) :]
            assert_close(mine, read, rtol=1e-4)
        for layer, seen in found.items():
            residual, written, stream, _ = (one[row, -len(tokens) :] for one in look.layers[layer])
            assert_close(residual[:, 0], seen["residual"], rtol=1e-4)
            assert_close(written, seen["written"], rtol=1e-4)
            assert_close(stream, seen["stream"][0], rtol=1e-4, axis=-1)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1.0, 0.22])
def test_a_multiplier_is_found_below_coordinates_that_are_thousands_of_times_larger(dtype, factor):
    generator = torch.Generator().manual_seed(0)
    stream, output = (torch.randn(1, 4, 64, generator=generator) for _ in range(2))
    stream[0, 0, :3] = 3000.0
    stream[0, :, 5] = 50.0
    before, output = stream.to(dtype), output.to(dtype)
    after = before + (factor * output).to(dtype)
    assert _multiplier(after, before, output) == pytest.approx(factor, rel=0.02)
    assert _multiplier(before, before, torch.zeros_like(before)) == 1
    assert _multiplier(after + output.flip(2), before, output) is None
    assert _multiplier(after, before[None], output) is None


def test_another_part_that_adds_where_attention_does_is_refused_when_it_matters():
    network = flash.tiny("llama")
    block = network.model.layers[1]

    def beside(hidden_states, **others):
        """As in hybrids: the MLP adds to the stream with attention, and once more after it."""
        normed = block.input_layernorm(hidden_states)
        stream = hidden_states + block.self_attn(normed, **others)[0] + block.mlp(normed)
        return stream + block.mlp(block.post_attention_layernorm(stream))

    block.forward = beside
    engine = FlashEngine(network, "tiny")
    batch = TokenBatch.of([[1, 2, 3]])
    seen = []
    engine.run(batch, lambda heads: seen.append(heads.result_norm))
    assert len(seen) == 3
    with pytest.raises(ih.UserError, match="no multiple of attention's output"):
        engine.run(batch, lambda heads: seen.append(heads.read_norm))
