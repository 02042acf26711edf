"""What heads write into the residual stream, against Hugging Face's own modules."""

import copy

import pytest
import tiny_families as flash
import torch
from closeness import assert_close
from torch import nn

import inactive_heads as ih
from inactive_heads.engines.blocks import _multiplier
from inactive_heads.engines.flash import FlashEngine, _output_projection
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.heads import TokenBatch
from inactive_heads.writing import Norm, OutputPath

NORMALISED = ("gemma2", "gemma3_text", "olmo2")
"""Architectures whose ``post_attention_layernorm`` stands before the residual stream."""

READERS = {  # the norms of a block that read the stream as it enters, and after attention: in GPT-NeoX
    # and Phi the MLP runs beside it
    "gpt2": (("ln_1",), ("ln_2",)),
    "gpt_neox": (
        ("input_layernorm", "post_attention_layernorm"),
        (),
    ),
    "phi": (("input_layernorm",), ()),
    "olmo2": ((), ()),
    "gemma2": (("input_layernorm",), ("pre_feedforward_layernorm",)),
    "gemma3_text": (("input_layernorm",), ("pre_feedforward_layernorm",)),
    "lfm2": (("operator_norm",), ("ffn_norm",)),
}
USUAL_READERS = ("input_layernorm",), ("post_attention_layernorm",)

ENGINES = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny")),
}


def expected(network, model_type, tokens):
    """layer → (the stream's norm, what each head adds to it), of one input."""
    found, handles = {}, []
    blocks = {
        module.layer_idx: (module, block)
        for layers in network.modules()
        if isinstance(layers, nn.ModuleList)
        for block in layers
        for module in block.modules()
        if module in flash.attention_modules(network).values()
    }
    for layer, (attention, block) in blocks.items():
        found[layer] = {}

        def enter(module, args, kwargs, seen):
            seen["stream"] = args[0] if args else kwargs["hidden_states"]

        def project(module, args, seen):
            seen["z"] = args[0]

        projection = _output_projection(attention, flash.N_HEADS * flash.D_HEAD)
        for handle in (
            block.register_forward_pre_hook(
                lambda m, a, k, seen=found[layer]: enter(m, a, k, seen), with_kwargs=True
            ),
            projection.register_forward_pre_hook(
                lambda m, a, seen=found[layer]: project(m, a, seen)
            ),
        ):
            handles.append(handle)
        found[layer] |= {"projection": projection, "block": block}
    with torch.no_grad():
        network(torch.tensor([tokens]), use_cache=False)
        for seen in found.values():
            z = seen["z"][0].unflatten(-1, (flash.N_HEADS, flash.D_HEAD))
            projection = seen["projection"]
            bias = projection.bias if projection.bias is not None else torch.zeros(())
            parts = []
            for head in range(flash.N_HEADS):
                alone = torch.zeros_like(z)
                alone[:, head] = z[:, head]
                parts.append(projection(alone.flatten(1)) - bias)
            written = torch.stack(parts, dim=1)
            whole = added = projection(z.flatten(1))
            if model_type in NORMALISED:
                added = seen["block"].post_attention_layernorm(whole)
                # Elementwise: these norms multiply every coordinate by a factor of the token.
                written = written * (added / whole)[:, None]
            if model_type == "granite":
                written, added = flash.MULTIPLIER * written, flash.MULTIPLIER * added
            seen["written"] = written.norm(dim=-1)
            seen["residual"] = seen["stream"][0].norm(dim=-1)
            seen["vectors"], seen["updated"] = written, seen["stream"][0] + added
    for handle in handles:
        handle.remove()
    return found


def expected_reads(found, model_type):
    """layer → how much of each head is read, from what `expected` gave."""
    before, after = READERS.get(model_type, USUAL_READERS)
    for layer, seen in found.items():
        norms = [getattr(seen["block"], name) for name in after]
        norms += [
            getattr(other["block"], name)
            for later, other in found.items()
            if later > layer
            for name in (*before, *after)
        ]
        gains = [norm.weight + ("gemma" in model_type) for norm in norms]
        gain = torch.stack(gains).square().mean(0).sqrt() if gains else torch.ones(())
        vectors, stream = seen["vectors"], seen["updated"]
        if norms and all(isinstance(norm, nn.LayerNorm) for norm in norms):
            vectors = vectors - vectors.mean(dim=-1, keepdim=True)
            stream = stream - stream.mean(dim=-1, keepdim=True)
        yield layer, (gain * vectors).norm(dim=-1) / stream.norm(dim=-1, keepdim=True)


class Look:
    def __init__(self):
        self.layers = {}

    def __call__(self, heads):
        self.layers[heads.layer] = (
            heads.residual_norm,
            heads.written_norm,
            heads.residual,
            heads.read_norm,
        )


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
