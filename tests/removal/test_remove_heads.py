"""What `remove_heads` takes and refuses, and what it says of the model that it returns."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.removed_heads import model_of, real_logits
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.removal import copy_network

SAMPLES = samples()
HEADS = [(0, 1), (2, 2), (2, 3)]
QUIET = {"progress": False}


@cache
def whole():
    return model_of(tiny("llama"), "whole")


@cache
def means():
    return ih.mean_head_outputs(whole(), SAMPLES, **QUIET)


def mask():
    found = np.zeros((3, 4), dtype=bool)
    found[tuple(np.transpose(HEADS))] = True
    return found


def logits(model):
    return real_logits(model.engine.network, SAMPLES)


@pytest.mark.parametrize(
    "heads",
    [HEADS, "L0H1, L2H2 L2H3", {0: [1], 2: [2, 3]}, mask(), ih.Fixed(HEADS), np.array(HEADS)],
    ids=["pairs", "labels", "by layer", "mask", "Fixed", "array"],
)
def test_a_set_of_heads_may_have_any_form(heads):
    small = ih.remove_heads(whole(), heads)
    assert [one.n_heads for one in small.shape.heads] == [3, 4, 2]
    assert small.provenance == ih.remove_heads(whole(), HEADS).provenance


def test_no_heads_leave_the_model_as_it_is():
    assert ih.remove_heads(whole(), []) is whole()
    assert ih.remove_heads(whole(), ih.Fixed([])) is whole()


def test_a_fixed_set_brings_its_replacement():
    given = ih.remove_heads(whole(), HEADS, replacement=means())
    brought = ih.remove_heads(whole(), ih.Fixed(HEADS, replacement=means()))
    assert torch.equal(logits(given), logits(brought))
    assert given.provenance == brought.provenance
    assert float((logits(given) - logits(ih.remove_heads(whole(), HEADS))).abs().max()) > 1e-2


def test_the_model_says_what_is_missing():
    model = ih.load_model("llama-style-tiny")
    of_model = ih.mean_head_outputs(model, SAMPLES, **QUIET)
    sets = [([(0, 1)], None), ([(0, 2)], None), ([(0, 1)], of_model), ([(0, 1)], of_model * 2)]
    found = [ih.remove_heads(model, heads, replacement=one) for heads, one in sets]
    found.append(ih.remove_heads(found[0], [(1, 0)]))
    found.append(ih.remove_heads(found[1], [(1, 0)]))
    for one, count in zip(found, [1, 1, 1, 1, 2, 2], strict=True):
        assert one.provenance["heads_removed"] == count
        assert one.name.startswith(f"{model.name} without {count} heads")
        assert one.spec is None
        assert one.tokenizer is model.tokenizer
    digests = {one.provenance["heads_removed_digest"] for one in found}
    assert len(digests) == len({one.name for one in found}) == len(found)
    assert found[0].provenance["heads_replaced_by"] == "zero"
    assert found[2].provenance["heads_replaced_by"].startswith("mean")
    scores = ih.score_heads(found[0], SAMPLES, scores=["AHON"], **QUIET)
    assert scores.attrs["heads_removed"] == 1


def test_other_processes_cannot_load_it(tmp_path):
    small = ih.remove_heads(whole(), HEADS)
    task = ih.TextTask("tokens", [one for one in SAMPLES if len(one) > 1])
    with pytest.raises(ih.UserError, match="other processes cannot load it"):
        ih.sweep(small, task, scores=["AHON"], percents=[10], out=tmp_path, workers=2, **QUIET)


def test_a_bridge_or_lens_engine_is_refused():
    bridge = bridge_of(tiny("llama"), "tiny")
    for model in (bridge, replace(whole(), engine=LensEngine(bridge))):
        with pytest.raises(ih.UserError, match='run by engine="lens".*load it with'):
            ih.remove_heads(model, HEADS)


TWICE = [[(0, 1), (2, 2), (0, 1)], "L0H1 L0H1", {0: [1, 1]}, np.array([(0, 1), (3, 3), (0, 1)])]


@pytest.mark.parametrize("heads", TWICE, ids=["pairs", "labels", "by layer", "array"])
def test_a_head_given_twice_is_named(heads):
    with pytest.raises(ih.UserError, match="head L0H1 was given twice"):
        ih.remove_heads(whole(), heads)


REFUSED = {
    "unknown head": ([(0, 4)], "head L0H4 is not in the model"),
    "unknown layer": ([(3, 0)], "head L3H0 is not in the model"),
    "another model's mask": (np.zeros((2, 4), dtype=bool), r"shape \(2, 4\), the model"),
    "another model's set": (ih.Fixed([(0, 1)], about={"n_layers": 12}), "n_layers = 12"),
    "all": ([(a, b) for a in range(3) for b in range(4)], "all 12 heads of 'whole'"),
    "no set": (ih.Random(0.1), "is no set of heads"),
}


@pytest.mark.parametrize(("heads", "message"), REFUSED.values(), ids=REFUSED)
def test_a_set_that_does_not_fit_is_refused(heads, message):
    with pytest.raises(ih.UserError, match=message):
        ih.remove_heads(whole(), heads)


def test_a_replacement_that_does_not_fit_is_refused():
    with pytest.raises(ih.UserError, match="the replacement has shape"):
        ih.remove_heads(whole(), HEADS, replacement=means()[:2])
    with pytest.raises(ih.UserError, match="a replacement was given twice"):
        ih.remove_heads(whole(), ih.Fixed(HEADS, replacement=means()), replacement=means())


def test_what_was_made_before_other_heads_were_removed_is_refused():
    small = ih.remove_heads(whole(), [(layer, 0) for layer in range(3)])
    again = ih.remove_heads(whole(), [(layer, 1) for layer in range(3)])
    of_small = ih.mean_head_outputs(small, SAMPLES, **QUIET)
    message = "mean_head_output is of 'whole without 3 heads .*numbered otherwise"
    with pytest.raises(ih.UserError, match=message):
        ih.remove_heads(again, [(0, 1)], replacement=of_small)
    assert ih.remove_heads(small, [(0, 1)], replacement=of_small).shape.total_heads == 8
    scores = ih.score_heads(small, SAMPLES, scores=["AHON"], **QUIET)
    heads = ih.select_heads(scores, "AHON", percent=20)
    assert ih.remove_heads(small, heads).shape.total_heads == 9 - int(heads.sum())


def test_quantized_weights_are_refused():
    packed = model_of(tiny("llama"))
    weight = packed.engine.network.model.layers[0].mlp.up_proj.weight
    weight.requires_grad_(False)
    weight.data = weight.data.to(torch.int8)
    with pytest.raises(ih.UserError, match="are in int8, out of which heads cannot be cut"):
        ih.remove_heads(packed, HEADS)
    packed = model_of(tiny("llama"))
    packed.engine.network.hf_quantizer = SimpleNamespace()
    with pytest.raises(ih.UserError, match="are in a quantized format"):
        ih.remove_heads(packed, HEADS)


def test_a_model_spread_over_devices_is_refused():
    spread = model_of(tiny("llama"))
    spread.engine.network.lm_head._hf_hook = object()
    with pytest.raises(ih.UserError, match="is spread by a device_map"):
        ih.remove_heads(spread, HEADS)


def test_layers_that_share_weights_are_refused():
    network = tiny("llama")
    network.model.layers[1].self_attn.q_proj.weight = network.model.layers[
        0
    ].self_attn.q_proj.weight
    with pytest.raises(ih.UserError, match="shares weights of the attention of layer 0"):
        ih.remove_heads(model_of(network), [(0, 1)])
    assert ih.remove_heads(model_of(network), [(2, 1)]).shape.total_heads == 11


def off_by_one(cut):
    """A cut that takes the next head out of W_O."""

    def wrong(projection, removal):
        heads = [(head + 1) % len(removal.reads) for head in removal.removed]
        cut(projection, replace(removal, removed=heads))

    return wrong


def test_a_wrong_cut_is_refused(monkeypatch):
    cut = copy_network.cut_projection
    monkeypatch.setattr(copy_network, "cut_projection", off_by_one(cut))
    with pytest.raises(ih.UserError, match=r"LlamaForCausalLM.*then computes other"):
        ih.remove_heads(whole(), [(0, 1)])


def test_sinks_of_other_heads_are_noticed(monkeypatch):
    model = model_of(tiny("gpt_oss"))
    finish = copy_network.finish_layer

    def wrong(attention, removal, d_head, sinks):
        finish(attention, removal, d_head, sinks)
        attention.sinks.data = attention.sinks.data.flip(0) + 3

    monkeypatch.setattr(copy_network, "finish_layer", wrong)
    with pytest.raises(ih.UserError, match="then computes other"):
        ih.remove_heads(model, [(1, 0)])


def test_hooks_of_the_caller_are_not_copied():
    model, seen = model_of(tiny("llama")), []
    network = model.engine.network
    handle = network.model.layers[0].register_forward_hook(lambda *args: seen.append(1))
    small = ih.remove_heads(model, HEADS)
    handle.remove()
    seen.clear()
    found = logits(small)
    assert seen == []
    assert_close(found, logits(ih.remove_heads(model, HEADS)), rtol=1e-6)


def test_a_model_in_training_mode_gives_one_in_evaluation_mode():
    model = model_of(tiny("llama"))
    model.engine.network.train()
    small = ih.remove_heads(model, HEADS).engine.network
    assert model.engine.network.training
    assert not any(module.training for module in small.modules())
    assert not any(one.requires_grad for one in small.parameters())
