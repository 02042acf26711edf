"""What a user's score function may not return, and what it may."""

import numpy as np
import pytest
import torch
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))
SAMPLES = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


def returning(change):
    def mine(heads):
        return change(heads.mean_over_tokens(heads.z_norm))

    return mine


def with_one(value, row, head):
    def change(values):
        values = values.clone()
        values[row, head] = value
        return values

    return change


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(("row", "head"), [(0, 0), (1, 3), (2, 2)])
def test_one_number_that_is_not_finite_is_refused_by_its_place(value, row, head):
    score = returning(with_one(value, row, head))
    # One batch, longest first: rows 2, 0, 1.
    which = [2, 0, 1][row]
    with pytest.raises(
        ih.UserError, match=rf"'mine' returned {value} for input {which}, L0H{head}"
    ):
        ih.score_heads(MODEL, SAMPLES, scores=[score])
    with pytest.raises(ih.UserError, match=f"returned {value} for input"):
        ih.ablate(MODEL, SAMPLES, ih.PerInput(score, 0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.numpy(), "returned a ndarray"),
        (lambda values: values[0], r"returned shape \(4,\); it must be \(batch, head\) = \(3, 4\)"),
        (lambda values: values[:, :2], r"returned shape \(3, 2\)"),
        (lambda values: values.T, r"returned shape \(4, 3\)"),
        (lambda values: values[None], r"returned shape \(1, 3, 4\)"),
        (lambda values: values > 0, r"returned torch\.bool"),
        (lambda values: values.long(), r"returned torch\.int64"),
    ],
)
def test_what_is_no_number_per_input_and_head_is_refused(change, message):
    with pytest.raises(ih.UserError, match=message):
        ih.score_heads(MODEL, SAMPLES, scores=[returning(change)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_floats_of_other_widths_become_float32(dtype):
    found = ih.score_heads(MODEL, SAMPLES, scores=[returning(lambda values: values.to(dtype))])
    plain = ih.score_heads(MODEL, SAMPLES, scores=["AHON"])
    assert found.dtype == np.float32
    expected = torch.tensor(plain.values).to(dtype).float().numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-2)
    assert found["inactive"].values.tolist() == ["below"]
