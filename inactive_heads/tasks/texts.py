"""Texts to score heads on: bundled, from files, or FineWeb-Edu from the hub."""

from __future__ import annotations

import json
import pydoc_data.topics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inactive_heads.errors import UserError
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples, read_samples

FINEWEB = ("HuggingFaceFW/fineweb-edu", "sample-10BT")
"""The hub data set of the paper's texts, and its configuration."""

ENDINGS = (".txt", ".jsonl", ".parquet")
"""The kinds of files that texts are read from."""

COLUMN = "text"
"""The column or field that holds the text."""


def load_texts(source: str | Path = "bundled", *, n: int | None = None, seed: int = 0) -> list[str]:
    """Texts from a source, chosen at random if a number is given.

        texts = ih.load_texts("my_texts.jsonl", n=100)

    Args:
        source: "bundled", the English reference texts in Python's standard library
            (`pydoc_data.topics`, over 60 texts of 500 characters and more); "fineweb-edu", streamed
            from the hub as in the paper; a .txt file (one text), a .jsonl or .parquet file with the
            field or column ``text``, or a folder of such files.
        n: the number of texts; by default all, or 100 of FineWeb-Edu.
        seed: the seed of the choice and of the order.

    Returns:
        The texts, in random order if ``n`` is given or the source is FineWeb-Edu; otherwise in the
        source's order.

    Raises:
        UserError: the source is unknown, unreadable, has no texts or lacks the field; a text is
            empty; ``n`` is below 1; or there are fewer than ``n`` texts.
    """
    if n is not None and n < 1:
        raise UserError(f"the number of texts must be at least 1, not {n}")
    if str(source) == "fineweb-edu":
        return _fineweb(n or 100, seed)
    if str(source) == "bundled":
        texts = [text.strip() for _, text in sorted(pydoc_data.topics.topics.items())]
        # Some topics are listed under two names.
        texts = [text for text in dict.fromkeys(texts) if len(text) >= 500]
    else:
        texts = list(_from_path(Path(source)))
    if n is None:
        return texts
    if n > len(texts):
        raise UserError(f"{source} has {len(texts)} texts, {n} were asked for")
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[index] for index in order[:n]]


def cut_at_random(
    model: Model, texts: Samples, *, shortest: int = 10, longest: int = 3000, seed: int = 0
) -> list[list[int]]:
    """Every text's first tokens, cut to a random length, as in the paper.

        samples = ih.cut_at_random(model, ih.load_texts(n=10), shortest=64, longest=256)

    Args:
        model: the model, whose tokenizer is used.
        texts: the texts to cut, or lists of token ids.
        shortest: the shortest length, in tokens, including BOS if the model was loaded with it.
        longest: the longest length, in tokens. No text is cut to more than its own length or the
            model's context.
        seed: the seed of the lengths, which are uniformly distributed.

    Returns:
        Token ids, one list per text.

    Raises:
        UserError: a text has fewer than ``shortest`` tokens, or ``shortest`` is below 1 or above
            ``longest``.
    """
    if not 1 <= shortest <= longest:
        raise UserError(
            f"texts cannot be cut to between {shortest} and {longest} tokens; "
            "the shortest is at least 1 and no more than the longest"
        )
    rng = np.random.default_rng(seed)
    cut = []
    for index, text in enumerate(read_samples(texts)):
        tokens = model.encode(text) if isinstance(text, str) else text
        most = min(longest, len(tokens), model.shape.n_ctx)
        if most < shortest:
            raise UserError(f"text {index} has {len(tokens)} tokens, fewer than {shortest}")
        cut.append(tokens[: int(rng.integers(shortest, most + 1))])
    return cut


def cut_to(model: Model, texts: Samples, longest: int | None) -> list[list[int]]:
    """Every text's first tokens, up to a fixed length.

        samples = ih.cut_to(model, ih.load_texts(n=10), 512)

    Args:
        model: the model, whose tokenizer is used.
        texts: the texts to cut, or lists of token ids.
        longest: the most tokens to keep, including BOS if the model was loaded with it; None keeps
            texts whole.

    Returns:
        Token ids, one list per text.

    Raises:
        UserError: there are no texts, a text is longer than the model's context after cutting, or
            ``longest`` is below 1.
    """
    if longest is None:
        return encode_samples(model, texts)
    if longest < 1:
        raise UserError(f"texts are cut to at least 1 token, not {longest}")
    given = read_samples(texts)
    whole = [model.encode(one) if isinstance(one, str) else one for one in given]
    return encode_samples(model, [tokens[:longest] for tokens in whole])


def _from_path(path: Path) -> Iterator[str]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS)
        if not files:
            raise UserError(f"the folder {path} has no {', '.join(ENDINGS)} files")
    elif path.suffix in ENDINGS and path.exists():
        files = [path]
    else:
        raise UserError(
            f"no texts at {str(path)!r}: give bundled, fineweb-edu, a folder, or a file that "
            f"ends in {', '.join(ENDINGS)}"
        )
    for file in files:
        texts = list(_from_file(file))
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"text {index} of {file} is empty or not a text")
        if not texts:
            raise UserError(f"{file} has no texts in it")
        yield from texts


def _from_file(file: Path) -> Iterator[Any]:
    try:
        if file.suffix == ".txt":
            yield file.read_text("utf-8")
        elif file.suffix == ".jsonl":
            for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                row = json.loads(line)
                if not isinstance(row, dict) or COLUMN not in row:
                    raise UserError(f"line {number} of {file} has no field {COLUMN!r}: {line:.60}")
                yield row[COLUMN]
        else:
            yield from _parquet_column(file)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error


def _parquet_column(file: Path) -> list[Any]:
    import pyarrow.parquet as parquet

    table = parquet.read_table(file)
    if COLUMN not in table.column_names:
        raise UserError(f"{file} has no column {COLUMN!r}, but {', '.join(table.column_names)}")
    return table[COLUMN].to_pylist()


def _fineweb(n: int, seed: int) -> list[str]:
    from datasets import load_dataset

    name, config = FINEWEB
    try:
        stream = load_dataset(name, config, split="train", streaming=True)
        return [row[COLUMN] for row in stream.shuffle(seed=seed, buffer_size=1000).take(n)]
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name} could not be streamed from the Hugging Face hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]:.150}); give texts of your own, "
            "or bundled"
        ) from error
