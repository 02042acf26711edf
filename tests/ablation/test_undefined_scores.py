"""No decision is made on NaN: not on an undefined score, nor by an undefined threshold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.model import Model

QUIET = {"progress": False}
LONG = samples((6, 7))


@pytest.fixture(scope="module")
def model():
    return Model(FlashEngine(tiny("llama"), "tiny"), None, {"model": "tiny"}, lambda text: [])


@pytest.fixture(scope="module")
def with_a_dead_head():
    """A head whose value vectors, and so outputs, are 0: LTHON (HN) is 0 / 0 there."""
    network = tiny("llama")
    network.model.layers[1].self_attn.v_proj.weight.data[:8] = 0  # key/value head 0: heads 0 and 1
    return Model(FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [])


@pytest.mark.parametrize("score", ["AEQD (LN)"])
@pytest.mark.parametrize("inputs", [[[5]], [LONG[0], [5]], [[5], LONG[0]]])
def test_a_ratio_to_zero_is_on_no_side_of_a_threshold(model, score, inputs):
    where = inputs.index([5])
    assert np.isnan(ih.score_heads(model, inputs, scores=[score], **QUIET)[0, where]).all()
    with pytest.raises(ih.UserError, match=f"'AEQD .LN.' is nan for input {where}, L0H0"):
        ih.ablate(model, inputs, ih.PerInput(score, 0.5), **QUIET)


def test_a_dead_head_has_no_ratio_to_its_own_mean(with_a_dead_head):
    with pytest.raises(ih.UserError, match=r"'LTHON \(HN\)' is nan for input 0, L1H0"):
        ih.ablate(with_a_dead_head, LONG, ih.PerInput("LTHON (HN)", 0.5), **QUIET)
    with pytest.raises(ih.UserError, match=r"text-0: |'LTHON \(HN\)' is nan"):
        ih.evaluate(
            with_a_dead_head, ih.TextTask("texts", LONG), ih.PerInput("LTHON (HN)", 0.5), **QUIET
        )
    # Ratios to the layer's mean are defined, and this head is the least active by them.
    run = ih.ablate(with_a_dead_head, LONG, ih.PerInput("AHON (LN)", 0.01), **QUIET)
    assert run.zeroed.sel(layer=1, head=[0, 1]).all()


@pytest.mark.parametrize("threshold", [np.nan, np.float64("nan"), np.inf, -np.inf])
def test_a_threshold_that_is_not_finite_is_refused(threshold):
    with pytest.raises(ih.UserError, match="the threshold of 'AHON' is a finite number, not"):
        ih.PerInput("AHON", threshold)


def test_a_replacement_that_is_not_finite_is_refused(model):
    means = ih.mean_head_outputs(model, LONG, **QUIET)
    means.loc[{"layer": 1, "head": 2}] = torch.nan
    with pytest.raises(ih.UserError, match="the replacement has values that are not finite"):
        ih.ablate(model, LONG, ih.Fixed([(1, 2)], means), **QUIET)


def test_user_errors_can_be_pickled():
    assert str(pickle.loads(pickle.dumps(ih.UserError("one")))) == "one"  # noqa: S301
