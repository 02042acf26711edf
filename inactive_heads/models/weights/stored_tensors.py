"""Which tensors a folder in hub layout stores: names, shapes and dtypes, from the files' headers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.hub import WEIGHTS, WEIGHTS_INDEX
from inactive_heads.third_party import explained


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        file: the file.
        name: the tensor's name in the file.
        shape: its shape.
        dtype: its dtype as safetensors calls it, such as "F32" or "BF16".
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> Tensor:
        """The tensor's values, on the CPU in the stored dtype."""
        with safe_open(self.file, framework="pt") as tensors:
            values: Tensor = tensors.get_tensor(self.name)
        return values


def weight_files(folder: Path, remedy: str, explicit: Any = None) -> list[Path]:
    """The safetensors files that transformers reads from a folder in hub layout.

    Args:
        folder: the folder.
        remedy: the advice in error messages about damaged files.
        explicit: the configuration's ``transformers_weights``, which names another file or index.

    Returns:
        The files. A `Notice` names weight files beside them that are not read.

    Raises:
        UserError: there are none, they are pickle files, or some that the index names are missing.
    """
    index, single = folder / WEIGHTS_INDEX, folder / WEIGHTS
    if explicit is not None:
        index = single = folder / str(explicit)
    if single.exists() and single.suffix == ".safetensors":
        files = [single]
    elif index.exists() and index.suffix == ".json":
        files = [folder / name for name in sorted({*_weight_map(index, remedy).values()})]
        missing = [file.name for file in files if not file.exists()]
        if missing or not files:
            raise UserError(
                f"{folder} lacks {len(missing)} of the {len(files)} weight files that "
                f"{index.name} names: {', '.join(missing[:3])}; {remedy}"
            )
    else:
        raise _no_weights(folder)
    beside = sorted(file.name for file in {*folder.glob("model*.safetensors")} - {*files})
    if beside:
        also = f" and {WEIGHTS_INDEX}" if files == [single] and index.exists() else ""
        warnings.warn(
            f"{folder}: the weights are read from {files[0].name}"
            f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}; {', '.join(beside[:3])}"
            f"{also} in the same folder are not read. If they are the right ones, move the others away",
            Notice,
            stacklevel=2,
        )
    return files


def read_headers(files: list[Path], folder: Path, name: str, remedy: str) -> list[StoredTensor]:
    """The tensors in weight files.

    Args:
        files: what `weight_files` returns.
        folder: the folder with the index, if there are several files.
        name: the model's name, used in error messages.
        remedy: the advice in error messages about damaged files.

    Returns:
        Every tensor, in the order of the files.

    Raises:
        UserError: a file is damaged, a name is stored twice with different values, or the index
            names tensors that its files do not have.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        with (
            explained(f"the weights of {name!r} cannot be read", remedy),
            safe_open(file, framework="pt") as tensors,
        ):
            for key in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(key)
                stored = StoredTensor(file, key, tuple(part.get_shape()), part.get_dtype())
                if key in found and not same_values(found[key], stored):
                    raise UserError(
                        f"the weights of {name!r} store {key} twice, with different values, in "
                        f"{found[key].file.name} and {file.name}; {remedy}"
                    )
                found[key] = stored
    index = folder / WEIGHTS_INDEX
    if len(files) > 1 and index.exists():
        absent = [key for key in _weight_map(index, remedy) if key not in found]
        if absent:
            raise UserError(
                f"{index} names {len(absent)} tensors that no weight file has, among them "
                f"{', '.join(absent[:3])}; {remedy}"
            )
    return list(found.values())


def same_values(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors are equal in shape, dtype and values.

    Args:
        one: a stored tensor.
        other: another.

    Returns:
        Whether they are. Values are read only if shapes and dtypes are equal.
    """
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.equal(
        one.read(), other.read()
    )


def stores_float32_matrix(stored: list[StoredTensor]) -> bool:
    """Whether a matrix is stored in float32 or float64.

    Args:
        stored: a checkpoint's tensors.

    Returns:
        Whether one is. Vectors do not count: norms are often stored in float32 next to 16-bit
        matrices.
    """
    return any(one.dtype in ("F32", "F64") and len(one.shape) == 2 for one in stored)


def _weight_map(index: Path, remedy: str) -> Mapping[str, str]:
    with explained(f"{index} cannot be read", remedy):
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(file, str) and Path(file).name == file for file in names.values()):
            raise ValueError("weight_map has a value that is not a file's name")
    return dict(names)


def _no_weights(folder: Path) -> UserError:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return UserError(
            f"the weights in {folder} are pickle files, which are refused because loading "
            "them can run code; convert them to safetensors "
            "(https://huggingface.co/docs/safetensors/convert-weights)"
        )
    packed = sorted(folder.glob("*.gguf"))
    advice = f"; give the path {packed[0]}" if packed else ""
    return UserError(f"the folder {folder} has no weights ({WEIGHTS} or {WEIGHTS_INDEX}){advice}")
