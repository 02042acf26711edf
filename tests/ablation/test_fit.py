"""Which heads a set silences in a model, and which sets do not fit one."""

import json

import numpy as np
import pytest
import xarray as xr
from helpers.tiny_models import SAMPLES, tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.ablation.fit import check_mask_shape
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))  # 3 layers, 4 heads, 2 key/value heads


def zeroed(ablation):
    run = ih.ablate(MODEL, SAMPLES[:1], ablation, progress=False)
    return [tuple(pair) for pair in np.argwhere(run.zeroed.values[0]).tolist()]


def labelled(values, layers, heads):
    dims = ("layer", "head")
    return xr.DataArray(values, dims=dims, coords={"layer": layers, "head": heads})


def test_the_labels_of_a_part_are_the_heads_that_are_silenced():
    assert zeroed(ih.Fixed(labelled([[True, True]], [1], [2, 3]))) == [(1, 2), (1, 3)]
    assert zeroed(ih.Fixed(labelled([[True], [False]], [2, 0], [3]))) == [(2, 3)]
    whole = labelled(np.eye(3, 4, dtype=bool), range(3), range(4))
    assert zeroed(ih.Fixed(whole.where(whole.layer > 0))) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.eye(3, 2, dtype=bool), r"shape \(3, 2\).*one column for each key/value head"),
        (np.eye(4, 3, dtype=bool), r"shape \(4, 3\).*\(3, 4\); transpose it"),
        (np.eye(2, 4, dtype=bool), r"shape \(2, 4\), the model \(layers, heads\) \(3, 4\)"),
        (np.eye(3, 5, dtype=int), r"shape \(3, 5\)"),
        (xr.DataArray(np.eye(2, 4, dtype=bool), dims=("layer", "head")), r"shape \(2, 4\)"),
        (labelled(np.eye(2, 4, dtype=bool), [1, 3], range(4)), "head L3H1 is not in the model"),
        ([(0, 4)], "head L0H4 is not in the model: .* 0 to 2, with heads 0 to 3"),
    ],
)
def test_a_mask_of_another_shape_is_refused(mask, message):
    with pytest.raises(ih.UserError, match=message):
        zeroed(ih.Fixed(mask))


def test_a_mask_of_a_model_whose_layers_do_not_all_have_heads_needs_their_numbers():
    hybrid = ModelShape((3, 7), 8, 4, 2, 8, 32, n_ctx=64, d_vocab=97)
    rows = np.ones((2, 4), dtype=bool)
    with pytest.raises(ih.UserError, match="only some layers have heads"):
        ih.Fixed(rows).check(hybrid)
    fixed = ih.Fixed(labelled(rows, [3, 7], range(4)))
    fixed.check(hybrid)
    assert fixed.heads == [(layer, head) for layer in (3, 7) for head in range(4)]
    every = np.zeros((8, 4), dtype=bool)
    every[7, 1] = True
    ih.Fixed(every).check(hybrid)
    with pytest.raises(ih.UserError, match=r"its attention layers are \[3, 7\]"):
        ih.Fixed([(4, 0)]).check(hybrid)
    check_mask_shape((None, None), hybrid)


def test_a_file_of_heads_says_for_which_model_they_are(tmp_path):
    path = tmp_path / "heads.json"
    mask = np.eye(3, 4, dtype=bool)
    about = {"model": "other", "percent": np.float32(10), "n": np.int64(3), "from": path}
    ih.Fixed(mask, about=about).save(path)
    written = json.loads(path.read_text())
    assert (written["n_layers"], written["n_heads"]) == (3, 4)
    assert (written["percent"], written["n"], written["from"]) == (10, 3, str(path))
    assert zeroed(ih.Fixed.load(path)) == [(0, 0), (1, 1), (2, 2)]
    content = json.loads(path.read_text()) | {"n_layers": 30, "n_heads": 9}
    path.write_text("\ufeff" + json.dumps(content), "utf-8")  # a BOM, as editors write it
    with pytest.raises(ih.UserError, match="set of heads is of other with n_layers = 30"):
        zeroed(ih.Fixed.load(path))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([[1.5, 0]], r"\[1.5, 0\] is no head"),
        ([[True, 0]], r"\[True, 0\] is no head"),
        ([[-1, 0]], r"\[-1, 0\] is no head"),
        (["01"], "not '01'"),
        ([[None, 0]], "is no head"),
        ([[0, float("nan")]], "is no head"),
        ([3], "not 3"),
        ([[1, 2, 3]], r"not \[1, 2, 3\]"),
        ({"0": [1]}, "heads are a list"),
        ("L0H1", "heads are a list"),
        (None, "heads are a list"),
    ],
)
def test_a_file_with_something_else_for_heads_is_refused(heads, message, tmp_path):
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"format": "inactive_heads heads 1", "heads": heads}))
    with pytest.raises(ih.UserError, match=f"heads.json is not a file of heads: .*{message}"):
        ih.Fixed.load(path)


MEANS = ih.mean_head_outputs(MODEL, SAMPLES[:2], progress=False)


def test_a_replacement_goes_by_the_names_of_its_dimensions():
    turned = MEANS.transpose("head", "d_head", "layer")
    one, other = (
        ih.ablate(MODEL, SAMPLES[:1], ih.Fixed("L1H2", replacement=means), progress=False)
        for means in (MEANS, turned)
    )
    np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (MEANS.values, "DataArray from mean_head_outputs, not a ndarray"),
        (MEANS.rename(head="kv_head"), r"replacement has shape \(3, 4, 8\)"),
        (MEANS.assign_coords(layer=[3, 4, 5]), r"of the layers \[3, 4, 5\]"),
        (MEANS * np.nan, "not finite"),
    ],
)
def test_a_replacement_that_does_not_fit_is_refused(means, message):
    with unchecked(), pytest.raises(ih.UserError, match=message):
        ih.PerInput("AHON", 0.5, replacement=means).check(MODEL.shape)


@pytest.mark.parametrize(
    "given", ["AHON (LN)", np.ones((2, 4), bool), ih.Random, 0.1, lambda heads: None]
)
def test_what_is_no_ablation_is_refused(given):
    model = ih.load_model("llama-style-tiny")
    for run in (ih.ablate, ih.generate):
        with unchecked(), pytest.raises(ih.UserError, match="is no ablation: give PerInput"):
            run(model, [[1, 2, 3]], given)
