"""The header of a .gguf file: its metadata, and where each tensor lies."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quant_shape_to_byte_shape

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

MAX_DIMENSIONS = 4
LONG_ARRAY = 4096
"""Arrays with more elements (vocabularies) are not kept."""

LARGEST_HEADER = 1 << 28
"""No header is that large: a vocabulary of a million tokens takes some 50 MB."""

Value = int | float | bool | str | list["Value"] | None
"""A value of the metadata; None stands for a long array."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        name: its name in the file, such as "blk.0.attn_q.weight".
        shape: its shape in PyTorch's order.
        kind: how its numbers are stored.
        file: the file.
        start: where it begins in the file, in bytes.
        n_bytes: its size in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    file: Path
    start: int
    n_bytes: int

    def read(self) -> torch.Tensor:
        """The tensor in float32.

        Returns:
            A copy in memory, of ``shape``.

        Raises:
            UserError: the installed gguf cannot unpack its type, or it has NaN or infinity.
        """
        stored = np.fromfile(self.file, np.uint8, self.n_bytes, offset=self.start)
        packed = stored.reshape(quant_shape_to_byte_shape(self.shape, self.kind))
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                numbers = dequantize(packed, self.kind)
        except NotImplementedError as error:
            raise UserError(
                f"{self.name} in {self.file} is stored as {self.kind.name}, which cannot be unpacked "
                "here: give a file of another quantization, such as Q8_0 or F16"
            ) from error
        tensor = torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).reshape(self.shape)
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{self.name} in {self.file} has NaN or infinity: the file is damaged, get it again"
            )
        return tensor


@dataclass(frozen=True)
class Header:
    """The header of one file.

    Attributes:
        path: the file.
        metadata: its keys and values.
        tensors: its tensors by name.
    """

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
    """The header of a .gguf file. No tensor is read, and no vocabulary is kept.

        read_header(Path("model.gguf")).metadata["general.architecture"]  # 'llama'

    Args:
        path: the file.

    Returns:
        Its metadata and tensors, each checked to lie inside the file.

    Raises:
        UserError: it is not a GGUF file of version 2 or 3, is cut short, or contradicts itself.
    """
    try:
        with path.open("rb") as file:
            _check_format(path, file.read(8))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Parser(path, content).header()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged or incomplete ({reason}): get it again") from error


def _check_format(path: Path, start: bytes) -> None:
    if start[:4] != b"GGUF":
        what = {
            b"vers": "a Git LFS pointer, not the file: fetch it with `git lfs pull`",
            b"": "an empty file: get it again",
        }.get(start[:4], f"not a GGUF file (it starts with {start[:4]!r}): get it again")
        raise UserError(f"{path} is {what}")
    if len(start) < 8:
        raise UserError(
            f"{path} is damaged or incomplete (it has {len(start)} bytes): get it again"
        )
    version, turned = struct.unpack("<I", start[4:])[0], struct.unpack(">I", start[4:])[0]
    if turned in (1, 2, 3):
        raise UserError(
            f"{path} is big-endian, for machines that are not supported: get the little-endian file"
        )
    if version not in (2, 3):
        raise UserError(
            f"{path} is of GGUF version {version}, and versions 2 and 3 are read: convert the model "
            "again with a current llama.cpp"
        )


class _Parser:
    """Walks through a header once, refusing what would point outside the file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content, self.size = path, content, len(content)
        self.position = 8

    def header(self) -> Header:
        n_tensors, n_keys = self.number("Q"), self.number("Q")
        if int(n_tensors) * 24 + int(n_keys) * 13 > self.size:
            raise ValueError(f"it says it has {n_tensors} tensors and {n_keys} keys")
        metadata: dict[str, Value] = {}
        for _ in range(int(n_keys)):
            key = self.text()
            if key in metadata:
                raise ValueError(f"the key {key!r} is there twice")
            metadata[key] = self.value(int(self.number("I")))
        entries = [self.entry() for _ in range(int(n_tensors))]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {alignment!r}")
        return Header(self.path, metadata, self.located(entries, alignment))

    def entry(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name, n_dims = self.text(), int(self.number("I"))
        if not 1 <= n_dims <= MAX_DIMENSIONS:
            raise ValueError(f"{name} has {n_dims} dimensions")
        shape = tuple(int(self.number("Q")) for _ in range(n_dims))[::-1]
        code, offset = int(self.number("I")), int(self.number("Q"))
        try:
            kind = GGMLQuantizationType(code)
        except ValueError as error:
            raise UserError(
                f"{name} in {self.path} is stored as type {code}, which this version of gguf does "
                "not know: give a file of another quantization, such as Q8_0 or F16"
            ) from error
        return name, shape, kind, offset

    def located(
        self, entries: list[tuple[str, tuple[int, ...], GGMLQuantizationType, int]], alignment: int
    ) -> dict[str, StoredTensor]:
        """The tensors, which lie one after another, each at a multiple of ``alignment``."""
        begin = _padded(self.position, alignment)
        tensors: dict[str, StoredTensor] = {}
        expected = 0
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise ValueError(f"the tensor {name!r} is there twice")
            if offset != expected:
                raise ValueError(f"{name} lies at {offset} where {expected} is expected")
            n_bytes = math.prod(quant_shape_to_byte_shape(shape, kind))
            if n_bytes == 0 or begin + offset + n_bytes > self.size:
                missing = begin + offset + n_bytes - self.size
                raise ValueError(
                    f"{name} of shape {shape} needs {missing} bytes more than there are"
                )
            tensors[name] = StoredTensor(name, shape, kind, self.path, begin + offset, n_bytes)
            expected = _padded(offset + n_bytes, alignment)
        return tensors

    def value(self, kind: int) -> Value:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(NUMBERS[kind])
        kind, count = int(self.number("I")), int(self.number("Q"))
        if kind == ARRAY:
            raise ValueError("an array of arrays in its metadata")
        if count <= LONG_ARRAY:
            return [self.value(kind) for _ in range(count)]
        if kind == STRING:
            for _ in range(count):
                self.skip(int(self.number("Q")))
        else:
            self.skip(count * struct.calcsize(NUMBERS[kind]))
        return None

    def number(self, code: str) -> int | float | bool:
        start = self.position
        self.skip(struct.calcsize(code))
        value: int | float | bool = struct.unpack_from(f"<{code}", self.content, start)[0]
        return value

    def text(self) -> str:
        length = int(self.number("Q"))
        start = self.position
        self.skip(length)
        return self.content[start : self.position].decode("utf-8")

    def skip(self, n_bytes: int) -> None:
        self.position += n_bytes
        if self.position > min(self.size, LARGEST_HEADER):
            raise ValueError("its header ends in the middle")


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
