"""Padding on the left changes nothing, and what a visitor sees stands where the batch put it."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_families import N_HEADS, samples, tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import can_decode
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

BART = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": N_HEADS,
    "decoder_ffn_dim": 48,
    "num_hidden_layers": 2,
    "is_decoder": True,
    "pad_token_id": 1,
}
RECURRENT = {"num_key_value_heads": 1, "attention_window_size": 4, "lru_width": 32}
MODELS = {  # positions by place, a recurrent state, a convolution's, and a model with neither
    "bart": BART,
    "recurrent_gemma": RECURRENT,
    "lfm2": {},
    "llama": {},
}
MINIMAX = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 2,
    "layer_types": ["linear_attention", "full_attention", "full_attention"],
}
UNLIKE_ALONE = ("bart", "recurrent_gemma")
"""Those whose own results differ with padding on the left."""
INPUTS = samples((9, 5, 1, 7))
LENGTH = 9


@functools.cache
def network(family):
    return tiny(family, **(MODELS | {"minimax": MINIMAX}).get(family, {}))


@functools.cache
def engine(family, kind="flash"):
    if kind == "flash":
        return FlashEngine(network(family), "tiny")
    other = copy.deepcopy(network(family))
    other.set_attn_implementation("eager")
    return LensEngine(bridge_of(other, "tiny"))


def padded(before):
    """The inputs with some padding before each, the rest after it."""
    tokens = torch.full((len(INPUTS), LENGTH), 3)
    mask = torch.zeros(len(INPUTS), LENGTH, dtype=torch.bool)
    for row, (one, start) in enumerate(zip(INPUTS, before, strict=True)):
        tokens[row, start : start + len(one)] = torch.tensor(one)
        mask[row, start : start + len(one)] = True
    return TokenBatch(tokens, mask, range(5, 5 + len(INPUTS)))


LAYOUTS = {"left": (0, 4, 8, 2), "both sides": (0, 2, 3, 1), "one on the left": (0, 0, 8, 0)}


class Look:
    """Everything that has positions, and silences a head in some inputs."""

    def __init__(self, mask=None):
        self.layers, self.mask = {}, mask

    def __call__(self, heads):
        self.layers[heads.layer] = [
            heads.outputs,
            heads.values,
            heads.stream(),
            heads.first_token_weight,
            heads.entropy,
            heads.pattern.movedim(1, -1),
            heads.pattern_of(2),
        ]
        self.batch = heads.batch
        return None if self.mask is None else Silence(self.mask)


SOME = torch.arange(len(INPUTS) * N_HEADS).reshape(len(INPUTS), N_HEADS) % 3 == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, "flash") for family in MODELS), ("llama", "lens"), ("gpt2", "lens")],
)
def test_each_input_is_seen_where_it_stands_and_as_it_is_alone(family, kind, layout):
    made, batch = engine(family, kind), padded(LAYOUTS[layout])
    look = Look(SOME)
    logits = made.run(batch, look, keep=batch.mask)
    assert look.batch is batch
    plain = made.run(batch)
    at = 0
    for row, tokens in enumerate(INPUTS):
        real = batch.mask[row]
        alone = Look(SOME[row][None])
        expected = made.run(TokenBatch.of([tokens]), alone, keep=torch.ones(1, len(tokens)) > 0)
        assert_close(logits[at : at + len(tokens)], expected, rtol=1e-4)
        assert_close(plain[row], made.run(TokenBatch.of([tokens]))[0], rtol=1e-4)
        at += len(tokens)
        for layer, seen in look.layers.items():
            *vectors, pattern, of_head = seen
            *own, own_pattern, own_of_head = alone.layers[layer]
            for one, other in zip(vectors, own, strict=True):
                assert_close(one[row][real], other[0], rtol=1e-4)
            assert_close(pattern[row][real][:, real], own_pattern[0], rtol=1e-4)
            assert_close(of_head[row][real][:, real], own_of_head[0], rtol=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_caches_are_used_where_they_give_what_whole_inputs_give(family):
    made = engine(family)
    assert can_decode(made) == (family not in UNLIKE_ALONE)
    prompts, written = INPUTS[:3], []
    for tokens in prompts:
        text = list(tokens)
        for _ in range(4):
            text.append(int(made.run(TokenBatch.of([text])).argmax()))
        written.append(text[len(tokens) :])
    model = Model(made, None, {"model": "tiny"}, lambda text: [])
    found = ih.generate(model, prompts, max_new_tokens=4, progress=False)
    ends = [[*one, 0].index(0) + 1 for one in written]  # 0 ends a text
    assert [list(one) for one in found.tokens] == [
        one[:end] for one, end in zip(written, ends, strict=True)
    ]


def test_a_model_that_cannot_use_a_cache_says_so_where_it_is_needed():
    model = Model(engine("bart"), None, {"model": "tiny"}, lambda text: [])
    chosen = ih.PerInput("AHON (LN)", 0.9)
    with pytest.raises(ih.UserError, match='decide="prompt" keeps a cache.*"every-step"') as error:
        ih.generate(model, INPUTS, chosen, decide="prompt", max_new_tokens=2, progress=False)
    assert "\n" not in str(error.value)
    ih.generate(model, INPUTS[:1], chosen, max_new_tokens=2, progress=False)


def test_a_cache_that_fails_is_noticed_and_done_without():
    made = engine("minimax")
    model = Model(made, None, {"model": "tiny"}, lambda text: [])
    with pytest.warns(ih.Notice, match="MiniMaxForCausalLM writes text by running all of it"):
        first = ih.generate(model, INPUTS[:2], max_new_tokens=2, progress=False)
    again = ih.generate(model, INPUTS[:2], max_new_tokens=2, progress=False)
    assert first.tokens == again.tokens
