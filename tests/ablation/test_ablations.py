import copy
import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import reference
from helpers.closeness import assert_close
from helpers.reference import attention_modules
from helpers.tiny_models import SAMPLES, tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))


@pytest.mark.parametrize("score", ih.PAPER_SCORES)
def test_per_input_equals_the_float64_reference_layer_after_layer(network, score):
    model = ih.as_model(bridge_of(copy.deepcopy(network), "tiny"))
    # One token has no entropy, so that its ratio to the layer's mean is undefined.
    samples = [one for one in SAMPLES if score != "AEQD (LN)" or len(one) > 1]
    scores = ih.score_heads(model, samples, scores=[score])
    # Between two neighbouring values, so that rounding cannot decide.
    values = np.unique(scores.values[np.isfinite(scores.values)])
    middle = len(values) // 3 if score not in reference.ABOVE else 2 * len(values) // 3
    gaps = np.diff(values[middle - 4 : middle + 4])
    at = middle - 4 + int(gaps.argmax())
    threshold = float((values[at] + values[at + 1]) / 2)
    run = ih.ablate(model, samples, ih.PerInput(score, threshold))
    assert 0 < run.zeroed.mean() < 1
    for row, sample in enumerate(samples):
        logits, masks = reference.per_input(network, sample, score, threshold)
        np.testing.assert_array_equal(run.zeroed.values[row], masks)
        assert_close(run.logits[row], logits[-1], rtol=1e-4)


def test_fixed_with_all_heads_of_a_layer_leaves_only_the_output_bias(network):
    model = ih.as_model(bridge_of(copy.deepcopy(network), "tiny"))
    run = ih.ablate(model, SAMPLES, ih.Fixed([(1, head) for head in range(4)]))
    _, _, output = attention_modules(network)[1]
    bias = getattr(output, "bias", None)

    def only_bias(module, inputs, out):
        return torch.zeros_like(out) + (0 if bias is None else bias)

    handle = output.register_forward_hook(only_bias)
    for row, sample in enumerate(SAMPLES):
        expected = network(torch.tensor([sample])).logits[0, -1]
        assert_close(run.logits[row], expected, rtol=1e-4)
    handle.remove()
    assert run.zeroed.sel(layer=1).all()
    assert not run.zeroed.sel(layer=[0, 2]).any()


def test_no_ablation_and_an_empty_set_are_the_model_itself():
    plain = ih.ablate(MODEL, SAMPLES, None)
    empty = ih.ablate(MODEL, SAMPLES, ih.Fixed([]))
    assert_close(plain.logits, empty.logits, rtol=1e-5)
    assert not plain.zeroed.any()


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 6), p=st.floats(0, 1), seed=st.integers(0, 99))
def test_random_is_seeded_and_independent_of_batching(batch_size, p, seed):
    one = ih.ablate(MODEL, SAMPLES, ih.Random(p, seed=seed), batch_size=batch_size)
    other = ih.ablate(MODEL, SAMPLES, ih.Random(p, seed=seed))
    assert one.zeroed.equals(other.zeroed)
    assert_close(one.logits, other.logits, rtol=1e-4)


def test_random_draws_its_share_and_differs_between_inputs_and_seeds():
    samples = [[token] for token in range(90)]
    run = ih.ablate(MODEL, samples, ih.Random(0.3, seed=1))
    share = float(run.zeroed.mean())
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / run.zeroed.size)
    assert not (run.zeroed[0] == run.zeroed[1]).all()
    assert not run.zeroed.equals(ih.ablate(MODEL, samples, ih.Random(0.3, seed=2)).zeroed)


@pytest.mark.parametrize(
    "heads",
    [
        [(0, 1), (2, 3)],
        np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=bool),
        torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]).bool(),
        xr.DataArray(
            [[False, True, False, False], [False, False, False, True]],
            dims=("layer", "head"),
            coords={"layer": [0, 2]},
        ),
    ],
)
def test_fixed_takes_pairs_and_masks_and_survives_a_file(heads, tmp_path):
    fixed = ih.Fixed(heads, about={"model": "tiny <&> ü"})
    assert fixed.heads == [(0, 1), (2, 3)]
    fixed.save(tmp_path / "heads.json")
    loaded = ih.Fixed.load(tmp_path / "heads.json")
    assert loaded.heads == fixed.heads
    assert loaded.about["model"] == "tiny <&> ü"
    zeroed = ih.ablate(MODEL, SAMPLES, loaded).zeroed
    assert np.argwhere(zeroed.values[3]).tolist() == [[0, 1], [2, 3]]


def test_what_is_not_a_set_of_heads_is_refused(tmp_path):
    with pytest.raises(ih.UserError, match="L7H0 is not in the model.*0 to 2, with heads 0 to 3"):
        ih.ablate(MODEL, SAMPLES, ih.Fixed([(7, 0)]))
    with pytest.raises(ih.UserError, match="boolean .layer, head., not float64"):
        ih.Fixed(np.zeros((3, 4)))
    with pytest.raises(ih.UserError, match="list of .layer, head. pairs"):
        ih.Fixed([1, 2])
    with pytest.raises(ih.UserError, match="0 to 1, not 10"):
        ih.Random(10)
    for content in ("{", "[]", json.dumps({"heads": [[0, 1]]}), json.dumps({"heads": 3})):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ih.UserError, match=r"bad.json is not a file of heads"):
            ih.Fixed.load(tmp_path / "bad.json")
    with pytest.raises(ih.UserError, match="is not a file of heads"):
        ih.Fixed.load(tmp_path / "missing.json")


def test_replacement_by_the_mean_over_a_calibration_set(network):
    model = ih.as_model(bridge_of(copy.deepcopy(network), "tiny"))
    means = ih.mean_head_outputs(model, SAMPLES)
    assert means.dims == ("layer", "head", "d_head")
    outputs = [
        np.concatenate(one) for one in zip(*(z_of(network, s) for s in SAMPLES), strict=True)
    ]
    expected = np.stack([z.mean(axis=0) for z in outputs])
    assert_close(means.values, expected, rtol=1e-4)

    run = ih.ablate(model, SAMPLES, ih.Fixed([(1, 2)], replacement=means))
    _, _, projection = attention_modules(network)[1]

    def replace(module, inputs):
        z = inputs[0].unflatten(-1, (4, -1)).clone()
        z[:, :, 2] = torch.as_tensor(expected[1, 2]).float()
        return (z.flatten(2),)

    handle = projection.register_forward_pre_hook(replace)
    for row, sample in enumerate(SAMPLES):
        want = network(torch.tensor([sample])).logits[0, -1]
        assert_close(run.logits[row], want, rtol=1e-4)
    handle.remove()
    with pytest.raises(ih.UserError, match=r"replacement has shape \(1, 4, 8\)"):
        ih.ablate(model, SAMPLES, ih.PerInput("AHON", 1.0, replacement=means[:1]))


def z_of(network, sample):
    _, layers = reference.run(network, sample)
    return [layer.z for layer in layers]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least one text"),
        ([[1], []], "sample 1 has no tokens"),
        ([[1, 2], list(range(65))], "sample 1 has 65 tokens, the model's context is 64"),
        ([[97]], "token ids from 97 to 97; the model's vocabulary is 0 to 96"),
        (["a text"], "tokenizer"),
    ],
)
def test_samples_that_cannot_be_run_are_refused_by_name(samples, message):
    with pytest.raises(ih.UserError, match=message):
        ih.ablate(MODEL, samples, None)
