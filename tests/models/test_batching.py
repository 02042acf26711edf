"""How inputs are batched: by memory, halved where they do not fit, with the same results."""

import warnings
from dataclasses import replace
from itertools import combinations

import numpy as np
import psutil
import pytest
import torch
from helpers.closeness import assert_close
from helpers.models_on_disk import save_folder
from helpers.tiny_models import SAMPLES, tiny_llama
from hypothesis import given
from hypothesis import strategies as st

import inactive_heads as ih
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.batching import (
    FASTEST_TOKENS,
    batch_sizes,
    run_in_batches,
    tokens_per_batch,
)


@pytest.fixture
def model(tmp_path):
    return ih.load_model(save_folder(tmp_path / "tiny", tiny_llama()))


def limited(model, most_inputs, error):
    """The model, with a device on which only so many inputs fit together."""

    class Limited:
        """An engine by attributes of its own, as Python looks for a protocol's since 3.12."""

        name, shape = model.engine.name, model.engine.shape
        device, dtype = model.engine.device, model.engine.dtype

        def __init__(self):
            self.ran = []

        def bytes_per_token(self, longest):
            return model.engine.bytes_per_token(longest)

        def run(self, batch, visitor=None, keep=None):
            # Visitors see a layer before memory runs out, as they would.
            logits = model.engine.run(batch, visitor, keep)
            if len(batch.rows) > most_inputs:
                raise error
            self.ran.append(list(batch.rows))
            return logits

    return replace(model, engine=Limited())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_says_so(model, error):
    small = limited(model, 2, error)
    task = ih.TextTask("text-loss", [sample for sample in SAMPLES if len(sample) > 1])
    ablation = ih.PerInput("AHON (LN)", 0.97)
    with pytest.warns(Notice, match=r"5 inputs of 19 tokens do not fit .* going on with 2 at"):
        scores = ih.score_heads(small, SAMPLES)
    assert [len(rows) for rows in small.engine.ran] == [1, 2, 2]
    with pytest.warns(Notice):
        run = ih.ablate(small, SAMPLES, ablation)
    with pytest.warns(Notice):
        means = ih.mean_head_outputs(small, SAMPLES)
    with pytest.warns(Notice):
        items = ih.evaluate(small, task, ablation).items
    assert_close(scores, ih.score_heads(model, SAMPLES), rtol=1e-5, axis=(1, 2, 3))
    whole = ih.ablate(model, SAMPLES, ablation)
    assert np.array_equal(run.zeroed, whole.zeroed)
    assert_close(run.logits, whole.logits, rtol=1e-4)
    assert_close(means, ih.mean_head_outputs(model, SAMPLES), rtol=1e-5)
    expected = ih.evaluate(model, task, ablation).items
    assert_close(items["loss"], expected["loss"], rtol=1e-5)


def test_an_input_that_does_not_fit_alone_is_an_error(model):
    small = limited(model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        with pytest.raises(UserError, match=r"an input of 19 tokens does not fit .* by itself"):
            ih.score_heads(small, SAMPLES)


def test_other_errors_are_not_taken_for_memory(model):
    broken = limited(model, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        ih.score_heads(broken, SAMPLES)


def test_automatic_batches_fit_the_free_memory(model, monkeypatch):
    per_token = model.engine.bytes_per_token(19)
    free = type("Memory", (), {"available": 2 * per_token * 40})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert tokens_per_batch(model, 19) == 40
    ran = []
    run_in_batches(model, SAMPLES, lambda batch: ran.append(batch.tokens.shape))
    assert ran == [(1, 19), (4, 8)]
    free.available = 10**15
    assert tokens_per_batch(model, 19) == FASTEST_TOKENS["cpu"]


def test_an_engine_that_holds_patterns_needs_more_memory_the_longer_the_input(tmp_path):
    folder = save_folder(tmp_path / "tiny", tiny_llama())
    flash, lens = (ih.load_model(folder, engine=name).engine for name in ("flash", "lens"))
    assert flash.bytes_per_token(9) == flash.bytes_per_token(900)
    assert lens.bytes_per_token(900) > lens.bytes_per_token(9) > flash.bytes_per_token(9)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    room=st.integers(1, 120),
    cost=st.integers(0, 50),
)
def test_batches_cost_the_least_of_all_that_fit(lengths, room, cost):
    ordered = sorted(lengths, reverse=True)

    def total(sizes):
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        pairs = list(zip(sizes, starts, strict=True))
        if any(size > max(1, room // ordered[start]) for size, start in pairs):
            return float("inf")
        return sum(cost + size * ordered[start] for size, start in pairs)

    n = len(ordered)
    cuts = (cut for k in range(n) for cut in combinations(range(1, n), k))
    every = [list(np.diff([0, *cut, n])) for cut in cuts]
    found = batch_sizes(ordered, lambda longest: max(1, room // longest), cost)
    assert sum(found) == n
    assert total(found) == min(map(total, every))


def test_a_batch_size_that_was_asked_for_fills_every_batch(model):
    ran = []
    run_in_batches(model, SAMPLES, lambda batch: ran.append(len(batch.rows)), batch_size=2)
    assert ran == [2, 2, 1]
