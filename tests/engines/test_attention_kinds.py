"""Attention that is not a plain softmax over all earlier keys: an indexer, a bias, sinks by query.

Compared with Hugging Face's own eager attention, an input at a time, without padding.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding
from inactive_heads.engines.flash import FlashEngine

LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "index_topk": 4,
    "index_head_dim": 8,
    "index_n_heads": 16,  # with few, scores are tied at 0, and ties are broken at random
}
RELATIVE = {
    "num_key_value_heads": 2,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "head_dim": 8,
    "swa_head_dim": 8,
    "sliding_window_size": 4,
    "rel_extent": 8,
    "layer_types": ["hybrid_sliding", "hybrid", "hybrid"],
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
KINDS = {
    "deepseek_v32": LATENT,
    "glm_moe_dsa": LATENT,
    "hy_v4": LATENT | {"hc_mult": 2, "pad_token_id": 0},
    "inkling_text": RELATIVE,
    "inkling2_text": RELATIVE,
}
INPUTS = samples((11, 7, 1, 9))


@functools.cache
def network(kind):
    return tiny(kind, **KINDS[kind])


@functools.cache
def engine(kind):
    return FlashEngine(network(kind), "tiny")


@torch.no_grad()
def eager(kind, tokens, silenced=None):
    """Logits, what entered W_O, and patterns, ``layer → ...``, with a head silenced or none."""
    other, z = copy.deepcopy(network(kind)), {}
    other.set_attn_implementation("eager")
    for module in other.modules():
        if not hasattr(module, "o_proj") or not isinstance(getattr(module, "layer_idx", None), int):
            continue

        def hook(projection, args, layer=module.layer_idx):
            entering = args[0].unflatten(-1, (4, -1)).clone()
            z[layer] = entering
            if silenced is None:
                return None
            changed = entering.clone()
            changed[:, :, silenced] = 0
            return (changed.flatten(-2),)

        module.o_proj.register_forward_pre_hook(hook)
    out = other(torch.tensor([tokens]), use_cache=False, output_attentions=True)
    return out.logits[0], z, dict(enumerate(out.attentions))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_z_pattern_and_statistics_are_eager_attentions(kind, side):
    batch, seen = TokenBatch.of(INPUTS, side=side), {}

    def look(heads):
        seen[heads.layer] = (
            heads.outputs.clone(),
            heads.pattern,
            heads.pattern_of(1),
            heads.first_token_weight,
            heads.entropy,
        )

    logits = engine(kind).run(batch, look)
    for row, tokens in enumerate(INPUTS):
        real = batch.mask[row]
        expected, z, patterns = eager(kind, tokens)
        assert_close(logits[row], expected[-1], rtol=1e-4)
        for layer, (outputs, pattern, of_head, first, entropy) in seen.items():
            weights = patterns[layer][0]
            assert_close(outputs[row][real], z[layer][0], rtol=1e-4)
            assert_close(pattern[row][:, real][..., real], weights, rtol=1e-4)
            assert_close(of_head[row][real][:, real], weights[1], rtol=1e-4)
            assert_close(first[row][real], weights[..., 0].T, rtol=1e-4)
            own = torch.special.entr(weights).sum(dim=-1).T
            assert float((entropy[row][real] - own).abs().max()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_a_visitor_is_the_models_own(kind):
    batch = TokenBatch.of(INPUTS)
    logits = engine(kind).run(batch, keep=batch.mask)
    assert_close(logits, torch.cat([eager(kind, tokens)[0] for tokens in INPUTS]), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_silencing_is_zeroing_at_the_projection(kind):
    mask = torch.tensor([[False, True, False, True]])
    logits = engine(kind).run(TokenBatch.of(INPUTS), lambda heads: Silence(mask))
    expected = torch.stack([eager(kind, tokens, mask[0])[0][-1] for tokens in INPUTS])
    assert_close(logits, expected, rtol=1e-4)
    assert float((logits - engine(kind).run(TokenBatch.of(INPUTS))).norm()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_cached_decoding_gives_what_whole_inputs_give(kind):
    made, inputs = engine(kind), [list(tokens) for tokens in samples((6, 3))]
    silence = Silence(torch.tensor([[False, True, False, False]]))
    decoding = CachedDecoding(made, TokenBatch.of(inputs, side="left"), lambda layer: silence)
    logits = decoding.start()
    for step in range(3):
        expected = made.run(TokenBatch.of(inputs), lambda heads: silence)
        assert_close(logits, expected, rtol=1e-4)
        for one in inputs:
            one.append(40 + step)
        logits = decoding.step(torch.tensor([40 + step] * 2))


def inputs_of(length=9, n_keys=9, **changes):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, length, 8, generator=generator)
    key, value = (torch.randn(2, 2, n_keys, 8, generator=generator) for _ in range(2))
    first = torch.zeros(2, dtype=torch.long)
    return AttentionInputs(query, key, value, 0.3, first, **changes), generator


def exact(inputs, bias, visible, sinks=None):
    """The pattern in float64."""
    key = inputs.key.double().repeat_interleave(2, dim=1)
    logits = inputs.scale * inputs.query.double() @ key.mT + bias.double()
    logits = logits.masked_fill(~visible, -torch.inf)
    if sinks is not None:
        logits = torch.cat([logits, sinks.double()], dim=-1)
    pattern = logits.softmax(dim=-1)
    return pattern if sinks is None else pattern[..., :-1]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_a_bias_and_sinks_by_query_enter_the_softmax(masked, heads, with_sinks):
    plain, generator = inputs_of()
    bias = torch.randn(2, heads, 9, 9, generator=generator)
    sinks = torch.randn(2, 4, 9, 1, generator=generator) if with_sinks else None
    visible = torch.ones(9, 9).tril().bool()
    window = visible.triu(-3) if masked else visible
    mask = window[None, None] if masked else None
    inputs, _ = inputs_of(bias=bias, sinks=sinks, mask=mask)
    assert not inputs.plain
    z, statistics = attend(inputs)
    pattern = exact(plain, bias, window, sinks)
    assert_close(statistics.pattern(), pattern, rtol=1e-5)
    assert_close(statistics.pattern_of(2), pattern[:, 2], rtol=1e-5)
    value = plain.value.double().repeat_interleave(2, dim=1)
    assert_close(z, (pattern @ value).transpose(1, 2), rtol=1e-5)
    assert_close(statistics.first_token_weight(), pattern[..., 0].mT, rtol=1e-5)


@pytest.mark.parametrize("how", ["config", "mask"])
def test_attention_to_later_tokens_is_refused(how):
    if how == "config":
        network = tiny("gemma3_text", use_bidirectional_attention=True)
    else:
        network = tiny("llama")
        attention = network.model.layers[1].self_attn
        forward = attention.forward
        seen = torch.ones(1, 1, 4, 4, dtype=torch.bool)
        seen[..., 0, 3] = False
        attention.forward = lambda *args, **kw: forward(*args, **{**kw, "attention_mask": seen})
    with pytest.raises(ih.UserError, match="lets tokens see later ones"):
        FlashEngine(network, "mine")


@pytest.mark.parametrize("name", ["block_indices", "alibi"])
def test_a_tensor_of_unknown_meaning_is_refused_by_its_name(name):
    network = tiny("llama")
    attention = network.model.layers[1].self_attn
    forward = attention.forward
    attention.forward = lambda *args, **kw: forward(*args, **kw, **{name: torch.ones(4)})
    with pytest.raises(ih.UserError, match=f"gives its attention {name}"):
        FlashEngine(network, "mine")


def test_a_model_that_knows_no_positions_has_no_longest_input():
    network = tiny("recurrent_gemma", num_key_value_heads=1, attention_window_size=4, lru_width=32)
    del network.config.max_position_embeddings
    assert FlashEngine(network, "mine").shape.n_ctx > 10**9
