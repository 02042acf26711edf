"""Why the flash engine refuses a model: what the model does is said as it is seen, not by its name.

Also models that look as if they had to be refused, and are right.
"""

import copy
from functools import partial

import pytest
import torch
from helpers.architecture_checks import YES, check
from helpers.closeness import assert_close
from helpers.tiny_architectures import tiny_architecture
from helpers.tiny_families import samples
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.prefix_tree import Row, Segment

REASONS = {
    "diffllama": "computes attention several times in one call of layer 0, as differential attention does",
    "jetmoe": "projects heads in layer 0 by experts that are chosen for each token",
    "deepseek_v4": r"keys that are not single tokens \(5 for 4 tokens\) in layer 3",
    "hrm_text": "runs layer 0 of model.L_module.layers several times",
    "blt": r"has several stacks of layers, model\.\w+\.layers and model\.\w+\.layers",
    "prophetnet": r"predicts several tokens at every place .*\(1, 2, 4, 32\)",
}


@pytest.mark.parametrize("model_type", REASONS)
def test_an_architecture_is_refused_for_what_it_does(model_type):
    with pytest.raises(ih.UserError, match=REASONS[model_type]) as refused:
        FlashEngine(tiny_architecture(model_type), "tiny")
    assert len(str(refused.value)) < 300


class Attention(nn.Module):
    """Attention by transformers' interface, of which a part can be changed."""

    def __init__(self, of):
        super().__init__()
        self.of, self.layer_idx, self.is_causal = of, of.layer_idx, True
        self.config, self.num_key_value_groups = of.config, of.num_key_value_groups
        self.o_proj = of.o_proj

    def inputs(self, hidden):
        parts = (self.of.q_proj, self.of.k_proj, self.of.v_proj)
        return [part(hidden).unflatten(-1, (-1, self.of.head_dim)).mT.mT for part in parts]

    def attend(self, query, key, value, mask):
        function = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        z, _ = function(self, query, key, value, mask, scaling=self.of.scaling)
        return z.flatten(2)

    def output(self, query, key, value, mask):
        return self.attend(query, key, value, mask)

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **_others):
        query, key, value = (part.transpose(1, 2) for part in self.inputs(hidden_states))
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        return self.o_proj(self.output(query, key, value, attention_mask)), None


class Differential(Attention):
    def output(self, query, key, value, mask):
        first, second = (self.attend(query, key, one, mask) for one in (value, value.flip(-1)))
        return first - 0.3 * second


class SideBySide(Attention):
    def forward(self, hidden_states, **others):
        other = self.of(hidden_states, **others)[0]
        return super().forward(hidden_states, **others)[0] + other, None


class ExtraKeys(Attention):
    """Adds a key for every eight tokens."""

    def output(self, query, key, value, mask):
        n = key.shape[2] // 8
        key, value = (torch.cat([one, one[:, :, :n]], dim=2) for one in (key, value))
        return self.attend(query, key, value, mask)


class ExtraQueries(Attention):
    def output(self, query, key, value, mask):
        query, key, value = (torch.cat([one, one], dim=2) for one in (query, key, value))
        return self.attend(query, key, value, mask)[:, : query.shape[2] // 2]


class Experts(nn.Module):
    """Half of the tokens are projected by one expert, the others by another."""

    def __init__(self, of):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([of.weight.T, of.weight.T.flip(0)]))

    def forward(self, z):
        return torch.cat([z[::2] @ self.weight[0], z[1::2] @ self.weight[1]])


class ByExperts(Attention):
    def __init__(self, of):
        super().__init__(of)
        self.o_proj = Experts(of.o_proj)

    def forward(self, hidden_states, **others):
        z = self.attend(*(one.transpose(1, 2) for one in self.inputs(hidden_states)), None)[0]
        order = torch.cat([torch.arange(len(z))[::2], torch.arange(len(z))[1::2]])
        return self.o_proj(z[order.argsort()])[None], None


def with_attention(kind):
    network = tiny_architecture("llama")
    layer = network.model.layers[1]
    layer.self_attn = kind(layer.self_attn)
    return network


def after_all(network, layer):
    """Runs a layer after the last one."""
    forward, angles = network.model.norm.forward, network.model.rotary_emb

    def run(hidden):
        positions = torch.arange(hidden.shape[1])[None]
        return forward(layer(hidden, position_embeddings=angles(hidden, positions)))

    network.model.norm.forward = run


