"""A model without heads is run, scored, ablated, and writes text, as any other."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.removed_heads import model_of, padded, pairs, real_logits, silenced
from helpers.tiny_families import D_HEAD, samples, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

import inactive_heads as ih
from inactive_heads.engines.decoding import can_decode
from inactive_heads.engines.prefix_tree import Row, Segment

SCORES = ["AWFT", "AEQD", "FTVVN", "AVVN", "AHON", "AHRN"]
"""None that is about the layer's other heads, of which some are gone."""
QUIET = {"progress": False}
SAMPLES = samples()
N_LAYERS, N_HEADS, N_GROUPS = 3, 6, 3
EVERY = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
UNEVEN = {0: [0], 1: [2, 3], 2: [1, 4, 5]}
FIRST_LAYER = {0: list(range(N_HEADS)), 2: [1]}
SETS = {"uneven": UNEVEN, "no first layer": FIRST_LAYER, "groups": {0: [0, 1], 1: [2, 3, 4, 5]}}


@cache
def whole():
    sizes = {"num_attention_heads": N_HEADS, "num_key_value_heads": N_GROUPS, "hidden_size": 48}
    return model_of(tiny("llama", **sizes))


@cache
def without(which):
    return ih.remove_heads(whole(), SETS[which])


def groups_left(heads):
    return len({head // (N_HEADS // N_GROUPS) for head in set(range(N_HEADS)) - set(heads)})


@settings(max_examples=10)
@given(st.sets(st.sampled_from(EVERY), min_size=1, max_size=len(EVERY) - 1))
def test_any_set_of_heads_can_be_removed(heads):
    small = ih.remove_heads(whole(), heads)
    with silenced(whole().engine.network, heads, D_HEAD) as network:
        expected = real_logits(network, SAMPLES[:2])
    assert_close(real_logits(small.engine.network, SAMPLES[:2]), expected, rtol=1e-4)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(which, side):
    with silenced(whole().engine.network, pairs(SETS[which]), D_HEAD) as network:
        expected = real_logits(network, SAMPLES, side)
    assert_close(real_logits(without(which).engine.network, SAMPLES, side), expected, rtol=1e-4)


@pytest.mark.parametrize("which", SETS)
def test_the_cache_holds_the_keys_and_values_that_are_read(which):
    network = without(which).engine.network
    tokens, _ = padded([SAMPLES[0]])
    with torch.no_grad():
        cache = network(tokens, past_key_values=DynamicCache(), use_cache=True).past_key_values
    for layer, held in enumerate(cache.layers):
        groups = groups_left(SETS[which].get(layer, []))
        shape = (1, groups, tokens.shape[1], D_HEAD) if groups else (1, 1, tokens.shape[1], 1)
        assert held.keys.shape == held.values.shape == shape


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("which", SETS)
def test_transformers_decodes_with_a_cache_as_without(which, implementation):
    network = whole().engine.network
    tokens, mask = padded([SAMPLES[0], SAMPLES[1]], "left")
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    try:
        network.set_attn_implementation(implementation)
        small = ih.remove_heads(model_of(network), SETS[which]).engine.network
    finally:
        network.set_attn_implementation("sdpa")
    cached = small.generate(tokens, attention_mask=mask, use_cache=True, **options)
    with silenced(network, pairs(SETS[which]), D_HEAD):
        expected = network.generate(tokens, attention_mask=mask, use_cache=False, **options)
    assert torch.equal(cached, expected)


@pytest.mark.parametrize("which", SETS)
def test_generate_caches_and_writes_what_zeroing_writes(which):
    found = ih.generate(without(which), SAMPLES[:2], max_new_tokens=5, **QUIET)
    expected = ih.generate(whole(), SAMPLES[:2], ih.Fixed(SETS[which]), max_new_tokens=5, **QUIET)
    assert can_decode(without(which).engine)
    assert found.tokens == expected.tokens


@pytest.mark.parametrize("which", SETS)
def test_the_heads_that_stay_have_the_scores_that_zeroing_leaves_them(which):
    small, fixed = without(which), ih.Fixed(SETS[which])
    found = ih.score_heads(small, SAMPLES, scores=SCORES, **QUIET)
    for name in SCORES:
        by_layer = scores_under(fixed, name)
        for layer in small.shape.layers:
            kept = [head for head in range(N_HEADS) if head not in SETS[which].get(layer, [])]
            own = found.sel(score=name, layer=layer).values[:, : len(kept)]
            assert_close(own, by_layer[layer][:, kept], rtol=1e-3, err_msg=f"{name} L{layer}")


def scores_under(fixed, name):
    """layer → (sample, head), of the whole model with heads zeroed in earlier layers too."""
    score, found = ih.get_score(name), {}
    batch = ih.TokenBatch.of(SAMPLES)

    def look(heads):
        found[heads.layer] = score(heads).numpy()
        return fixed(heads)

    whole().engine.run(batch, look)
    return found


def test_prefixes_are_shared_where_groups_are_uneven():
    engine, heads = without("uneven").engine, ih.Fixed([(0, 1), (1, 3)])
    assert engine.shares_prefixes()
    trunk = Segment([5, 9, 33], 0, None, [0, 1, 2])
    branch = Segment([2, 71], 3, trunk, [0, 1])
    twigs = [Segment([8, 64], 5, branch, [0]), Segment([12], 5, branch, [1])]
    other = Segment([8, 40, 3], 3, trunk, [2])
    rows = [Row([trunk, branch, twigs[0]], after=[trunk, branch])]
    rows += [Row([twigs[1], other], before=[trunk, branch])]
    found, cache = [], None
    for row in rows:
        keep = torch.zeros(1, len(row.tokens), dtype=torch.bool)
        keep[0, [-1] if row is rows[0] else [0, -1]] = True
        silences = partial(silence_in, heads, engine.shape)
        logits, cache = engine.run_row(row, keep, silences, cache)
        found.append(logits)
    held = [groups_left(UNEVEN[layer]) for layer in range(N_LAYERS)]
    assert engine.shape.of(0).n_key_value_heads == 5 > held[0]  # repeated for attention alone
    texts = [[5, 9, 33, 2, 71, 8, 64], [5, 9, 33, 2, 71, 12], [5, 9, 33, 8, 40, 3]]
    # L0H1 and L1H3 of the smaller model are L0H2 and L1H5 of the whole one.
    zeroed = ih.Fixed([*pairs(UNEVEN), (0, 2), (1, 5)])
    expected = ih.ablate(whole(), texts, zeroed, **QUIET).logits
    assert_close(torch.cat(found), expected, rtol=1e-4)


def silence_in(heads, shape, layer):
    return heads.silence(layer, shape.of(layer).n_heads)


@pytest.mark.parametrize("which", SETS)
def test_texts_cost_what_zeroing_costs(which):
    task = ih.TextTask("tokens", [[5, 9, 33, 2, *one] for one in SAMPLES])
    found = ih.evaluate(without(which), task, None, **QUIET)
    expected = ih.evaluate(whole(), task, ih.Fixed(SETS[which]), **QUIET)
    np.testing.assert_allclose(
        found.items["loss"].to_numpy(), expected.items["loss"].to_numpy(), rtol=1e-4
    )


def test_heads_can_be_removed_step_by_step():
    steps = [[(0, 0), (1, 2)], [(0, 3), (2, 0)], [(0, 0), (1, 0), (1, 1)]]
    left = {layer: list(range(N_HEADS)) for layer in range(N_LAYERS)}
    model, gone = whole(), []
    for step in steps:
        model = ih.remove_heads(model, step)
        gone += [(layer, left[layer][head]) for layer, head in step]
        left = {
            layer: [head for head in heads if (layer, head) not in gone]
            for layer, heads in left.items()
        }
        with silenced(whole().engine.network, gone, D_HEAD) as network:
            expected = real_logits(network, SAMPLES)
        assert_close(real_logits(model.engine.network, SAMPLES), expected, rtol=1e-4)
    assert model.provenance["heads_removed"] == len(gone)
    once = ih.remove_heads(whole(), gone)
    sizes = [one.weight.shape for one in model.engine.network.modules() if hasattr(one, "weight")]
    assert sizes == [
        one.weight.shape for one in once.engine.network.modules() if hasattr(one, "weight")
    ]


def test_in_half_precision_as_near_as_rounding_allows():
    model = model_of(tiny("llama").bfloat16())
    small = ih.remove_heads(model, [(0, 1), (1, 2), (1, 3)])
    assert small.engine.dtype == torch.bfloat16
    with silenced(model.engine.network, [(0, 1), (1, 2), (1, 3)], D_HEAD) as network:
        expected = real_logits(network, SAMPLES)
    found = real_logits(small.engine.network, SAMPLES)
    assert float((found - expected).norm() / expected.norm()) < 0.02
