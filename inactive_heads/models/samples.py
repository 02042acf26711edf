"""What people give as samples, read as what it is: a list of texts and of lists of token ids."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.text_encoder import check_text

Sample = str | Sequence[int] | Any
"""One input: a text, or token ids as a list, array, tensor or tokenizer's output for one text."""

Samples = Any
"""Inputs: a list, tuple, iterator, pandas Series, array or tensor of them, or a tokenizer's output."""

LARGEST = 2**63
"""Whole numbers from here on are no token ids of any model."""


def read_samples(samples: Samples) -> list[str | list[int]]:
    """Samples as a list of texts and of lists of token ids.

        read_samples(tokenizer(["one text", "another"], padding=True))  # ids without padding
        read_samples(table["text"])                                    # a column's texts

    Args:
        samples: texts or token ids: a list, tuple, generator, pandas Series, array, tensor, column
            of a data set, or what a tokenizer returns, whose attention mask tells padding.

    Returns:
        Every sample, in the order given. Texts are not encoded, and ids are not compared with a
        model's vocabulary.

    Raises:
        UserError: it is something else, such as one text or one list of ids; or a sample is
            neither a text nor whole numbers; the message names the sample.
    """
    rows = _rows(samples)
    if rows and all(_is_number(row) for row in rows):
        raise UserError(
            f"samples must be a list of inputs, and {_shown(samples)} is one list of token ids; "
            "put it in a list: [ids]"
        )
    return [_sample(row, f"sample {index}") for index, row in enumerate(rows)]


def _rows(samples: Any) -> list[Any]:
    """The samples in a list, none of them read yet."""
    if isinstance(samples, Mapping | Encoding):
        return _encoded(samples, "samples")
    if hasattr(type(samples), "columns"):
        columns = getattr(samples, "column_names", samples.columns)  # the names come first
        names = ", ".join(map(str, list(columns)[:4]))
        raise UserError(f"samples is a table with the columns {names}; give one of them")
    if isinstance(samples, str | bytes | bytearray | os.PathLike | Set | io.IOBase):
        raise UserError(_not_a_list(samples))
    if (array := _array(samples, "samples")) is not None:
        if array.ndim == 0 or array.ndim > 2:
            raise UserError(
                f"samples is an array of shape {array.shape}; give one of texts, (sample,), or of "
                "token ids, (sample, token)"
            )
        return list(array)
    if not isinstance(samples, Iterable):
        raise UserError(_not_a_list(samples))
    return list(samples)


def _not_a_list(samples: Any) -> str:
    hint = "give [text] for a single text"
    if isinstance(samples, Set):
        hint = "a set has no order: give a list"
    if isinstance(samples, os.PathLike | io.IOBase):
        hint = "load_texts(path) reads texts from files"
    return (
        "samples must be a list of texts or of lists of token ids, not "
        f"{_shown(samples)} of type {type(samples).__name__}; {hint}"
    )


def _sample(sample: Any, name: str) -> str | list[int]:
    """A sample as a text or as a list of whole numbers."""
    if isinstance(sample, str):
        check_text(sample, name)
        return str(sample)
    if _missing(sample):
        raise UserError(f"{name} is missing ({sample}); leave it out")
    if isinstance(sample, Mapping | Encoding):
        rows = _encoded(sample, name)
        if len(rows) != 1:
            raise UserError(
                f"{name} is the encoding of {len(rows)} texts; give one list of all samples"
            )
        return _sample(rows[0], name)
    if isinstance(sample, bytes | bytearray | Set) or not isinstance(sample, Iterable):
        raise UserError(
            f"{name} is of type {type(sample).__name__}, neither a text nor a list of token ids: "
            f"{_shown(sample)}"
        )
    array = _array(sample, name)
    if array is not None and array.ndim == 2 and len(array) == 1:
        array = array[0]  # what a tokenizer returns for one text, with return_tensors
    if array is not None and array.ndim == 1 and array.dtype.kind in "iu":
        return array.tolist()
    tokens = list(sample) if array is None else list(array)
    if tokens and all(type(token) is int for token in tokens):
        _check_size(max(tokens, key=abs), name)
        return tokens
    return [_token(token, name) for token in tokens]


