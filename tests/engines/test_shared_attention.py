"""Attention modules that run in several layers: every layer is scored and silenced by itself."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.reference import scores
from helpers.shared_attention import MODELS, SAMPLES, run
from helpers.tiny_families import tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.model import Model

QUIET = {"progress": False}
plain_run = functools.cache(lambda name, row: run(MODELS[name], SAMPLES[row]))


@functools.cache
def model(name):
    network = MODELS[name].make()
    return Model(FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [])


def heads_of(layer):
    """Another pair of heads in every layer."""
    return [layer % 4, (layer + 1) % 4]


def some_heads(name):
    """Heads of the first and the last layer, and their mask (layer, head)."""
    shape = model(name).engine.shape
    heads = {shape.layers[0]: [1], shape.layers[-1]: [2, 3]}
    mask = np.zeros((shape.n_layers, shape.n_heads), dtype=bool)
    for layer, own in heads.items():
        mask[layer, own] = True
    return heads, mask


def silencing(heads):
    def visit(seen):
        mask = torch.zeros(1, 4, dtype=torch.bool)
        mask[0, list(heads.get(seen.layer, ()))] = True
        return Silence(mask)

    return visit


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_has_its_place_in_the_list(name):
    shape = model(name).engine.shape
    assert shape.layers == MODELS[name].layers
    assert shape.n_layers == len(MODELS[name].make().get_submodule(MODELS[name].blocks))


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_a_plain_float64_run(name):
    found = ih.score_heads(model(name), SAMPLES, **QUIET)
    for row in range(len(SAMPLES)):
        layers = plain_run(name, row)[1]
        assert tuple(sorted(layers)) == MODELS[name].layers
        expected = [scores(layers[layer]) for layer in MODELS[name].layers]
        for score in expected[0]:
            assert_close(
                found.sel(score=score).values[row],
                [one[score] for one in expected],
                rtol=1e-3,
                axis=1,
                err_msg=score,
            )


@pytest.mark.parametrize("name", MODELS)
def test_heads_zeroed_in_one_layer_are_not_zeroed_where_the_module_runs_again(name):
    engine, tokens = model(name).engine, SAMPLES[0]
    batch, results = TokenBatch.of([tokens]), []
    for layer in MODELS[name].layers:
        zeroed = {layer: heads_of(0)}
        found = engine.run(batch, silencing(zeroed), keep=batch.mask)
        expected = run(MODELS[name], tokens, zeroed)[0]
        assert_close(found, expected, rtol=1e-3)
        results.append(expected)
    own = plain_run(name, 0)[0]
    apart = [np.abs(one - other).max() for one in results for other in (own, *results)]
    assert sum(one < 1e-2 for one in apart) == len(results)  # each is equal to itself alone


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name, side):
    heads = {layer: heads_of(layer) for layer in MODELS[name].layers}
    batch = TokenBatch.of(SAMPLES, side=side)
    found = model(name).engine.run(batch, silencing(heads))
    plain = model(name).engine.run(batch)
    for row, tokens in enumerate(SAMPLES):
        assert_close(found[row], run(MODELS[name], tokens, heads)[0][-1], rtol=1e-3)
        assert_close(plain[row], plain_run(name, row)[0][-1], rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_zeroing_per_input_is_the_references(name):
    values = np.unique(ih.score_heads(model(name), SAMPLES[::2], scores=["AHON (LN)"], **QUIET))
    near = values[len(values) // 2 - 3 : len(values) // 2 + 3]
    at = np.diff(near).argmax()  # the widest gap, where rounding does not decide
    threshold = float(near[at : at + 2].mean())
    found = ih.ablate(model(name), SAMPLES[::2], ih.PerInput("AHON (LN)", threshold), **QUIET)
    assert 0 < float(found.zeroed.mean()) < 1
    for row, tokens in enumerate(SAMPLES[::2]):
        zeroed = {}
        for layer in MODELS[name].layers:
            own = scores(run(MODELS[name], tokens, zeroed)[1][layer])["AHON (LN)"]
            zeroed[layer] = np.flatnonzero(own < threshold).tolist()
        logits = run(MODELS[name], tokens, zeroed)[0]
        masks = [np.isin(range(4), heads) for heads in zeroed.values()]
        np.testing.assert_array_equal(found.zeroed[row], masks)
        assert_close(found.logits[row], logits[-1], rtol=1e-3)


@pytest.mark.filterwarnings("ignore::inactive_heads.errors.Notice")
@pytest.mark.parametrize("name", MODELS)
def test_text_is_generated_as_by_whole_runs(name):
    heads, mask = some_heads(name)
    found = ih.generate(model(name), SAMPLES, ih.Fixed(mask), max_new_tokens=4, **QUIET)
    for row, tokens in enumerate(SAMPLES):
        written = list(tokens)
        for token in found.tokens[row]:
            logits = run(MODELS[name], written, heads)[0][-1]
            assert logits[token] >= logits.max() - 1e-3
            written.append(int(token))
        assert len(written) == len(tokens) + 4


@pytest.mark.filterwarnings("ignore::inactive_heads.errors.Notice")
@pytest.mark.parametrize("name", MODELS)
def test_inputs_with_a_shared_beginning_give_what_each_gives_alone(name):
    inputs = [[*SAMPLES[0], 50, 60], [*SAMPLES[0], 50, 61, 62], [*SAMPLES[0], 70]]
    heads, mask = some_heads(name)
    found = ih.ablate(model(name), inputs, ih.Fixed(mask), **QUIET).logits
    for row, tokens in enumerate(inputs):
        expected = run(MODELS[name], tokens, heads)[0][-1]
        assert_close(found[row], expected, rtol=1e-3)


TWINS = {"llama, one attention": "llama", "gated, one attention": "afmoe"}


@pytest.mark.parametrize("name", TWINS)
def test_the_read_norm_is_that_of_layers_with_equal_weights(name):
    twin = tiny(TWINS[name])
    for block in twin.model.layers:
        block.self_attn.load_state_dict(twin.model.layers[0].self_attn.state_dict())
    other = Model(FlashEngine(twin, "twin"), None, {"model": "twin"}, lambda text: [])
    found, expected = (
        ih.score_heads(one, SAMPLES, scores=["RON", "AHRN"], **QUIET)
        for one in (model(name), other)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["zamba", "zamba2, two modules", "a pool outside the layers"])
def test_the_read_norm_is_refused_where_heads_do_not_write_into_the_stream(name):
    with pytest.raises(ih.UserError, match="these heads write into the residual stream is not"):
        ih.score_heads(model(name), SAMPLES, scores=["RON"], **QUIET)
