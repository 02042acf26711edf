"""Models with a gate or a norm between attention and W_O: z is what enters W_O, there silenced too.

The reference reads and zeroes at the projection, in plain hooks on Hugging Face's eager model.
"""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from helpers import reference as plain
from helpers import written
from helpers.closeness import assert_close
from helpers.tiny_families import D_HEAD, GATED, N_HEADS, samples, tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.prefix_tree import Row, Segment
from inactive_heads.models.model import Model
from inactive_heads.scores.registry import get_score

BETWEEN = {"bitnet": "attn_sub_norm", "afmoe": "gate_proj", "laguna": "g_proj"}
"""What stands between attention and W_O in some of them."""
INPUTS = samples((11, 7, 1, 9))
SHARING = ("bitnet", "afmoe", "laguna")
"""Those without layers of linear attention, whose state cannot be shared."""


@functools.cache
def network(family):
    return tiny(family)


@functools.cache
def engine(family):
    return FlashEngine(network(family), "tiny")


def model(family, made=None):
    return Model(made or engine(family), None, {"model": "tiny"}, lambda text: [])


def entering(family, tokens):
    """What enters the output projection of every attention layer, by plain hooks."""
    other, found = copy.deepcopy(network(family)), {}
    other.set_attn_implementation("eager")
    for module in other.modules():
        layer = getattr(module, "layer_idx", None)
        if hasattr(module, "o_proj") and layer in engine(family).shape.layers:
            module.o_proj.register_forward_pre_hook(
                lambda module, args, layer=layer: found.__setitem__(layer, args[0])
            )
    with torch.no_grad():
        other(torch.tensor([tokens]), use_cache=False)
    return found


def z_of(made, batch):
    seen = {}
    made.run(batch, lambda heads: seen.__setitem__(heads.layer, heads.outputs.clone()))
    return seen


def fixed(value=None):
    """Answers for rows and steps: other heads in every layer."""

    def silences(layer):
        mask = torch.zeros(1, N_HEADS, dtype=torch.bool)
        mask[0, layer % N_HEADS] = mask[0, (layer + 2) % N_HEADS] = True
        return Silence(mask, value)

    return silences


VALUE = torch.linspace(-1, 1, N_HEADS * D_HEAD).reshape(N_HEADS, D_HEAD)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", GATED)
def test_z_is_what_enters_the_projection(family, side):
    batch = TokenBatch.of(INPUTS, side=side)
    seen = z_of(engine(family), batch)
    assert sorted(seen) == list(engine(family).shape.layers)
    for row, tokens in enumerate(INPUTS):
        expected = entering(family, tokens)
        for layer, z in seen.items():
            real = z[row][batch.mask[row]].flatten(1)
            assert_close(real, expected[layer][0], rtol=1e-4)


@pytest.mark.parametrize("family", GATED)
def test_scores_are_the_definitions(family):
    found = ih.score_heads(model(family), INPUTS)
    plain.assert_scores(found, network(family), INPUTS)


@pytest.mark.parametrize("family", GATED)
def test_an_input_alone_scores_as_in_a_batch(family):
    together = ih.score_heads(model(family), INPUTS)
    for row, tokens in enumerate(INPUTS):
        alone = ih.score_heads(model(family), [tokens])
        assert_close(together[:, row], alone[:, 0], rtol=1e-4, axis=(1, 2))