def _token(token: Any, name: str) -> int:
    """A token id as a plain int."""
    if isinstance(token, torch.Tensor) and token.ndim == 0:
        token = token.item()
    if isinstance(token, int | np.integer) and not isinstance(token, bool):
        _check_size(int(token), name)
        return int(token)
    what = "has something else than token ids"
    if isinstance(token, Iterable):
        what = "is nested too deep"
    if isinstance(token, str):
        what = "has a text among token ids, or is a list of words (join them)"
    raise UserError(
        f"{name} {what}: {_shown(token)} of type {type(token).__name__}; a sample is a text or a "
        "list of whole numbers"
    )


def _check_size(token: int, name: str) -> None:
    if not -LARGEST <= token < LARGEST:
        raise UserError(f"{name} has a number of {token.bit_length()} bits, which is no token id")


def _array(values: Any, name: str) -> np.ndarray | None:
    """Arrays, tensors, Series and the like as a numpy array; None of anything else."""
    if isinstance(values, torch.Tensor):
        if values.is_meta or values.layout is not torch.strided:
            raise UserError(f"{name} is a tensor without a value at every place; give lists of ids")
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    if isinstance(values, list | tuple) or not hasattr(values, "__array__"):
        return None
    dims = list(getattr(values, "dims", ()))  # of an xarray
    if "sample" in dims[1:]:
        values = values.transpose("sample", ...)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise UserError(f"{name} has masked values; give lists of token ids without them")
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iuUOT":
        kind = {"f": "numbers with fractions", "b": "true and false", "S": "bytes"}
        first = array.reshape(-1)[0].item()
        raise UserError(
            f"{name} is an array of {kind.get(array.dtype.kind, 'another type')} ({array.dtype}, "
            f"first {first!r:.30}); a sample is a text or whole numbers, the token ids"
        )
    return array


def _encoded(encoding: Any, name: str) -> list[list[Any]]:
    """The rows of a tokenizer's output, without padding."""
    if not isinstance(encoding, Mapping):  # of the library tokenizers
        encoding = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
    if "input_ids" not in encoding:
        keys = ", ".join(map(str, list(encoding)[:4]))
        raise UserError(
            f"{name} is a {type(encoding).__name__} with the keys {keys}, which are no texts; give "
            "one of its values, or what a tokenizer returns (input_ids)"
        )
    rows, flat = _matrix(encoding["input_ids"], f"the input_ids of {name}")
    if encoding.get("overflow_to_sample_mapping") is not None:
        warnings.warn(
            f"{name}: the tokenizer cut texts into pieces (overflow_to_sample_mapping); each of the "
            f"{len(rows)} pieces is a sample of its own",
            Notice,
            stacklevel=2,
        )
    if encoding.get("attention_mask") is None:
        return rows
    masks, flat_mask = _matrix(encoding["attention_mask"], f"the attention_mask of {name}")
    if flat != flat_mask or list(map(len, rows)) != list(map(len, masks)):
        raise UserError(f"input_ids and attention_mask of {name} differ in shape")
    own = "" if name == "samples" else f" of {name}"
    return [
        _unpadded(row, mask, f"row {index}{own}")
        for index, (row, mask) in enumerate(zip(rows, masks, strict=True))
    ]


def _matrix(values: Any, name: str) -> tuple[list[list[Any]], bool]:
    """Rows of numbers, and whether there was one row that was not in a list."""
    array = _array(values, name)
    rows = list(values) if array is None else list(array)
    if flat := (bool(rows) and all(_is_number(row) for row in rows)):
        rows = [rows]
    found = []
    for row in rows:
        own = _array(row, name)
        numbers = list(row if own is None else own) if isinstance(row, Iterable) else [row]
        if not isinstance(row, Iterable) or not all(map(_is_number, numbers)):
            raise UserError(f"{name} must be lists of whole numbers, not {_shown(row)}")
        found.append(numbers)
    return found, flat


def _unpadded(row: list[Any], mask: list[Any], name: str) -> list[Any]:
    """A row's tokens where its mask, 1 for tokens and 0 for padding on either side, is 1."""
    real = [index for index, one in enumerate(mask) if one]
    if any(one not in (0, 1) for one in mask) or (real and real[-1] - real[0] + 1 != len(real)):
        raise UserError(
            f"the attention_mask of {name} must be 1 for tokens and 0 for padding before or after "
            f"them, not {_shown(mask)}"
        )
    return [row[index] for index in real]


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim == 0
    return isinstance(value, int | float | np.number | np.bool_)


def _missing(sample: Any) -> bool:
    if sample is None or type(sample).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(sample, float | np.floating) and bool(np.isnan(sample))


def _shown(value: Any) -> str:
    """The start of a value's text, on one line."""
    try:
        return " ".join(repr(value).split())[:60]
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__}"
