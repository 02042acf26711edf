"""What the head of a .gguf file says, read without the slow parsing of its vocabulary."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from inactive_heads.errors import UserError

STRING, ARRAY = 8, 9
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
ALL_FLOAT32 = 0  # the value of general.file_type


def stores_float32(path: Path) -> bool:
    """Whether a .gguf file holds its weights in float32, neither halved nor quantized.

    Raises:
        UserError: the file is not a GGUF file or breaks off in its head.
    """
    return read_value(path, "general.file_type") == ALL_FLOAT32


def read_value(path: Path, wanted: str) -> int | float | bool | str | None:
    """A value of the file's metadata that is not an array; None when the key is not there.

    Raises:
        UserError: the file is not a GGUF file or breaks off in its head.
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
    if length > 1 << 20:  # a chat template is the longest there is
        raise ValueError(f"a text of {length} bytes in its head")
    return file.read(length).decode("utf-8")
