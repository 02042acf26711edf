"""Models whose layers differ in heads, key/value heads, widths, or share keys and values."""

import copy

import numpy as np
import pytest
import torch
from helpers import layers_that_differ as differing
from helpers.closeness import assert_close
from helpers.layers_that_differ import MODELS, SAMPLES, padded
from helpers.reference import scores as reference_scores

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of

QUIET = {"progress": False}
SHOWN_LATE = [("gemma 4", "lens"), ("laguna", "lens")]
"""Where TransformerLens shows the pattern only after z: no head can be zeroed by it."""
CASES = [(name, "flash") for name in MODELS]
CASES += [(name, "lens") for name, one in MODELS.items() if one.has_bridge]


@pytest.fixture(scope="module")
def made():
    """name → the network, and engine → the model."""
    found = {}
    for name, one in MODELS.items():
        network = one.make()
        engines = {"flash": FlashEngine(copy.deepcopy(network), name)}
        if one.has_bridge:
            engines["lens"] = LensEngine(bridge_of(copy.deepcopy(network), name))
        about = {"model": name, "dtype": "float32", "device": "cpu"}
        models = {key: ih.Model(engine, None, about, list) for key, engine in engines.items()}
        found[name] = network, models
    return found


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_the_shape_knows_each_layer(made, name, engine):
    shape, heads = made[name][1][engine].shape, MODELS[name].heads
    assert shape.heads == tuple(heads)
    assert [shape.of(layer) for layer in shape.layers] == heads
    assert shape.n_heads == max(one.n_heads for one in heads)
    assert shape.d_head == max(one.d_head for one in heads)


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_scores_are_those_of_each_layers_own_heads(made, name, engine):
    network, models = made[name]
    heads = MODELS[name].heads
    found = ih.score_heads(models[engine], SAMPLES, **QUIET)
    width = max(one.n_heads for one in heads)
    assert found.shape == (15, len(SAMPLES), len(heads), width)
    for row, sample in enumerate(SAMPLES):
        _, layers = differing.run(network, heads, sample)
        expected = [reference_scores(layer) for layer in layers]
        for score in expected[0]:
            grid = padded([one[score] for one in expected], width)
            own = found.sel(score=score).values[row]
            np.testing.assert_array_equal(np.isnan(own), np.isnan(grid), err_msg=score)
            assert_close(np.nan_to_num(own), np.nan_to_num(grid), rtol=2e-4, axis=1, err_msg=score)


@pytest.mark.parametrize(
    ("name", "engine", "score"),
    [
        (*case, score)
        for case in CASES
        for score in ("AHON (LN)", "AWFT")
        if case not in SHOWN_LATE or score != "AWFT"
    ],
)
def test_heads_are_zeroed_per_input_by_each_layers_own_scores(made, name, engine, score):
    network, models = made[name]
    heads, sample = MODELS[name].heads, SAMPLES[2]
    values = ih.score_heads(models[engine], [sample], scores=[score], **QUIET)
    # Between two scores, so that rounding decides nothing.
    known = np.sort(values.values[np.isfinite(values.values)].astype(float))
    place = len(known) // 3 if score == "AHON (LN)" else 2 * len(known) // 3
    threshold = float(known[place - 1 : place + 1].mean())
    run = ih.ablate(models[engine], [sample], ih.PerInput(score, threshold), **QUIET)
    logits, zeroed = differing.per_input(network, heads, sample, score, threshold)
    assert [tuple(pair) for pair in np.argwhere(run.zeroed.values[0]).tolist()] == zeroed
    assert 0 < len(zeroed) < sum(one.n_heads for one in heads)
    assert run.percent_zeroed == pytest.approx(
        100 * len(zeroed) / sum(one.n_heads for one in heads)
    )
    assert_close(run.logits[0].numpy(), logits, rtol=2e-4)


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_fixed_set_and_mean_outputs_of_each_layers_own_width(made, name, engine):
    network, models = made[name]
    heads, sample = MODELS[name].heads, SAMPLES[0]
    pairs = [(layer, heads[layer].n_heads - 1) for layer in range(4)]
    means = ih.mean_head_outputs(models[engine], SAMPLES, **QUIET)
    own = [differing.run(network, heads, one)[1] for one in SAMPLES]
    for layer, sizes in enumerate(heads):
        expected = np.concatenate([layers[layer].z for layers in own]).mean(axis=0)
        found = means.sel(layer=layer).values
        assert_close(found[: sizes.n_heads, : sizes.d_head], expected, rtol=2e-4)
        assert np.isnan(found[sizes.n_heads :]).all()
        assert np.isnan(found[:, sizes.d_head :]).all()
    for replacement in (None, means):
        run = ih.ablate(models[engine], [sample], ih.Fixed(pairs, replacement), **QUIET)
        given = None if replacement is None else means.values
        logits, _ = differing.run(network, heads, sample, pairs, given)
        assert_close(run.logits[0].numpy(), logits[-1], rtol=2e-4)
        assert [tuple(pair) for pair in np.argwhere(run.zeroed.values[0]).tolist()] == pairs


@pytest.mark.parametrize("name", MODELS)
def test_cached_decoding_and_shared_prefixes_give_what_whole_inputs_give(made, name):
    model = made[name][1]["flash"]

    class Whole(ih.Fixed):
        depends_on_activations = True

        def silence(self, layer, n_heads):
            return super().silence(layer, n_heads)

    pairs = [(layer, 1) for layer in range(4)]
    cached = ih.generate(model, SAMPLES, ih.Fixed(pairs), max_new_tokens=4, **QUIET)
    whole = ih.generate(model, SAMPLES, Whole(pairs), max_new_tokens=4, **QUIET)
    assert cached.tokens == whole.tokens
    n_heads = model.shape.total_heads
    np.testing.assert_allclose(cached.percent_zeroed, 100 * 4 / n_heads)
    texts = ih.TextTask("texts", [[*range(1, 30), 60 + last] for last in range(4)])
    by_rows = ih.evaluate(model, texts, ih.Fixed(pairs), **QUIET)
    one_by_one = ih.evaluate(model, texts, Whole(pairs), **QUIET)
    np.testing.assert_allclose(by_rows.items["loss"], one_by_one.items["loss"], rtol=1e-4)
    assert by_rows.percent_zeroed == one_by_one.percent_zeroed == 100 * 4 / n_heads


def test_values_that_transformer_lens_shows_are_those_that_attention_sums(made):
    engine = made["gemma 4"][1]["lens"].engine  # it normalises them after hook_v

    def look(heads):
        summed = torch.einsum("bhqk,bkhd->bqhd", heads.pattern, heads.v)
        torch.testing.assert_close(summed, heads.z, rtol=1e-4, atol=1e-5)

    engine.run(TokenBatch.of(SAMPLES[:1]), look)


@pytest.mark.parametrize("name", ["gemma 4 whose last layers share"])
def test_transformer_lens_does_not_leave_out_layers_without_a_word(name):
    with pytest.raises(ih.UserError, match=r"no hook_v .* layers \[2, 3\] .*cannot show its heads"):
        LensEngine(bridge_of(MODELS[name].make(), name))


@pytest.mark.parametrize("name", ["pruned llama", "gemma 4"])
def test_scores_of_a_cache(made, name):
    bridge = made[name][1]["lens"].engine.bridge
    _, cache = bridge.run_with_cache(torch.tensor(SAMPLES[:1]))
    found = ih.score_cache(cache)
    expected = ih.score_heads(bridge, SAMPLES[:1], **QUIET)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6)
    for size in ("n_heads", "n_key_value_heads", "d_head"):
        assert (size in found.coords) == (size in expected.coords)
