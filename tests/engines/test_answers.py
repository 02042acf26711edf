"""A visitor answers None or a Silence that fits; anything else is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_families import D_HEAD, N_HEADS, samples, tiny
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.ablation.ablations import Ablation
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.prefix_tree import Row, Segment
from inactive_heads.models.model import Model

INPUTS = samples((6, 4, 5))
MASK = torch.zeros(len(INPUTS), N_HEADS, dtype=torch.bool)
SOME = MASK.clone()
SOME[:, 1] = True
VALUE = torch.ones(N_HEADS, D_HEAD)


def holes(head):
    value = VALUE.clone()
    value[head, 2] = torch.nan
    return value


NO_ANSWERS = {
    "True": True,
    "a mask": MASK,
    "a list": [False] * N_HEADS,
    "a tuple": (MASK, VALUE),
    "an array": MASK.numpy(),
    "a word": "L1H2",
}
MISFITS = {
    "floats": (
        lambda: Silence(MASK.float()),
        "a boolean torch.Tensor, not a Tensor of torch.float32",
    ),
    "integers": (
        lambda: Silence(MASK.long()),
        "a boolean torch.Tensor, not a Tensor of torch.int64",
    ),
    "an array": (lambda: Silence(MASK.numpy()), "a boolean torch.Tensor, not a ndarray of bool"),
    "a list": (lambda: Silence([[True] * N_HEADS]), "a boolean torch.Tensor, not a list"),
    "(head, batch)": (
        lambda: Silence(MASK.T),
        r"shape \(4, 3\); it must be \(batch, head\) = \(3, 4\)",
    ),
    "one axis": (lambda: Silence(MASK[0]), r"shape \(4,\); it must be"),
    "too many heads": (lambda: Silence(torch.ones(3, 5, dtype=torch.bool)), r"shape \(3, 5\)"),
    "too few inputs": (lambda: Silence(MASK[:2]), r"shape \(2, 4\)"),
    "value by head": (lambda: Silence(SOME, VALUE[0]), r"value of a Silence has shape \(8,\)"),
    "value of more heads": (lambda: Silence(SOME, torch.ones(5, D_HEAD)), r"shape \(5, 8\)"),
    "integer value": (lambda: Silence(SOME, VALUE.long()), "a floating-point torch.Tensor"),
    "NaN": (lambda: Silence(SOME, holes(1)), "not finite at head 1"),
    "infinity": (lambda: Silence(SOME, holes(1).nan_to_num(torch.inf)), "not finite at head 1"),
}


@pytest.fixture(scope="module")
def network():
    return tiny("llama")


@pytest.fixture(scope="module", params=["flash", "lens"])
def engine(request, network):
    if request.param == "flash":
        return FlashEngine(network, "tiny")
    other = tiny("llama")
    other.set_attn_implementation("eager")
    return LensEngine(bridge_of(other, "tiny"))


@pytest.fixture(autouse=True)
def as_users_call():
    """Without the tests' checks of types, which would refuse these answers before the package."""
    with unchecked():
        yield


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_is_refused(engine, kind):
    with pytest.raises(
        ih.UserError, match="at layer 0 a visitor returned a .* must return None"
    ) as e:
        engine.run(TokenBatch.of(INPUTS), lambda heads: NO_ANSWERS[kind])
    assert "Silence(mask)" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", MISFITS)
def test_an_answer_that_does_not_fit_is_refused(engine, kind):
    make, message = MISFITS[kind]
    answer = make()
    with pytest.raises(ih.UserError, match=message):
        engine.run(TokenBatch.of(INPUTS), lambda heads: answer)
    with pytest.raises(ih.UserError, match=message):
        answer.apply(torch.ones(3, 2, N_HEADS, D_HEAD))


@pytest.mark.parametrize("kind", MISFITS)
def test_rows_and_cached_steps_refuse_it_too(network, kind):
    answer = MISFITS[kind][0]()
    flash = FlashEngine(network, "tiny")
    row = Row([Segment(INPUTS[0], 0, None, [0])])
    keep = torch.ones(1, len(INPUTS[0]), dtype=torch.bool)
    if kind not in ("NaN", "infinity", "value by head", "value of more heads", "integer value"):
        with pytest.raises(ih.UserError, match="the mask of a Silence"):
            flash.run_row(row, keep, lambda layer: answer)
    with pytest.raises(ih.UserError, match="of a Silence"):
        CachedDecoding(flash, TokenBatch.of(INPUTS, side="left"), lambda layer: answer).start()
    with pytest.raises(ih.UserError, match="at layer 0 a visitor returned a bool"):
        flash.run_row(row, keep, lambda layer: True)


@pytest.mark.parametrize("mask", [SOME, SOME[:1]], ids=["each input", "all inputs"])
def test_nan_in_place_of_a_head_that_is_not_silenced_does_not_matter(engine, mask):
    batch = TokenBatch.of(INPUTS)
    with_holes, whole = (
        engine.run(batch, lambda heads, value=value: Silence(mask, value))
        for value in (holes(2), VALUE)
    )
    assert_close(with_holes, whole, rtol=1e-6)


class Mine(Ablation):
    """An ablation of a user's own, with any answer."""

    def __init__(self, answer):
        self.answer = answer

    label = "mine"

    def __call__(self, heads):
        return self.answer


@pytest.mark.parametrize("answer", [True, MASK, np.zeros((3, 4)), "floats"])
def test_ablations_of_ones_own_are_checked(engine, answer):
    answer = Silence(MASK.float()) if isinstance(answer, str) else answer
    model = Model(engine, None, {"model": "tiny"}, lambda text: [])
    with pytest.raises(ih.UserError, match="Silence"):
        ih.ablate(model, INPUTS, Mine(answer), progress=False)


def test_an_ablation_may_answer_none(engine):
    model = Model(engine, None, {"model": "tiny"}, lambda text: [])
    run = ih.ablate(model, INPUTS, Mine(None), progress=False)
    assert not run.zeroed.any()
    plain = ih.ablate(model, INPUTS, None, progress=False)
    assert_close(run.logits, plain.logits, rtol=1e-5)
