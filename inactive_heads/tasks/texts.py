"""Texts to score heads on: bundled, from files, or FineWeb-Edu from the hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inactive_heads.checks import check_whole
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.batching import encode_samples
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples, read_samples
from inactive_heads.names import BUNDLED
from inactive_heads.tasks.base import choose_evenly
from inactive_heads.tasks.bundled_texts import BundledText, bundled_texts
from inactive_heads.tasks.reading.fields import text_field
from inactive_heads.tasks.reading.folder import data_files, ending_of
from inactive_heads.tasks.reading.rows import Row, read_rows, read_text
from inactive_heads.tasks.reading.shards import shard_faults
from inactive_heads.tasks.reading.sources import TEXT_ENDINGS, text_path
from inactive_heads.third_party import explained

FINEWEB = ("HuggingFaceFW/fineweb-edu", "sample-10BT")
"""The hub data set of the paper's texts, and its configuration."""

COLUMN = "text"
"""The column or field that holds the text."""


def load_texts(source: str | Path = BUNDLED, *, n: int | None = None, seed: int = 0) -> list[str]:
    """Texts from a source, chosen at random if a number is given.

        texts = ih.load_texts("my_texts.jsonl", n=100)

    Args:
        source: "bundled", 72 English texts written for this project (CC0), twelve each of
            explanations, stories, dialogues, news, instructions and commented code, of 200 to 600
            tokens; "fineweb-edu", streamed from the hub as in the paper; a .txt file (one text); a
            .jsonl, .json, .csv, .tsv, .parquet or .arrow file with the field or column ``text``, all
            perhaps compressed (.gz, .bz2, .xz, .zst); or a folder of such files, whose hidden files
            are left out.
        n: the number of texts; by default all, or 100 of FineWeb-Edu.
        seed: the seed of the choice and of the order.

    Returns:
        The texts, in random order if ``n`` is given or the source is FineWeb-Edu; otherwise in the
        source's order. Of the bundled texts, ``n`` are spread evenly over the kinds, in rounds of
        one per kind.

    Raises:
        UserError: the source is unknown, unreadable, not UTF-8, has no texts or lacks the field; a
            text is empty or not a text (the message names the line); ``n`` is not a number from 1;
            or there are fewer than ``n`` texts.
    """
    check_whole("the number of texts", n, least=1)
    check_whole("the seed", seed, least=0)
    if str(source) == "fineweb-edu":
        return _fineweb(n or 100, seed)
    bundled = str(source) == BUNDLED
    texts = [one.text for one in bundled_texts()] if bundled else _from_path(source)
    if n is None:
        return texts
    if n > len(texts):
        raise UserError(f"{source} has {len(texts)} texts, {n} were asked for")
    if bundled:
        return [one.text for one in choose_evenly(bundled_texts(), _kind, None, n, seed)]
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


def _kind(one: BundledText) -> str:
    return one.kind


def _from_path(source: str | Path) -> list[str]:
    path = text_path(source)
    return _of_folder(path) if path.is_dir() else list(_from_file(path))


def _of_folder(folder: Path) -> list[str]:
    """The texts of all files; one that several files have, as copies do, is used once."""
    texts: list[str] = []
    first_in: dict[str, Path] = {}
    copies, among = 0, ""
    files = data_files(folder, TEXT_ENDINGS)
    for fault in shard_faults(files):
        warnings.warn(f"{fault}, if its texts are wanted", Notice, stacklevel=4)
    for file in files:
        for text in _from_file(file):
            if (other := first_in.setdefault(text, file)) == file:
                texts.append(text)
            else:
                copies, among = copies + 1, among or f"the first in {other} and {file}"
    if copies:
        warnings.warn(
            f"{folder} has {copies} texts in more than one file, {among}; each is used once",
            Notice,
            stacklevel=4,
        )
    return texts


def _from_file(file: Path) -> Iterator[str]:
    if ending_of(file) == ".txt":
        # Windows' and old Macs' line ends are read as in Python's own text files.
        text = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
        rows = iter([Row({COLUMN: text}, str(file))])
    else:
        rows = read_rows(file, [COLUMN])
    row = None
    for row in rows:
        yield text_field(row, COLUMN)
    if row is None:
        raise UserError(f"{file} has no texts in it")


def _fineweb(n: int, seed: int) -> list[str]:
    from datasets import load_dataset

    name, config = FINEWEB
    with explained(
        "fineweb-edu could not be streamed from the Hugging Face hub",
        "give texts of your own, or bundled",
    ):
        stream = load_dataset(name, config, split="train", streaming=True)
        return [row[COLUMN] for row in stream.shuffle(seed=seed, buffer_size=1000).take(n)]
