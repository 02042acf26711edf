"""A placebo silences as many heads of each layer as the ablation it follows, drawn at random."""

from itertools import combinations

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.closeness import assert_close
from helpers.layers_that_differ import tiny_llama_with_heads
from helpers.tiny_models import SAMPLES, tiny_gpt2, tiny_llama
from helpers.unchecked import unchecked
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import inactive_heads as ih
from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import bridge_of

NETWORKS = {
    "gpt2": tiny_gpt2,
    "llama, grouped queries": tiny_llama,
    "layers that differ": lambda: tiny_llama_with_heads([(4, 2), (2, 1), (6, 2)]),
}
MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))


class FirstHeads(Ablation):
    """Silences the first heads of every layer, as many as the input's number says."""

    label = "first-heads"

    def __init__(self, counts):
        self.counts = np.asarray(counts)

    def __call__(self, heads):
        counts = torch.as_tensor(self.counts[list(heads.batch.rows)])
        return ih.Silence(torch.arange(heads.n_heads) < counts[:, None])


@pytest.fixture(params=list(NETWORKS), scope="module")
def model(request):
    network = NETWORKS[request.param]()
    engine = FlashEngine(network, "tiny")
    provenance = {"model": "tiny", "dtype": "float32", "device": "cpu"}
    return ih.Model(engine, None, provenance, list)


@pytest.mark.parametrize("score", ["AHON (LN)", "AWFT"])
def test_as_many_heads_of_every_layer_and_input_as_the_score_would_silence_there(model, score):
    values = ih.score_heads(model, SAMPLES, scores=[score])
    threshold = float(ih.choose_thresholds(values, [35]).squeeze())
    placebo = ih.Placebo(ih.PerInput(score, threshold), seed=3)
    recorder = ZeroedRecorder(placebo, model.shape, len(SAMPLES))
    counts = np.zeros((len(SAMPLES), len(model.shape.layers)), dtype=int)

    def visit(heads):
        found = ih.get_score(score)(heads)
        beyond = found > threshold if score == "AWFT" else found < threshold
        place = model.shape.layers.index(heads.layer)
        counts[list(heads.batch.rows), place] = beyond.sum(dim=1).numpy()
        return recorder(heads)

    model.engine.run(ih.TokenBatch.of(SAMPLES), visit)
    assert len(np.unique(counts)) > 1
    np.testing.assert_array_equal(recorder.masks.sum(axis=2), counts)
    assert not recorder.masks[:, ~model.shape.exists].any()
    theirs = ih.ablate(model, SAMPLES, ih.PerInput(score, threshold)).zeroed
    assert not (recorder.masks == theirs.values).all()
    # The first layer reads what no ablation has changed.
    np.testing.assert_array_equal(counts[:, 0], theirs.values[:, 0].sum(axis=1))


def test_every_set_of_heads_is_drawn_as_often():
    samples = [[token % 97] for token in range(600)]
    run = ih.ablate(MODEL, samples, ih.Placebo(FirstHeads(np.full(600, 2)), seed=1))
    masks = run.zeroed.values
    assert (masks.sum(axis=2) == 2).all()
    for layer in range(3):
        pairs = [tuple(np.flatnonzero(row)) for row in masks[:, layer]]
        observed = [pairs.count(pair) for pair in combinations(range(4), 2)]
        assert stats.chisquare(observed).pvalue > 1e-3, (layer, observed)
    # Layers are drawn independently: the same set in two layers is a matter of chance, 1 in 6.
    same = (masks[:, 0] == masks[:, 1]).all(axis=1).sum()
    assert stats.binomtest(int(same), 600, 1 / 6).pvalue > 1e-3


def test_heads_of_inputs_with_other_counts_are_drawn_as_often():
    counts = np.arange(800) % 5
    samples = [[token % 97] for token in range(800)]
    masks = ih.ablate(MODEL, samples, ih.Placebo(FirstHeads(counts), seed=0)).zeroed.values
    np.testing.assert_array_equal(masks.sum(axis=2), np.repeat(counts[:, None], 3, axis=1))
    for count in (1, 2, 3):
        observed = masks[counts == count].sum(axis=0)
        assert (stats.chisquare(observed, axis=1).pvalue > 1e-3).all(), (count, observed)


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 6), seed=st.integers(0, 99))
def test_draws_are_seeded_and_independent_of_batching(batch_size, seed):
    placebo = ih.Placebo(ih.PerInput("AHON (LN)", 0.95), seed=seed)
    one = ih.ablate(MODEL, SAMPLES, placebo, batch_size=batch_size)
    other = ih.ablate(MODEL, SAMPLES, placebo)
    assert 0 < one.percent_zeroed < 100
    assert one.zeroed.equals(other.zeroed)
    assert_close(one.logits, other.logits, rtol=1e-4)


def test_other_seeds_and_inputs_are_drawn_other_heads():
    samples = [[5, 6, 7]] * 40
    one, other = (
        ih.ablate(MODEL, samples, ih.Placebo(FirstHeads([2] * 40), seed=seed)).zeroed.values
        for seed in (1, 2)
    )
    assert (one != other).any()
    assert len({row.tobytes() for row in one}) > 10


