"""CSV files as people have them, read without a guess: names stay text, every row is whole."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from inactive_heads.errors import UserError, shortened

NAMES = ("model", "task", "mode", "score")
"""Columns of names: always text, even if a name is "None", "NA" or "007"."""

MISSING = ("", "nan", "NaN", "NA", "N/A", "n/a", "null", "None", "-", "–")
"""What a cell of a number holds if there is none."""


def read_table(path: str | Path) -> pd.DataFrame:
    """Return the contents of a CSV file.

    Cells are separated by commas or, if the header has none, by semicolons or tabs. The first byte
    order mark, empty lines, and columns without a heading (an index) are left out.

    Args:
        path: the CSV file, in UTF-8.

    Returns:
        One row per line of the file. The columns of `NAMES` are text; another column is of floats
        if all of its cells are numbers or missing, else text.

    Raises:
        UserError: the file cannot be read, is empty, is not a table, or a row has not as many cells
            as the header (the message has its line).
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{str(path)!r} is not a table in CSV: byte {error.start} is not UTF-8; save it as such"
        ) from error
    header, rows = _cells(text, str(path))
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header) if name}
    return pd.DataFrame({name: _column(name, cells) for name, cells in columns.items()})


def _cells(text: str, where: str) -> tuple[list[str], list[list[str]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((one for one in ",;\t" if one in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if rows and len(row) != len(rows[0]):
                raise UserError(
                    f"{where}: line {reader.line_num} has {len(row)} cells, the header "
                    f"{len(rows[0])}; a number has a point (12.5), a name with {separator!r} quotes"
                )
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{where!r} is not a table in CSV: {error}") from error
    if not rows:
        raise UserError(f"{where!r} is not a table in CSV: it is empty")
    header = [name.strip() for name in rows[0]]
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{where}: two columns are called {shortened(name)}; rename one")
    return header, rows[1:]


def _column(name: str, cells: list[str]) -> pd.Series:
    if name.lower() in NAMES:
        return pd.Series(cells, dtype=object)
    plain = pd.Series([np.nan if cell.strip() in MISSING else cell.strip() for cell in cells])
    numbers = pd.to_numeric(plain, errors="coerce")
    odd = numbers.isna() & plain.notna()
    return pd.Series(cells, dtype=object) if odd.any() else numbers
