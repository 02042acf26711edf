"""Samples in the forms that people have them in, each read as what it is or refused."""

import array
import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xarray as xr
from helpers.models_on_disk import save_folder, word_tokenizer
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.samples import read_samples

TEXTS = ["the cat sat on a mat", "a dog ran"]
IDS = [[3, 4, 5, 6, 7, 8], [7, 10, 11]]
EVEN = [[3, 4, 5], [7, 10, 11]]


@pytest.fixture(scope="module")
def tokenizer():
    made = word_tokenizer()
    made.pad_token = "<unk>"
    return made


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    return ih.load_model(save_folder(tmp_path_factory.mktemp("m") / "m", tokenizer=tokenizer))


OF_TEXTS = {
    "a list": list,
    "a tuple": tuple,
    "a generator": lambda texts: (text for text in texts),
    "a map": lambda texts: map(str, texts),
    "values of a dict": lambda texts: dict(enumerate(texts)).values(),
    "a Series with an index of its own": lambda texts: pd.Series(texts, index=["ids", "columns"]),
    "a Series of type string": lambda texts: pd.Series(texts, dtype="string", index=[7, 3]),
    "a categorical Series": lambda texts: pd.Series(texts).astype("category"),
    "an Index": pd.Index,
    "an array": np.array,
    "an array of objects": partial(np.array, dtype=object),
    "a DataArray": lambda texts: xr.DataArray(texts, dims="sample"),
    "a column of arrow": lambda texts: pa.table({"text": texts})["text"],
}
OF_IDS = {
    "lists": list,
    "tuples": lambda ids: tuple(map(tuple, ids)),
    "arrays": lambda ids: [np.array(row, dtype=np.int16) for row in ids],
    "tensors": lambda ids: [torch.tensor(row) for row in ids],
    "tensors of one row": lambda ids: [torch.tensor([row]) for row in ids],
    "numbers of numpy": lambda ids: [[np.int32(one) for one in row] for row in ids],
    "numbers of torch": lambda ids: [[torch.tensor(one) for one in row] for row in ids],
    "a Series": lambda ids: pd.Series(ids, index=[5, 1]),
    "arrays of the standard library": lambda ids: [array.array("i", row) for row in ids],
    "generators": lambda ids: (iter(row) for row in ids),
    "a column of arrow": lambda ids: pa.table({"ids": ids})["ids"],
}
OF_EVEN_IDS = {
    "an array": np.array,
    "an unsigned array": partial(np.array, dtype=np.uint32),
    "an array of objects": partial(np.array, dtype=object),
    "a tensor": torch.tensor,
    "a narrow tensor": partial(torch.tensor, dtype=torch.int16),
    "a DataArray": lambda ids: xr.DataArray(ids, dims=("sample", "pos")),
    "a DataArray, samples last": lambda ids: xr.DataArray(ids, dims=("sample", "pos")).T,
}


@pytest.mark.parametrize("form", OF_TEXTS)
def test_texts(model, form):
    assert encode_samples(model, OF_TEXTS[form](TEXTS)) == IDS
    assert read_samples(OF_TEXTS[form](TEXTS)) == TEXTS


@pytest.mark.parametrize("form", OF_IDS)
def test_lists_of_ids(model, form):
    found = encode_samples(model, OF_IDS[form](IDS))
    assert found == IDS
    assert {type(token) for row in found for token in row} == {int}


@pytest.mark.parametrize("form", OF_EVEN_IDS)
def test_matrices_of_ids(model, form):
    assert encode_samples(model, OF_EVEN_IDS[form](EVEN)) == EVEN


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tensors", [None, "pt", "np"])
def test_an_encoding_without_its_padding(model, tokenizer, side, tensors):
    encoding = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors=tensors)
    assert len({len(row) for row in encoding["input_ids"]}) == 1
    assert encode_samples(model, encoding) == IDS
    assert encode_samples(model, dict(encoding)) == IDS
    longer = tokenizer(
        TEXTS, padding="max_length", max_length=9, padding_side=side, return_tensors=tensors
    )
    assert encode_samples(model, longer) == IDS


