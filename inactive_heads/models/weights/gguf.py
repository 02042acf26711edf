"""Reads single values of a .gguf file's metadata, without parsing its vocabulary, which is slow."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from inactive_heads.errors import UserError

STRING, ARRAY = 8, 9
"""GGUF's type codes of texts and arrays."""

NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""GGUF's type codes of numbers, with the format characters of `struct`."""

ALL_FLOAT32 = 0
"""The value of general.file_type if all weights are float32."""


def stores_float32(path: Path) -> bool:
    """Whether a .gguf file stores its weights in float32, rather than in 16 bits or quantized.

    Args:
        path: the file.

    Returns:
        What the metadata's general.file_type says; False without it.

    Raises:
        UserError: it is not a GGUF file of version 2 or 3, or is truncated in its metadata.
    """
    return read_value(path, "general.file_type") == ALL_FLOAT32


def read_value(path: Path, wanted: str) -> int | float | bool | str | None:
    """A value of a .gguf file's metadata.

        read_value(Path("model.gguf"), "general.architecture")  # 'llama'

    Args:
        path: the file.
        wanted: the value's key.

    Returns:
        The value; None if there is no such key, or if it is an array.

    Raises:
        UserError: it is not a GGUF file of version 2 or 3, or is truncated in its metadata.
    """
    with path.open("rb") as file:
        try:
            magic, version, _, n_keys = struct.unpack("<4sIQQ", file.read(24))
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError(f"it starts with {magic!r}, version {version}")
            for _ in range(n_keys):
                key, kind = _string(file), _number(file, "I")
                value = _value(file, int(kind))
                if key == wanted:
                    return value
        except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
            raise UserError(
                f"{path} is not a GGUF file of version 2 or 3, or a damaged one ({error}); get it again"
            ) from error
    return None


def _value(file: BinaryIO, kind: int) -> int | float | bool | str | None:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        kind, count = int(_number(file, "I")), int(_number(file, "Q"))
        if kind == STRING:
            for _ in range(count):
                file.seek(int(_number(file, "Q")), 1)
        else:
            file.seek(count * struct.calcsize(NUMBERS[kind]), 1)
        return None
    return _number(file, NUMBERS[kind])


def _number(file: BinaryIO, code: str) -> int | float | bool:
    value: int | float | bool = struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0]
    return value


def _string(file: BinaryIO) -> str:
    length = int(_number(file, "Q"))
    if length > 1 << 20:  # no text in metadata is that long, not even a chat template
        raise ValueError(f"a text of {length} bytes in its head")
    return file.read(length).decode("utf-8")
