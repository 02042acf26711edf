"""Which layer a call of attention belongs to, or why that is not known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.shared_attention import PooledConfig, PooledForCausalLM, Step, pooled
from helpers.tiny_architectures import tiny_architecture
from helpers.tiny_families import samples, tiny
from torch import nn

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.model import Model

INPUTS = samples((7, 1, 11))


def score(network):
    model = Model(FlashEngine(network, "mine"), None, {"model": "mine"}, lambda text: [])
    return ih.score_heads(model, INPUTS, scores=["AHON", "AWFT", "AHRN", "RON"], progress=False)


def attentions(network):
    return [layer.self_attn for layer in network.model.layers]


def unnumbered(network):
    for attention in attentions(network):
        del attention.layer_idx


def numbered(*numbers):
    def change(network):
        for attention, number in zip(attentions(network), numbers, strict=True):
            attention.layer_idx = number

    return change


class Bare(nn.Module):
    """A layer whose code is called, not the module."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs):
        return self.block.forward(*args, **kwargs)


def called_past_hooks(network):
    unnumbered(network)
    layers = network.model.layers
    network.model.layers = nn.ModuleList(Bare(layer) for layer in layers)


OTHERWISE = {
    "without a number": unnumbered,
    "None": numbered(None, None, None),
    "-1 in all": numbered(-1, -1, -1),
    "0 in all": numbered(0, 0, 0),
    "words": numbered("0", "1", "2"),
    "from 1": numbered(1, 2, 3),
    "as before layers were removed": numbered(0, 5, 11),
    "without a number, in layers called past hooks": called_past_hooks,
}


@pytest.mark.parametrize("change", OTHERWISE.values(), ids=OTHERWISE)
def test_a_layer_is_numbered_by_its_place_whatever_number_its_attention_bears(change):
    expected, network = score(tiny("llama")), tiny("llama")
    change(network)
    found = score(network)
    assert found.layer.values.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found, expected)


def test_the_number_that_a_module_bears_serves_where_a_layer_has_two():
    network = tiny_architecture("longcat_flash")
    assert len(network.model.layers) == 2
    assert FlashEngine(network, "mine").shape.layers == (0, 1, 2, 3)


@pytest.mark.parametrize("family", ["bart", "whisper", "plbart"])
def test_a_decoder_has_as_many_layers_as_its_list_whatever_the_encoder_had(family):
    shape = FlashEngine(tiny_architecture(family, encoder_layers=2, decoder_layers=4), "x").shape
    assert (shape.n_layers, shape.layers) == (4, (0, 1, 2, 3))


def looped(network):
    first, second, _ = network.model.layers
    inner = first.forward
    first.forward = lambda x, **given: second(inner(x, **given), **given)
    return network


class Outside(PooledForCausalLM):
    """Its attention has no number, and runs in modules that stand in no list."""

    def __init__(self, config):
        super().__init__(config)
        self.first, self.second = (Step(config) for _ in range(2))
        self.one, self.pool = self.pool[0], nn.ModuleList()

    def forward(self, input_ids, use_cache=False):
        x = self.embed(input_ids)
        for step in (self.first, self.second):
            x = step(x, self.one, mask=None, cache=None, at=0)
        return type("Output", (), {"logits": self.lm_head(x)})


class Looping(PooledForCausalLM):
    """Runs the modules of its pool one after the other, and again."""

    plan = (0, 1, 0, 1)

    def forward(self, input_ids, use_cache=False):
        x = self.embed(input_ids)
        for chosen in self.plan:
            x = x + self.pool[chosen](x, None, None, 0)
        return type("Output", (), {"logits": self.lm_head(x)})


REFUSED = {
    "several stacks": (
        lambda: tiny_architecture("blt"),
        "has several stacks of layers, model.patcher.layers and model.local_encoder.layers",
    ),
    "cycles": (
        lambda: tiny_architecture("hrm_text"),
        "runs layer 0 of model.L_module.layers several times in one forward pass",
    ),
    "cycles by hand": (
        lambda: Looping(PooledConfig()).eval(),
        "runs layer 0 of pool several times in one forward pass",
    ),
    "two in a layer": (
        lambda: tiny("diffllama", num_key_value_heads=2),
        "computes attention several times in one call of layer 0",
    ),
    "a layer in a layer": (
        lambda: looped(tiny("llama")),
        "has more than one attention module in layer 0",
    ),
    "no list": (
        lambda: Outside(PooledConfig()).eval(),
        "has attention, Pooled, without a number and in no list",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_number_of_its_own_is_refused_with_the_reason(kind):
    make, reason = REFUSED[kind]
    with pytest.raises(ih.UserError, match=reason) as error:
        FlashEngine(make(), "mine")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


class Adaptive(PooledForCausalLM):
    """Runs other layers for inputs of more than four tokens."""

    def forward(self, input_ids, **given):
        self.plan = self.plans[input_ids.shape[1] > 4]
        return super().forward(input_ids, **given)


RUNS = (0, None, 0, None, 1)
CHANGING = {
    "another module": ((0, None, 0, None, None), RUNS, "a layer Pooled did not run on four tokens"),
    "a module of its own, shared": ((None, 0, None, None, 1), RUNS, "runs more often than on four"),
    "a shared module in other layers": (RUNS, (None, 0, None, 0, 1), "did not run on four tokens"),
    "fewer layers": (RUNS, (0, None, None, None, 1), "layer 2 shows its attention on four tokens"),
    "no layer": (
        RUNS,
        (None,) * 5,
        "layer 0 shows its attention on four tokens, but not on these inputs",
    ),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_other_layers_than_on_four_tokens_are_refused_when_they_run(kind):
    *plans, reason = CHANGING[kind]
    network = Adaptive(PooledConfig()).eval()
    network.plans = plans
    engine = FlashEngine(network, "mine")
    engine.run(TokenBatch.of([[1, 2, 3]]), lambda heads: None)
    with pytest.raises(ih.UserError, match=reason):
        engine.run(TokenBatch.of([[1, 2, 3, 4, 5, 6]]), lambda heads: None)


def test_layers_that_run_again_on_longer_inputs_are_refused_then():
    network = tiny("llama")
    engine, last = FlashEngine(network, "mine"), network.model.layers[2]
    inner = last.forward

    def again(x, **given):
        return inner(inner(x, **given), **given)

    last.forward = again
    with pytest.raises(ih.UserError, match="LlamaAttention runs more often than on four tokens"):
        engine.run(TokenBatch.of([[1, 2, 3, 4, 5, 6]]), lambda heads: None)


@pytest.mark.parametrize(
    "make", [pooled, lambda: tiny_architecture("zamba"), lambda: tiny("llama")]
)
def test_no_hook_remains_after_a_run(make):
    network = make()
    before = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    FlashEngine(network, "mine").run(TokenBatch.of([[5, 6, 7]]), lambda heads: None)
    after = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    assert before == after