def test_encodings_of_single_texts(model, tokenizer):
    assert encode_samples(model, tokenizer(TEXTS)) == IDS
    assert encode_samples(model, tokenizer(TEXTS).input_ids) == IDS
    assert encode_samples(model, tokenizer(TEXTS[0])) == IDS[:1]
    assert encode_samples(model, [tokenizer(text) for text in TEXTS]) == IDS
    assert encode_samples(model, [tokenizer(text, return_tensors="pt") for text in TEXTS]) == IDS
    assert encode_samples(model, tokenizer.backend_tokenizer.encode_batch(TEXTS)) == IDS
    assert encode_samples(model, tokenizer.backend_tokenizer.encode(TEXTS[1])) == IDS[1:]
    assert encode_samples(model, {"input_ids": [[7, 1, 10, 11, 1]]}) == [[7, 1, 10, 11, 1]]
    kept = tokenizer(["the cat </s>", "a"], padding=True)
    assert encode_samples(model, kept) == [[3, 4, 1], [7]]


def test_rows_of_a_data_set(model, tokenizer):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": TEXTS})
    assert encode_samples(model, table["text"]) == IDS
    encoded = table.map(lambda row: tokenizer(row["text"]), batched=True)
    assert encode_samples(model, encoded) == IDS
    assert encode_samples(model, encoded["input_ids"]) == IDS
    for whole, keys in (
        (table, "sample 0 .* keys text"),
        (datasets.DatasetDict(a=table), "keys a"),
    ):
        with pytest.raises(UserError, match=keys):
            encode_samples(model, whole)


def test_pieces_of_cut_texts_are_samples_and_said_to_be(model, tokenizer):
    pieces = tokenizer(TEXTS, max_length=4, truncation=True, return_overflowing_tokens=True)
    with pytest.warns(Notice, match=r"cut texts into pieces .* each of the 3 pieces is a sample"):
        assert encode_samples(model, pieces) == [IDS[0][:4], IDS[0][4:], IDS[1]]