def test_a_part_of_the_inputs_is_drawn_what_it_is_in_the_whole():
    placebo = ih.Placebo(ih.PerInput("AHON (LN)", 0.95), seed=4)
    whole = ih.ablate(MODEL, SAMPLES, placebo).zeroed.values
    part = ih.ablate(MODEL, SAMPLES[2:], placebo.starting_at(2)).zeroed.values
    np.testing.assert_array_equal(part, whole[2:])
    of_random = ih.Placebo(ih.Random(0.4, seed=4), seed=4)
    whole = ih.ablate(MODEL, SAMPLES, of_random).zeroed.values
    part = ih.ablate(MODEL, SAMPLES[2:], of_random.starting_at(2)).zeroed.values
    np.testing.assert_array_equal(part, whole[2:])


def test_more_heads_include_fewer():
    few, more = (
        ih.ablate(MODEL, SAMPLES, ih.Placebo(FirstHeads([n] * 5), seed=9)).zeroed.values
        for n in (1, 3)
    )
    assert (more | ~few).all()
    assert few.any()


def test_a_placebo_of_random_with_its_seed_is_drawn_other_heads():
    samples = [[token % 97] for token in range(300)]
    random = ih.Random(0.5, seed=0)
    own = ih.ablate(MODEL, samples, random).zeroed.values
    drawn = ih.ablate(MODEL, samples, ih.Placebo(random, seed=0)).zeroed.values
    np.testing.assert_array_equal(drawn.sum(axis=2), own.sum(axis=2))
    # Two of four heads at a time: two draws are the same set in 1 of 6 cases.
    two = own.sum(axis=2) == 2
    same = (own == drawn).all(axis=2)[two]
    assert stats.binomtest(int(same.sum()), len(same), 1 / 6).pvalue > 1e-3


def test_of_one_set_for_all_inputs_it_is_one_set_for_all_inputs():
    fixed = ih.Fixed([(0, 1), (2, 0), (2, 3)])
    sets = set()
    for seed in range(60):
        placebo = ih.Placebo(fixed, seed=seed)
        masks = np.stack([placebo.silence(layer, 4).mask[0].numpy() for layer in range(3)])
        assert masks.sum(axis=1).tolist() == [1, 0, 2]
        sets.add(masks.tobytes())
        if seed < 3:
            zeroed = ih.ablate(MODEL, SAMPLES, placebo).zeroed.values
            np.testing.assert_array_equal(zeroed, np.broadcast_to(masks, zeroed.shape))
    assert len(sets) > 15  # of 4 × 6
    assert not placebo.depends_on_activations
    assert ih.Placebo(ih.PerInput("AHON", 1.0)).depends_on_activations


def test_text_is_generated_as_with_the_set_that_was_drawn():
    placebo = ih.Placebo(ih.Fixed(["L0H1", "L1H0", "L1H3"]), seed=1)
    model = ih.load_model("llama-style-tiny")
    drawn = {
        layer: placebo.silence(layer, model.shape.of(layer).n_heads).mask[0].nonzero().flatten()
        for layer in model.shape.layers
    }
    assert {layer: len(heads) for layer, heads in drawn.items()} == {0: 1, 1: 2}
    heads = ih.Fixed({layer: found.tolist() for layer, found in drawn.items()})
    given = {"max_new_tokens": 5, "progress": False}
    ours = ih.generate(model, [[1, 2, 3], [4, 5]], placebo, **given)
    assert ours.tokens == ih.generate(model, [[1, 2, 3], [4, 5]], heads, **given).tokens


def test_what_replaces_outputs_is_that_of_the_ablation_followed():
    means = xr.DataArray(
        np.random.default_rng(0).normal(size=(3, 4, 8)),
        dims=("layer", "head", "d_head"),
        coords={"layer": range(3)},
    )
    of = ih.PerInput("AHON (LN)", 0.95, replacement=means)
    placebo = ih.Placebo(of, seed=2)
    assert placebo.replacement is means
    run = ih.ablate(MODEL, SAMPLES, placebo)
    zeroed = ih.ablate(MODEL, SAMPLES, ih.Placebo(ih.PerInput("AHON (LN)", 0.95), seed=2))
    assert (run.zeroed[:, 0] == zeroed.zeroed[:, 0]).all()
    assert not torch.allclose(run.logits, zeroed.logits)
    for row, sample in enumerate(SAMPLES):  # one input at a time, its set given by hand
        own = run.zeroed.isel(sample=row)
        alone = ih.ablate(MODEL, [sample], ih.Fixed(own, replacement=means))
        assert_close(alone.logits[0], run.logits[row], rtol=1e-4)
    with pytest.raises(ih.UserError, match=r"replacement has shape \(1, 4, 8\)"):
        ih.ablate(MODEL, SAMPLES, ih.Placebo(ih.PerInput("AHON", 1.0, replacement=means[:1])))


def test_what_it_cannot_follow_is_refused():
    with unchecked(), pytest.raises(ih.UserError, match=r"follows an ablation.*not 'AHON'"):
        ih.Placebo("AHON")
    with pytest.raises(ih.UserError, match="L7H0 is not in the model"):
        ih.ablate(MODEL, SAMPLES, ih.Placebo(ih.Fixed([(7, 0)])))
    with unchecked(), pytest.raises(ih.UserError, match="seed"):
        ih.Placebo(ih.Fixed([]), seed=0.5)


def test_labels_tell_placebos_apart():
    followed = [ih.PerInput("AHON", 1.0), ih.PerInput("AHON", 2.0), ih.Fixed([(0, 1)])]
    placebos = [ih.Placebo(one, seed) for one in followed for seed in (0, 1)]
    assert len({one.label for one in (*followed, *placebos)}) == 9
    assert ih.Placebo(ih.PerInput("AHON", 1.0), 1).label == placebos[1].label
