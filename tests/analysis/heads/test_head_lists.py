"""Sets of heads in the forms that people have them in, against sets written out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import inactive_heads as ih
from inactive_heads.analysis.heads.head_lists import read_heads

WANTED = [(0, 1), (2, 3)]
MASK = np.zeros((3, 4), dtype=bool)
MASK[0, 1] = MASK[2, 3] = True
LABELLED = xr.DataArray(
    MASK, dims=("layer", "head"), coords={"layer": [0, 1, 2], "head": [0, 1, 2, 3]}
)
UNLABELLED = xr.DataArray(MASK, dims=("layer", "head"))

UNDERSTOOD = {
    "pairs": [(2, 3), (0, 1)],
    "lists": [[0, 1], [2, 3]],
    "twice": [(0, 1), (2, 3), (0, 1)],
    "set": {(0, 1), (2, 3)},
    "generator": (pair for pair in WANTED),
    "numpy's numbers": [(np.int64(0), np.int32(1)), (np.uint8(2), 3)],
    "labels": ["L0H1", "L2H3"],
    "a text": "L0H1, L2H3",
    "array of labels": np.array(["L0H1", "L2H3"]),
    "dictionary": {0: [1], 2: {3}, 1: []},
    "argwhere": np.argwhere(MASK),
    "tensor of pairs": torch.tensor(WANTED),
    "table": pd.DataFrame({"head": [3, 1], "size": [0.5, 0.1], "layer": [2, 0]}),
    "index": pd.MultiIndex.from_tuples(WANTED),
    "index, turned": pd.MultiIndex.from_tuples([(1, 0), (3, 2)], names=["head", "layer"]),
    "mask": MASK,
    "mask of 0 and 1": MASK.astype(np.uint8),
    "tensor": torch.tensor(MASK),
    "labelled": LABELLED,
    "by dimension": LABELLED.T,
    "by dimension, unlabelled": UNLABELLED.T,
    "in another order": LABELLED[::-1, [2, 0, 3, 1]],
    "a part": LABELLED.sel(layer=[2, 0], head=[1, 3]),
    "where": LABELLED.where(LABELLED | (LABELLED["layer"] == 1)),
    "where, as values": LABELLED.where(LABELLED | (LABELLED["layer"] == 1)).values,
    "series": LABELLED.to_series(),
    "wide table": LABELLED.to_pandas(),
    "wide table, turned": LABELLED.to_pandas().T,
    "objects": np.where(MASK, True, None),
}


@pytest.mark.parametrize("heads", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_set_of_heads_is_read(heads):
    assert read_heads(heads).pairs == WANTED


SCORES = xr.DataArray(np.random.default_rng(0).random((3, 4)), dims=("layer", "head"))
REFUSED = {
    "floats": ([(0.9, 1.9)], r"\(0.9, 1.9\) is no head"),
    "whole floats": ([(1.0, 2.0)], r"\(1.0, 2.0\) is no head"),
    "digits": (["01"], "not '01'"),
    "texts": ([("0", "1")], r"\('0', '1'\) is no head"),
    "booleans": ([[True, False], [False, True]], r"\[True, False\] is no head"),
    "a row of a mask": ([[0, 1, 0, 0]], r"not \[0, 1, 0, 0\]"),
    "nan": ([(float("nan"), 1)], "is no head"),
    "none": ([(None, 1)], "is no head"),
    "negative": ([(0, -1)], r"\(0, -1\) is no head"),
    "a pair alone": ((5, 3), r"a single head is \[\(5, 3\)\]"),
    "three": ([(1, 2, 3)], "pairs, not"),
    "a file": ("heads.json", "not 'heads.json'"),
    "keys of text": ({"0": [1]}, r"\('0', 1\) is no head"),
    "a head for a list": ({0: 1}, "heads of layer 0 are a list"),
    "nothing": (None, "None is no set of heads"),
    "data set": (LABELLED.to_dataset(name="x"), "is no set of heads"),
    "scores": (SCORES, "boolean .layer, head., not float64"),
    "scores with nan": (SCORES.where(SCORES > 0.5), "boolean .layer, head., not float64"),
    "zeros": (np.zeros((3, 4)), "boolean .layer, head., not float64"),
    "only nan": (np.full((3, 4), np.nan), "boolean .layer, head., not float64"),
    "numbers of heads": (np.arange(12).reshape(3, 4), r"true or false \(1 or 0\), not 2"),
    "mask or pairs": (np.eye(2, dtype=int), "may be pairs or a mask"),
    "per input": (
        LABELLED.expand_dims("sample"),
        r"not \('sample', .*mask.mean\(\"sample\"\) > 0.5",
    ),
    "several scores": (LABELLED.expand_dims("score"), "choose one of each other dimension"),
    "key/value heads": (LABELLED.rename(head="kv_head"), r"not \('layer', 'kv_head'\)"),
    "no names": (xr.DataArray(MASK), r"not \('dim_0', 'dim_1'\)"),
    "a layer twice": (LABELLED[[0, 0]], "the layer 0 twice"),
    "layers by name": (LABELLED.assign_coords(layer=list("abc")), "the layer 'a', not a number"),
    "layers between": (LABELLED.assign_coords(layer=[0, 0.5, 1]), "not a number"),
}


@pytest.mark.parametrize(("heads", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_set_of_heads_is_refused(heads, message):
    with pytest.raises(ih.UserError, match=message) as caught:
        ih.Fixed(heads)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_agreement_goes_by_labels():
    other = LABELLED.copy(data=np.roll(MASK, 1, axis=1))  # L0H2 and L2H0
    other[0, 1] = True  # … and L0H1: one of two and of three
    expected = pytest.approx(1 / 4)
    assert ih.head_set_iou(LABELLED, other) == expected
    assert ih.head_set_iou(LABELLED, other.T) == expected
    assert ih.head_set_iou(LABELLED[::-1], other[:, ::-1]) == expected
    assert ih.head_set_iou(LABELLED, other.values) == expected
    assert ih.head_set_iou(LABELLED, [(0, 1), (0, 2), (2, 0)]) == expected
    assert ih.head_set_iou("L0H1 L2H3", {0: [1, 2], 2: [0]}) == expected
    assert ih.head_set_precision(other, of=LABELLED) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LABELLED[:2], r"different shapes: \(3, 4\), \(2, 4\)"),
        (LABELLED.assign_coords(layer=[4, 5, 6]), r"different layers: \[0, 1, 2\], \[4, 5, 6\]"),
        (xr.DataArray(MASK), "different dimensions"),
        (SCORES, "not float64"),
        (MASK.T, "different shapes"),
        (MASK[0], r"different shapes: \(3, 4\), \(4,\)"),
        (MASK[None], r"different shapes: \(3, 4\), \(1, 3, 4\)"),
        ("AHON", "not 'AHON'"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(other, message):
    with pytest.raises(ih.UserError, match=message):
        ih.head_set_iou(LABELLED, other)