FLAT = r"samples must be a list of inputs, and .* is one list of token ids"
NO_LIST = r"samples must be a list of texts or of lists of token ids, not .* of type "
REFUSED = {
    "one text": ("the cat", NO_LIST + r"str; give \[text\]"),
    "bytes": (b"the cat", NO_LIST + "bytes"),
    "a path": (Path("texts.txt"), NO_LIST + r"PosixPath; load_texts\(path\)"),
    "a file": (io.StringIO("the cat"), NO_LIST + r"StringIO; load_texts"),
    "none": (None, NO_LIST + "NoneType"),
    "a number": (3, NO_LIST + "int"),
    "a truth": (True, NO_LIST + "bool"),
    "a set": ({"the cat"}, NO_LIST + "set; a set has no order"),
    "no samples": ([], "at least one"),
    "no rows": (np.zeros((0, 3), dtype=int), "at least one"),
    "one list of ids": ([1, 2, 3], FLAT),
    "one array of ids": (np.array([1, 2, 3]), FLAT),
    "one tensor of ids": (torch.tensor([1, 2]), FLAT),
    "one Series of ids": (pd.Series([1, 2, 3]), FLAT),
    "a range": (range(4), FLAT),
    "one list of fractions": ([1.0, 2.5], FLAT),
    "a single number as array": (np.array(3), r"array of shape \(\)"),
    "a text as array": (np.array("the cat"), r"array of shape \(\)"),
    "three axes": (np.ones((2, 2, 2), dtype=int), r"array of shape \(2, 2, 2\)"),
    "fractions": ([[1.0, 3.7]], r"sample 0 has something else .*: 1.0 of type float"),
    "whole fractions": ([[1, 2], [3.0]], r"sample 1 has something else .*: 3.0 of type float"),
    "an array of fractions": (np.array([[1.0, 3.7]]), "numbers with fractions .float64, first 1.0"),
    "a tensor of fractions": (torch.tensor([[3.7]]), "numbers with fractions"),
    "a tensor of bfloat16": (torch.ones(2, 2, dtype=torch.bfloat16), "numbers with fractions"),
    "truths": ([[True, False]], r"sample 0 has something else .*: True of type bool"),
    "an array of truths": (np.array([[True, False]]), "array of true and false"),
    "a mask as tensor": (torch.ones(2, 3).bool(), "array of true and false"),
    "digits": ([["1", "2"]], "sample 0 has a text among token ids, or is a list of words"),
    "words": ([["the", "cat"]], "sample 0 has a text among token ids, or is a list of words"),
    "an array of words": (np.array([["a", "b"]]), "sample 0 has a text among token ids"),
    "nested": ([[[1, 2]]], r"sample 0 is nested too deep: \[1, 2\]"),
    "tensors of two rows": ([torch.ones(2, 3).long()], "sample 0 is nested too deep"),
    "a missing text": (["a", float("nan")], r"sample 1 is missing \(nan\)"),
    "none among texts": (["a", None], r"sample 1 is missing \(None\)"),
    "missing in a Series": (pd.Series(["a", None], index=["x", "y"]), "sample 1 is missing"),
    "NA": (pd.Series(["a", pd.NA], dtype="string"), r"sample 1 is missing \(<NA>\)"),
    "bytes among texts": (["a", b"b"], "sample 1 is of type bytes"),
    "arrays of bytes": (np.array([b"a", b"b"]), "array of bytes"),
    "a number among texts": (["a", 3], "sample 1 is of type int, neither"),
    "a set of ids": ([{1, 2}], "sample 0 is of type set"),
    "a lone surrogate": (["a", "bad \ud83d"], r"sample 1 has a lone surrogate, '\\ud83d', at .* 4"),
    "half a pair": (["\ude00"], r"sample 0 has a lone surrogate"),
    "an empty text": (["a", ""], "sample 1 has no tokens"),
    "white space": (["a", "  "], "sample 1 has no tokens"),
    "no ids": ([[1], []], "sample 1 has no tokens"),
    "a negative id": ([[1, -1]], "sample 0 has token ids from -1 to 1"),
    "an id too large": ([[97]], "sample 0 has token ids from 97 to 97; .* 0 to 96"),
    "a huge id": ([[10**30]], "sample 0 has a number of 100 bits"),
    "a huger id": ([[10**5000]], "sample 0 has a number of 16610 bits"),
    "a huge id in an array": (np.array([[10**30]], dtype=object), "sample 0 has a number of 100"),
    "unsigned": (np.array([[2**64 - 1]], dtype=np.uint64), "token ids from 18446744073709551615"),
    "a table": (pd.DataFrame({"text": TEXTS}), "samples is a table with the columns text; give"),
    "a table of arrow": (pa.table({"text": TEXTS}), "samples is a table with the columns"),
    "a dict": ({"text": TEXTS}, "samples is a dict with the keys text"),
    "a data set": (xr.Dataset({"a": 1}), "samples is a Dataset with the keys a"),
    "masked": (np.ma.masked_equal([[1, 2], [3, 0]], 0), "samples has masked values"),
    "sparse": (torch.eye(3).long().to_sparse(), "samples is a tensor without a value"),
    "meta": (torch.ones(2, 3, device="meta").long(), "samples is a tensor without a value"),
    "ids that are texts": ({"input_ids": TEXTS}, "input_ids of samples must be lists"),
    "a mask with a hole": (
        {"input_ids": [[3, 4, 5]], "attention_mask": [[1, 0, 1]]},
        "attention_mask of row 0 must be 1 for tokens and 0 for padding",
    ),
    "a mask of weights": (
        {"input_ids": [[3, 4]], "attention_mask": [[0.5, 1]]},
        "attention_mask of row 0 must be 1",
    ),
    "a mask of another shape": (
        {"input_ids": [[3, 4]], "attention_mask": [[1]]},
        "input_ids and attention_mask of samples differ in shape",
    ),
    "all padding": (
        {"input_ids": [[3], [4]], "attention_mask": [[1], [0]]},
        "sample 1 has no tokens",
    ),
    "an encoding of two as one": ([{"input_ids": EVEN}], "sample 0 is the encoding of 2 texts"),
    "an object": (object(), NO_LIST + "object"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_list_of_samples_is_refused_in_one_line(model, kind):
    samples, message = REFUSED[kind]
    with unchecked(), pytest.raises(UserError, match=message) as refusal:
        encode_samples(model, samples)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 300


CALLS = {
    "score_heads": lambda model, samples: ih.score_heads(model, samples, scores=["AHON"]),
    "ablate": lambda model, samples: ih.ablate(model, samples, ih.Random(0.2, seed=0)).logits,
    "mean_head_outputs": ih.mean_head_outputs,
    "generate": lambda model, samples: ih.generate(model, samples, max_new_tokens=2).tokens,
    "TextTask": lambda model, samples: ih.evaluate(model, ih.TextTask("t", samples)).items.loss,
    "cut_to": lambda model, samples: ih.cut_to(model, samples, 2),
    "cut_at_random": lambda model, samples: ih.cut_at_random(model, samples, shortest=1, longest=3),
    "explore": lambda model, samples: ih.explore(model, samples, scores=["AHON"]).scores,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_takes_samples_takes_them_all(model, tokenizer, call):
    if call == "explore":
        pytest.importorskip("anywidget")
    run = CALLS[call]
    expected = np.asarray(run(model, IDS), dtype=object)
    forms = [
        tokenizer(TEXTS, padding=True, padding_side="left"),
        pd.Series(TEXTS, index=["b", "a"]),
        np.array(TEXTS),
        (torch.tensor(row) for row in IDS),
    ]
    for form in forms:
        assert np.array_equal(np.asarray(run(model, form), dtype=object), expected)
    wrong = ["the cat", [3, 4], {"text": TEXTS}, [[3.7]], ["a", None], ["\ud83d"], {"the cat"}]
    for samples in wrong:
        with unchecked(), pytest.raises(UserError):
            run(model, samples)


def test_a_single_input_in_each_form(model, tokenizer):
    expected = ih.token_losses(model, IDS[0])
    pattern = ih.head_view(model, IDS[0], 0, 0).pattern
    for one in (
        TEXTS[0],
        tuple(IDS[0]),
        np.array(IDS[0]),
        torch.tensor(IDS[0]),
        tokenizer(TEXTS[0]),
    ):
        assert np.array_equal(ih.token_losses(model, one), expected)
        assert np.array_equal(ih.head_view(model, one, 0, 0).pattern, pattern)
    for wrong in ([3.7, 1.0], None, b"a", 5, ["the cat"], tokenizer(TEXTS)):
        with unchecked(), pytest.raises(UserError):
            ih.token_losses(model, wrong)


def test_ids_that_look_padded_are_noticed(model, tokenizer, tmp_path):
    ids = tokenizer(TEXTS, padding=True).input_ids
    with pytest.warns(Notice, match=r"sample 1 ends in 3 times the token '<unk>' that pads"):
        assert encode_samples(model, ids) == ids
    ids = tokenizer(TEXTS, padding=True, padding_side="left").input_ids
    with pytest.warns(Notice, match=r"sample 1 begins in 3 times the token '<unk>'"):
        encode_samples(model, torch.tensor(ids))
    by_eos = word_tokenizer()
    by_eos.pad_token = "</s>"
    other = ih.load_model(save_folder(tmp_path / "m", tokenizer=by_eos))
    encode_samples(other, [[3, 4, 1], [5, 1]])  # each text's own end
    with pytest.warns(Notice, match=r"sample 0 ends in 2 times the token '</s>'"):
        encode_samples(other, [[3, 1, 1], [5, 6, 7]])