def once_more(network):
    after_all(network, network.model.layers[1])


def another_stack(network):
    network.others = nn.ModuleList([copy.deepcopy(network.model.layers[1])])
    after_all(network, network.others[0])


CHANGES = {
    "runs layer 1 of model.layers several times": once_more,
    "has several stacks of layers, model.layers and others": another_stack,
}
PARTS = {
    "computes attention several times in one call of layer 1, as differential attention does": Differential,
    "has more than one attention module in layer 1": SideBySide,
    "projects heads in layer 1 by experts": ByExperts,
    r"queries that are not single tokens \(8 for 4 tokens\) in layer 1": ExtraQueries,
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_changed_model_is_refused_for_the_change(reason):
    network = tiny_architecture("llama")
    CHANGES[reason](network)
    with pytest.raises(ih.UserError, match=reason):
        FlashEngine(network, "mine")


@pytest.mark.parametrize("reason", PARTS)
def test_a_model_with_another_attention_is_refused_for_it(reason):
    with pytest.raises(ih.UserError, match=reason):
        FlashEngine(with_attention(PARTS[reason]), "mine")


def test_the_attention_of_these_tests_is_shown():
    made, seen = FlashEngine(with_attention(Attention), "mine"), []
    logits = made.run(TokenBatch.of(samples((9, 6))), lambda heads: seen.append(heads.layer))
    assert seen == [0, 1, 2]
    assert_close(logits, made.run(TokenBatch.of(samples((9, 6)))), rtol=1e-4)


def visited(engine, tokens):
    engine.run(TokenBatch.of([tokens]), lambda heads: None)


def in_a_row(engine, tokens):
    row = Row([Segment(tokens, 0, None, [0])])
    engine.run_row(row, torch.ones(1, len(tokens), dtype=torch.bool), lambda layer: None)


def decoded(engine, tokens):
    decoding = CachedDecoding(engine, TokenBatch.of([tokens[:7]]), lambda layer: None)
    decoding.start()
    decoding.step(torch.tensor(tokens[7:8]))


@pytest.mark.parametrize("run", [visited, in_a_row, decoded])
def test_keys_beside_the_tokens_are_refused_when_they_appear(run):
    made, (tokens,) = FlashEngine(with_attention(ExtraKeys), "mine"), samples((8,))
    visited(made, tokens[:7])
    with pytest.raises(ih.UserError, match=r"layer 1 has keys .* \(9 for 8 tokens\)"):
        run(made, tokens)


def not_causal(attention):
    network = tiny_architecture("llama", attention)
    for layer in network.model.layers:
        layer.self_attn.is_causal = False
    return network


def test_a_decoder_that_is_causal_by_its_mask_is_right():
    """transformers' eager attention always gets a mask, in BigBird-Pegasus too."""
    found = check("tiny", "flash", partial(tiny_architecture, "bigbird_pegasus"))
    assert found.status == YES, found.reason
    assert found.checks["attention"] == YES


def test_a_layer_that_is_not_causal_by_itself_is_right_with_eager_attention():
    inputs, silence = samples((9, 6)), Silence(torch.tensor([[False, True, False, False]]))
    made, plain = (FlashEngine(one, "mine") for one in (not_causal("eager"), plain_llama()))
    for side in ("left", "right"):
        batch = TokenBatch.of(inputs, side=side)
        for visitor in (None, lambda heads: silence):
            assert_close(made.run(batch, visitor), plain.run(batch, visitor), rtol=1e-4)
    decoding = CachedDecoding(made, TokenBatch.of(inputs, side="left"), lambda layer: silence)
    decoding.start()
    longer = TokenBatch.of([[*one, 5] for one in inputs])
    found = decoding.step(torch.tensor([5, 5]))
    assert_close(found, plain.run(longer, lambda heads: silence), rtol=1e-4)
    assert made.shares_prefixes()


def plain_llama():
    return tiny_architecture("llama")


@pytest.mark.parametrize(
    "build",
    [
        partial(not_causal, "sdpa"),
        partial(tiny_architecture, "gemma3_text", "eager", use_bidirectional_attention=True),
        partial(tiny_architecture, "bert", "eager", is_decoder=False),
    ],
    ids=["SDPA without a mask", "a mask that lets them", "an encoder"],
)
def test_tokens_that_see_later_ones_are_refused(build):
    with pytest.raises(ih.UserError, match="lets tokens see later ones"):
        FlashEngine(build(), "mine")
