"""The rows of a data file: JSON, JSON lines, CSV, Parquet or Arrow, each with its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.files import decoded_text
from inactive_heads.tasks.reading.folder import ending_of
from inactive_heads.third_party import explained


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        values: the row's fields.
        place: where it stands, for messages: "line 3 of texts.jsonl".
    """

    values: dict[str, Any]
    place: str


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark. Line ends stay as they are.

    Args:
        file: the file; it may be compressed, see `COMPRESSIONS`.

    Returns:
        The text.

    Raises:
        UserError: the file cannot be read or is not text; see `decoded_text`.
    """
    with _opened(file) as content, explained(f"{file} cannot be read", "get it again"):
        return decoded_text(content.read(), str(file))


def read_rows(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a file.

    Args:
        file: its name ends as in `ROW_ENDINGS`, and then perhaps as in `COMPRESSIONS`.
        columns: the columns to read of a file that stores columns; None for all.

    Returns:
        Every row in the file's order. Empty lines are no rows.

    Raises:
        UserError: the file cannot be read, or a row is not an object or does not fit the header;
            the message names the line, item or row.
    """
    reader = _READERS[ending_of(file)]
    return reader(file) if columns is None else reader(file, columns)


def csv_cells(file: Path) -> list[Row]:
    """The rows of a CSV file without a header: fields are named "0", "1" and so on.

    Args:
        file: cells are separated by commas, or by tabs if the file's name has the ending .tsv.

    Returns:
        Every row that is not empty.

    Raises:
        UserError: the file cannot be read, or quotes are out of place.
    """
    delimiter = "\t" if ending_of(file) == ".tsv" else ","
    text = io.StringIO(read_text(file), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    rows, line = [], 1
    limit = csv.field_size_limit(2**30)  # a cell may be a whole book
    try:
        for cells in reader:
            if cells:
                values = {str(index): cell for index, cell in enumerate(cells)}
                rows.append(Row(values, f"line {line} of {file}"))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"line {line} of {file} is not CSV: {error}; see its quotes") from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _csv_rows(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    header, *rows = csv_cells(file) or [Row({}, "")]
    names = [str(name).strip() for name in header.values.values()]
    _check_names(names, file)
    for row in rows:
        if len(row.values) != len(names):
            raise UserError(
                f"{row.place} has {len(row.values)} cells, the header has {len(names)}; put cells "
                "with separators in quotes"
            )
        yield Row(dict(zip(names, row.values.values(), strict=True)), row.place)


def _json_lines(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    # Not splitlines, which also splits at U+2028 and others: JSON allows these in strings.
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip(" \t\r"):
            place = f"line {number} of {file}"
            yield _object_row(_parsed(line, place), place)


def _json_rows(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    text = read_text(file)
    if not text.lstrip().startswith("["):  # the hub has JSON lines under this ending too
        yield from _json_lines(file)
        return
    for index, value in enumerate(_parsed(text, str(file))):
        place = f"item {index} of {file}"
        yield _object_row(value, place)


def _parsed(text: str, place: str) -> Any:
    try:
        # Not strict: control characters in a text, such as a form feed, are clear without an escape.
        return json.loads(text, object_pairs_hook=_object, strict=False)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if error.lineno > 1 else ""
            reason = f"{error.msg} at {line}column {error.colno}"
        raise UserError(f"{place} is not JSON ({reason:.120}); mend it, or remove it") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _object_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else repr(value)
        raise UserError(f"{place} is not an object but {kind:.60}; give an object with fields")
    return Row(value, place)


def _parquet_rows(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    import pyarrow.parquet as parquet

    # A file object, since pyarrow reads more into a path: URLs, and columns from folders "a=b".
    with _opened(file) as content, explained(f"{file} cannot be read", "get it again"):
        table = parquet.ParquetFile(content)
        names = table.schema_arrow.names
        _check_names(names, file)
        wanted = names if columns is None else [name for name in names if name in columns]
        yield from _batch_rows(table.iter_batches(columns=wanted or names), file)


def _arrow_rows(file: Path, columns: list[str] | None = None) -> Iterator[Row]:
    import pyarrow as arrow

    with _opened(file) as content, explained(f"{file} cannot be read", "get it again"):
        as_file = content.read(6) == b"ARROW1"
        content.seek(0)
        if as_file:
            table = arrow.ipc.open_file(content)
            batches = (table.get_batch(index) for index in range(table.num_record_batches))
        else:  # what `save_to_disk` writes
            table = arrow.ipc.open_stream(content)
            batches = iter(table)
        _check_names(table.schema.names, file)
        yield from _batch_rows(batches, file)


def _batch_rows(batches: Iterator[Any], file: Path) -> Iterator[Row]:
    index = 0
    for batch in batches:
        for values in batch.to_pylist():
            yield Row(values, f"row {index} of {file}")
            index += 1


def _check_names(names: list[str], file: Path) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{file} has two columns {twice[0]!r}; rename one of them")


def _opened(file: Path) -> io.BufferedIOBase:
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "no regular file"
        raise UserError(f"{file} is {kind}; give a file that can be read more than once")
    ending = file.suffix.lower()
    with explained(f"{file} cannot be read", "get it again, or give another file"):
        if ending not in _UNPACK:
            return open(file, "rb")
        return io.BytesIO(_UNPACK[ending](file.read_bytes()))


def _unpack_zst(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _unpack_zst,
}

_READERS: dict[str, Callable[..., Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}

ROW_ENDINGS = tuple(_READERS)
"""The endings of files that hold rows."""
