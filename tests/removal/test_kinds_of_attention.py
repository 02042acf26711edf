"""A model without heads has the logits of zeroing or replacing them, on every kind of attention."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.layers_that_differ import MODELS
from helpers.removed_heads import (
    OPTIONS,
    model_of,
    n_parameters,
    pairs,
    projection_of,
    real_logits,
    silenced,
)
from helpers.tiny_families import D_HEAD, attention_modules, samples, tiny

import inactive_heads as ih

D_MODEL = 32
SAMPLES = samples()


@dataclass(frozen=True)
class Kind:
    """How many numbers of an architecture's weights make a head, beside its rows of W_Q and W_O."""

    groups: int = 2
    query_biases: bool = False
    key_value_biases: bool = False
    gates: int = 0  # rows
    sinks: int = 0

    @property
    def per_head(self):
        rows = 2 * D_HEAD + self.gates
        return rows * D_MODEL + D_HEAD * self.query_biases + self.sinks

    @property
    def per_group(self):
        return 2 * D_HEAD * (D_MODEL + self.key_value_biases)


BIASED = {"query_biases": True, "key_value_biases": True}
KINDS = {
    "gpt2": Kind(groups=4, **BIASED),  # Conv1D, fused
    "gpt_neox": Kind(groups=4, **BIASED),  # fused, head by head
    "opt": Kind(groups=4, **BIASED),
    "phi": Kind(groups=4, **BIASED),
    "llama": Kind(),
    "qwen2": Kind(**BIASED),
    "qwen3": Kind(),  # norms of queries and keys
    "mistral": Kind(),
    "gemma2": Kind(),  # a soft cap, norms after attention
    "gemma3_text": Kind(),
    "granite": Kind(),
    "phi3": Kind(),  # fused
    "falcon": Kind(groups=1),  # fused, multi-query, computes attention itself
    "gpt_oss": Kind(**BIASED, sinks=1),
    "lfm2": Kind(),  # attention in some layers
    "afmoe": Kind(gates=D_HEAD),
    "laguna": Kind(gates=1),
    "qwen3_5_text": Kind(gates=D_HEAD),
    "qwen3_next": Kind(gates=D_HEAD),
}
SETS = {
    "even": ({0: [1, 2]}, {0: [0, 2], 1: [0, 2]}),
    "uneven": ({0: [3], 1: [0]}, {0: [3], 1: [0, 1, 2]}),
    "a whole group": ({0: [2, 3]}, {0: [0, 1], 1: [1]}),
    "a whole layer": ({0: [0, 1, 2, 3]}, {0: [0, 1, 2, 3], 1: [2]}),
}


@pytest.fixture(scope="module")
def made():
    """architecture → the network and its model."""
    found = {}
    for name in KINDS:
        network = tiny(name, **OPTIONS.get(name, {}))
        found[name] = network, model_of(network, name)
    return found


FULLY = ("gpt2", "llama", "gpt_oss")
CASES = [(name, which, by) for name in FULLY for which in SETS for by in ("zero", "mean")]
CASES += [(name, "uneven", "mean") for name in KINDS if name not in FULLY]
CASES += [(name, "a whole group", "zero") for name in ("gpt_neox", "phi3", "qwen3_next")]
CASES += [(name, "a whole layer", "mean") for name in ("gemma2", "lfm2", "falcon")]


@pytest.mark.parametrize(("name", "which", "replaced"), CASES)
def test_the_logits_are_those_with_the_heads_silenced(made, name, which, replaced):
    network, model = made[name]
    layers = model.shape.layers
    removed = {layers[place]: own for place, own in SETS[which][replaced == "mean"].items()}
    heads, means, arrays = pairs(removed), None, None
    if replaced == "mean":
        means = ih.mean_head_outputs(model, SAMPLES, progress=False)
        arrays = {
            (layer, head): torch.tensor(means.sel(layer=layer, head=head).values).float()
            for layer, head in heads
        }
    with silenced(network, heads, D_HEAD, arrays):
        expected = real_logits(network, SAMPLES)
    small = ih.remove_heads(model, heads, replacement=means)
    found = real_logits(small.engine.network, SAMPLES)
    assert_close(found, expected, rtol=1e-4)
    assert float((found - real_logits(network, SAMPLES)).abs().max()) > 1e-2
    assert small.shape.total_heads == model.shape.total_heads - len(heads)
    gone = n_parameters(network) - n_parameters(small.engine.network)
    assert gone == cut_numbers(name, network, removed, means is not None)