@pytest.mark.parametrize("score", ["AHON (LN)", "AHRN", "AWFT"])
@pytest.mark.parametrize("family", GATED)
def test_zeroing_per_input_is_the_references(family, score):
    inputs = INPUTS[:2]
    values = np.unique(ih.score_heads(model(family), inputs, scores=[score]))
    near = values[len(values) // 2 - 3 : len(values) // 2 + 3]
    at = np.diff(near).argmax()  # the widest gap, where rounding does not decide
    threshold = float(near[at : at + 2].mean())
    run = ih.ablate(model(family), inputs, ih.PerInput(score, threshold))
    assert 0 < float(run.zeroed.mean()) < 1
    for row, tokens in enumerate(inputs):
        logits, masks = plain.per_input(network(family), tokens, score, threshold)
        np.testing.assert_array_equal(run.zeroed[row], masks)
        assert_close(run.logits[row], logits[-1], rtol=1e-4)


@pytest.mark.parametrize("value", [None, VALUE])
@pytest.mark.parametrize("family", GATED)
def test_silenced_heads_enter_the_projection_as_zero_or_the_value(family, value):
    found, made = {}, engine(family)
    handles = [
        module.o_proj.register_forward_hook(
            lambda module, args, out, layer=module.layer_idx: found.__setitem__(layer, args[0])
        )
        for module in network(family).modules()
        if hasattr(module, "o_proj") and getattr(module, "layer_idx", None) in made.shape.layers
    ]
    made.run(TokenBatch.of(INPUTS[:2]), lambda heads: fixed(value)(heads.layer))
    for handle in handles:
        handle.remove()
    wanted = torch.zeros(N_HEADS, D_HEAD) if value is None else value
    for layer in made.shape.layers:
        mask = fixed()(layer).mask[0]
        z = found[layer].reshape(2, -1, N_HEADS, D_HEAD)
        assert torch.equal(z[:, :, mask], wanted[mask].expand_as(z[:, :, mask]))
        assert bool((z[:, :, ~mask] != 0).any(dim=-1).all())


@pytest.mark.parametrize("family", ["bitnet", "afmoe"])
def test_both_engines_agree(family):
    other = tiny(family)
    other.set_attn_implementation("eager")
    lens = LensEngine(bridge_of(other, "tiny"))
    found = [ih.score_heads(model(family, made), INPUTS) for made in (engine(family), lens)]
    assert_close(*found, rtol=1e-4, axis=(1, 2, 3))
    threshold = float(found[0].sel(score="AHON (LN)").median()) + 1e-4
    runs = [
        ih.ablate(model(family, made), INPUTS, ih.PerInput("AHON (LN)", threshold))
        for made in (engine(family), lens)
    ]
    np.testing.assert_array_equal(runs[0].zeroed, runs[1].zeroed)
    assert_close(runs[0].logits, runs[1].logits, rtol=1e-4)


@pytest.mark.parametrize("value", [None, VALUE])
@pytest.mark.parametrize("family", SHARING)
def test_shared_beginnings_give_what_whole_inputs_give(family, value):
    made = engine(family)
    assert made.shares_prefixes()
    trunk = Segment([5, 6, 7], 0, None, [0, 1])
    ends = [Segment([8, 9], 3, trunk, [0]), Segment([10, 11, 12], 3, trunk, [1])]
    rows = [Row([trunk, ends[0]], after=[trunk]), Row([ends[1]], before=[trunk])]
    cache, found = None, []
    for row in rows:
        keep = torch.zeros(1, len(row.tokens), dtype=torch.bool)
        keep[0, -1] = True
        logits, cache = made.run_row(row, keep, fixed(value), cache)
        found.append(logits)
    whole = TokenBatch.of([[5, 6, 7, 8, 9], [5, 6, 7, 10, 11, 12]])
    expected = made.run(whole, lambda heads: fixed(value)(heads.layer))
    assert_close(torch.cat(found), expected, rtol=1e-4)
    assert float((torch.cat(found) - made.run(whole)).norm()) > 0.01 * float(expected.norm())


@pytest.mark.parametrize("value", [None, VALUE])
@pytest.mark.parametrize("family", GATED)
def test_cached_decoding_gives_what_whole_inputs_give(family, value):
    made, inputs = engine(family), [list(tokens) for tokens in samples((6, 3, 5))]
    decoding = CachedDecoding(made, TokenBatch.of(inputs, side="left"), fixed(value))
    logits = decoding.start()
    for step in range(4):
        expected = made.run(TokenBatch.of(inputs), lambda heads: fixed(value)(heads.layer))
        assert_close(logits, expected, rtol=1e-4)
        tokens = [40 + step, 50 + step, 60 + step]
        for one, token in zip(inputs, tokens, strict=True):
            one.append(token)
        logits = decoding.step(torch.tensor(tokens))


@pytest.mark.parametrize("family", ["bitnet", "afmoe"])
def test_a_closed_gate_makes_a_head_inactive_by_its_output_only(family):
    changed = copy.deepcopy(network(family))
    attention = changed.model.layers[1].self_attn
    with torch.no_grad():
        if family == "bitnet":  # the norm's gain stands for a gate
            attention.attn_sub_norm.weight[:D_HEAD] = 0
        else:
            attention.gate_proj.weight[:D_HEAD] = 0
            attention.gate_proj.bias = torch.nn.Parameter(torch.zeros(N_HEADS * D_HEAD))
            attention.gate_proj.bias[:D_HEAD] = -200
    found = ih.score_heads(model(family, FlashEngine(changed, "tiny")), INPUTS[:1])
    assert float(found.sel(score="AHON", layer=1, head=0).squeeze()) == 0
    assert float(found.sel(score="AHRN", layer=1, head=0).squeeze()) == 0
    for name in ("AVVN", "AWFT", "AEQD"):
        before = ih.score_heads(model(family), INPUTS[:1], scores=[name])
        assert_close(found.sel(score=[name], layer=[1]), before.sel(layer=[1]), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["bitnet", "afmoe", "laguna"])
def test_half_precision_takes_the_same_way(family, dtype):
    half = FlashEngine(copy.deepcopy(network(family)).to(dtype), "tiny")
    batch = TokenBatch.of(INPUTS[:2])
    expected = z_of(engine(family), batch)
    for layer, z in z_of(half, batch).items():
        assert z.dtype == dtype
        real = z[batch.mask].float(), expected[layer][batch.mask]
        assert float((real[0] - real[1]).norm() / real[1].norm()) < 0.1


@pytest.mark.parametrize("place", ["v_proj", "between"])
@pytest.mark.parametrize("family", BETWEEN)
def test_weights_that_are_not_finite_are_refused_with_their_place(family, place):
    damaged = copy.deepcopy(network(family))
    name = BETWEEN[family] if place == "between" else place
    attention = damaged.model.layers[1].self_attn
    attention.get_submodule(name).weight.data.view(-1)[0] = torch.nan
    part = "outputs" if place == "between" else "value vectors"
    with pytest.raises(ih.UserError, match=f"began in layer 1, in the heads' {part}.*{name}"):
        FlashEngine(damaged, "tiny")


@pytest.mark.parametrize("family", GATED)
def test_nothing_is_left_behind(family):
    made, batch = engine(family), TokenBatch.of(INPUTS[:2])
    before = made.run(batch)

    def broken(heads):
        raise ArithmeticError("the visitor failed")

    with pytest.raises(ArithmeticError):
        made.run(batch, broken)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network(family).modules())
    assert torch.equal(made.run(batch), before)


@pytest.mark.parametrize("family", ["bitnet", "laguna"])
def test_what_later_layers_read_is_of_what_enters_the_projection(family):
    found, inputs = {}, INPUTS[:3]
    engine(family).run(
        TokenBatch.of(inputs), lambda heads: found.update({heads.layer: get_score("RON")(heads)})
    )
    layout = written.Layout(family)
    for row, tokens in enumerate(inputs):
        seen = written.expected(network(family), layout, tokens)
        for layer, read in written.expected_reads(network(family), layout, seen):
            counted = read[1:] if len(tokens) > 1 else read
            expected = counted.double().square().mean(dim=0).sqrt().float()
            assert_close(found[layer][row], expected, rtol=1e-4)
