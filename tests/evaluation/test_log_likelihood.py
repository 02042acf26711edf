"""Log-probabilities of targets and of the best tokens against the network's own, in float64."""

import copy

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.evaluation import log_likelihood
from inactive_heads.evaluation.log_likelihood import log_likelihoods, targets, targets_and_best
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ScoredInput

NETWORK = tiny_llama()
MODEL = Model(FlashEngine(copy.deepcopy(NETWORK), "tiny"), None, {"model": "tiny"}, lambda text: [])
PREFIX = [7, 3, 50, 11, 60, 22, 31, 90, 45, 12, 5, 71]


def log_probs(tokens):
    """``(pos, vocab)``: the network's own, alone and in float64."""
    with torch.no_grad():
        logits = copy.deepcopy(NETWORK).double()(torch.tensor([tokens])).logits[0]
    return logits.log_softmax(dim=-1).numpy()


def greedy(tokens):
    return int(log_probs(tokens)[-1].argmax())


def inputs_of(prefixes):
    """Inputs whose targets are, in turn, the most probable token, the least, and one at random."""
    made = []
    for n, prefix in enumerate(prefixes):
        own = log_probs(prefix)
        positions = sorted({0, len(prefix) // 2, len(prefix) - 1})
        chosen = [int(own[at].argmax()) for at in positions]
        for place in range(len(positions)):
            if (place + n) % 3 == 1:
                chosen[place] = int(own[positions[place]].argmin())
            if (place + n) % 3 == 2:
                chosen[place] = (17 * n + place) % 97
        made.append(ScoredInput(prefix, positions, chosen))
    return made


APART = [PREFIX, PREFIX[::-1], [9], [4, 4, 4], list(range(20, 45))]
ALIKE = [[*PREFIX, *end] for end in ([1], [2, 3], [2, 4], [2, 4, 6, 8], [])]


@pytest.mark.parametrize("measure", [targets, targets_and_best])
@pytest.mark.parametrize("prefixes", [APART, ALIKE], ids=["apart", "shared prefixes"])
@pytest.mark.parametrize("batch_size", ["auto", 1, 2])
def test_they_are_the_networks_own(prefixes, measure, batch_size):
    inputs = inputs_of(prefixes)
    done = []
    found = log_likelihoods(
        MODEL, inputs, advance=done.append, batch_size=batch_size, measure=measure
    )
    assert sum(done) == sum(map(len, prefixes))
    greedy_ones = 0
    for one, values in zip(inputs, found, strict=True):
        own = log_probs(one.tokens)
        expected = own[one.positions, one.targets]
        best = own[one.positions].max(axis=1)
        if measure is targets:
            assert_close(values, expected, rtol=1e-5)
            continue
        assert_close(values, [expected, best], rtol=1e-5)
        is_greedy = np.array(one.targets) == own[one.positions].argmax(axis=1)
        assert np.array_equal(values[0] == values[1], is_greedy)
        greedy_ones += is_greedy.sum()
    if measure is targets_and_best:
        assert 0 < greedy_ones < sum(len(one.targets) for one in inputs)


@pytest.mark.parametrize("most", [1, 7, 40])
@pytest.mark.parametrize("prefixes", [APART, ALIKE], ids=["apart", "shared prefixes"])
def test_a_limit_on_logits_changes_only_how_many_are_held_at_a_time(most, prefixes, monkeypatch):
    held = []

    class Counting(FlashEngine):
        def run(self, batch, visitor=None, keep=None):
            held.append(0 if keep is None else int(keep.sum()))
            return super().run(batch, visitor, keep)

        def run_row(self, row, keep, silences, cache):
            held.append(int(keep.sum()))
            return super().run_row(row, keep, silences, cache)

    model = Model(Counting(copy.deepcopy(NETWORK), "tiny"), None, {"model": "tiny"}, list)
    inputs = inputs_of(prefixes)
    whole = log_likelihoods(model, inputs, advance=lambda n: None)
    assert max(held) > 7, "all at once"
    held.clear()
    monkeypatch.setattr(log_likelihood, "MAX_LOGITS", most * 97)
    few = log_likelihoods(model, inputs, advance=lambda n: None)
    for one, other in zip(whole, few, strict=True):
        assert_close(one, other, rtol=1e-5)
    # What is read in one input, or in what inputs share, is not divided: at most 5 places here.
    assert max(held) <= max(most, 5)


def test_heads_that_are_silenced_change_what_is_measured():
    inputs = inputs_of(ALIKE)
    plain = log_likelihoods(MODEL, inputs, advance=lambda n: None)
    task = ih.TextTask("text", [[1, 2, 3, 4]])
    assert ih.evaluate(MODEL, task).items["loss"][0] == pytest.approx(
        -log_probs([1, 2, 3, 4])[[0, 1, 2], [2, 3, 4]].mean(), rel=1e-5
    )
    from inactive_heads.ablation.recorder import ZeroedRecorder

    fixed = ZeroedRecorder(ih.Fixed([(0, 0), (1, 2)]), MODEL.shape, len(inputs))
    silenced = log_likelihoods(MODEL, inputs, fixed, advance=lambda n: None)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(plain, silenced, strict=True))