def cut_numbers(name, network, removed, by_means):
    """How many numbers of its weights make the heads that are removed from each layer."""
    kind, modules = KINDS[name], attention_modules(network)
    total = 0
    for layer, heads in removed.items():
        kept = {head * kind.groups // 4 for head in range(4) if head not in heads}
        bias = projection_of(modules[layer]).bias is not None
        if kept:
            total += len(heads) * kind.per_head + (kind.groups - len(kept)) * kind.per_group
        else:
            total += n_parameters(modules[layer]) - D_MODEL * bias
        total -= D_MODEL * (by_means and not bias)
    return total


@pytest.mark.parametrize("name", FULLY)
def test_the_model_given_stays_as_it_is(made, name):
    network, model = made[name]
    before = copy.deepcopy(network.state_dict())
    config = copy.deepcopy(network.config.to_dict())
    hooks = [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in network.modules()]
    layer = model.shape.layers[0]
    small = ih.remove_heads(model, {layer: [0, 1]}).engine.network
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert network.config.to_dict() == config
    assert hooks == [
        len(one._forward_hooks) + len(one._forward_pre_hooks) for one in network.modules()
    ]
    own = {one.data_ptr() for one in network.parameters()}
    assert own.isdisjoint(one.data_ptr() for one in small.parameters())


def test_tied_weights_stay_tied(made):
    for name in ("gpt2", "llama", "gemma2"):
        network, model = made[name]
        tied = network.get_input_embeddings().weight is network.get_output_embeddings().weight
        small = ih.remove_heads(model, {model.shape.layers[0]: [0, 1]}).engine.network
        ours = small.get_input_embeddings().weight is small.get_output_embeddings().weight
        assert ours == tied, name


NOT_CUT = {
    "olmo2": ({}, "has no outputs of linear layers that make the query of head 1 alone"),
    "bitnet": ({}, "does not run without them"),  # a norm of all heads together
    "mpt": ({}, "has no outputs of linear layers"),
    "bloom": ({}, "has no outputs of linear layers"),
    "falcon": ({"alibi": True, "multi_query": False}, "does not run without them"),
}


@pytest.mark.parametrize(("name", "case"), NOT_CUT.items(), ids=NOT_CUT)
def test_an_architecture_that_cannot_take_fewer_heads_is_refused(name, case):
    options, message = case
    model = model_of(tiny(name, **options), name)
    with pytest.raises(ih.UserError, match=f"heads cannot be removed from .*{message}"):
        ih.remove_heads(model, [(0, 1)])


def test_a_model_that_computes_attention_itself_keeps_its_groups_even():
    options = {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False}
    network = tiny("falcon", **options)
    model = model_of(network)
    with pytest.raises(ih.UserError, match="all key/value heads of a layer need the same number"):
        ih.remove_heads(model, [(0, 1)])
    with silenced(network, [(0, 2), (0, 3)], D_HEAD):
        expected = real_logits(network, SAMPLES)
    small = ih.remove_heads(model, [(0, 2), (0, 3)])
    assert_close(real_logits(small.engine.network, SAMPLES), expected, rtol=1e-4)


def test_layers_that_share_keys_and_values_are_refused():
    sharing = [
        one for one in MODELS.values() if any(own.key_value_layer is not None for own in one.heads)
    ]
    model = model_of(sharing[0].make())
    with pytest.raises(ih.UserError, match="read the keys and values of other layers"):
        ih.remove_heads(model, [(model.shape.layers[0], 0)])


def test_heads_of_layers_that_differ_are_counted_layer_by_layer():
    own = [one for one in MODELS.values() if all(h.key_value_layer is None for h in one.heads)]
    for one in own[:2]:
        model = model_of(one.make())
        last = model.shape.layers[-1]
        small = ih.remove_heads(model, [(last, 0)])
        counts = [own.n_heads for own in model.shape.heads]
        assert [own.n_heads for own in small.shape.heads] == [*counts[:-1], counts[-1] - 1]
        run = [np.arange(1, 9).tolist()]
        silent = ih.ablate(model, run, ih.Fixed([(last, 0)]), progress=False).logits
        assert_close(ih.ablate(small, run, None, progress=False).logits, silent, rtol=1e-4)
