"""A model in one .gguf file or in several: `name-00001-of-00003.gguf` and so on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.header import Header, StoredTensor, Value, read_header

PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.I)
"""The name of a part, as llama.cpp's gguf-split writes it."""

OTHER_KINDS = {
    "adapter": "a LoRA adapter: merge it into its base model, and give the result",
    "mmproj": "the vision or audio part of a model (mmproj): give the file of the language model",
    "imatrix": "an importance matrix for quantizing: give the model's file",
    "controlvector": "a control vector: give the model's file",
}
"""What files that hold no model are, by general.type or general.architecture."""

VISION = "clip"
"""The architecture of mmproj files."""


@dataclass(frozen=True)
class StoredModel:
    """A model's metadata and tensors, from all of its parts.

    Attributes:
        path: the first part.
        architecture: llama.cpp's name of the architecture, such as "llama".
        metadata: the keys and values of the first part, which has them all.
        tensors: the tensors of all parts by name.
    """

    path: Path
    architecture: str
    metadata: dict[str, Value]
    tensors: dict[str, StoredTensor]


def is_gguf(path: Path) -> bool:
    """Whether a path has the name of a .gguf file, in any case.

    Args:
        path: a path.

    Returns:
        True for "a.gguf" and "A.GGUF".
    """
    return path.suffix.lower() == ".gguf"


def model_name(path: Path) -> str:
    """The name of a model, without the number of a part.

        model_name(Path("a-00002-of-00003.gguf"))  # 'a'

    Args:
        path: its file, or one of its files.

    Returns:
        The file's name without number and suffix.
    """
    part = PART.fullmatch(path.name)
    return part["stem"] if part else path.stem


def models_in(folder: Path) -> list[Path]:
    """The models in a folder's .gguf files.

    Args:
        folder: a folder; its sub-folders are not searched.

    Returns:
        One file of each model, sorted: of a model in parts the first that is there.
    """
    files = [p for p in folder.iterdir() if is_gguf(p) and not p.name.startswith(".")]
    first: dict[str, Path] = {}
    for path in sorted(files):
        first.setdefault(model_name(path) if PART.fullmatch(path.name) else path.name, path)
    return sorted(first.values())


def read_model(path: Path) -> StoredModel:
    """The headers of all of a model's files.

    Args:
        path: the file, or any one of the parts.

    Returns:
        The model, its tensors not read yet.

    Raises:
        UserError: a file is damaged, a part is missing or belongs to another model, or it holds no
            language model.
    """
    given = read_header(path)
    headers = _parts(given)
    tensors: dict[str, StoredTensor] = {}
    for header in headers:
        twice = sorted(tensors.keys() & header.tensors.keys())
        if twice:
            raise UserError(
                f"{header.path} and {tensors[twice[0]].file.name} both have {twice[0]}: they are not "
                "parts of one model"
            )
        tensors |= header.tensors
    total = headers[0].metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise UserError(
            f"the {len(headers)} parts of {headers[0].path} have {len(tensors)} tensors, and should "
            f"have {total}: they are not parts of one model, or one is damaged; get them again"
        )
    architecture = _architecture(headers[0])
    if not tensors:
        raise UserError(f"{path} has a vocabulary and no weights: give the model's own file")
    return StoredModel(headers[0].path, architecture, headers[0].metadata, tensors)


def _architecture(first: Header) -> str:
    architecture = first.metadata.get("general.architecture")
    for word in (first.metadata.get("general.type"), architecture):
        word = "mmproj" if word == VISION else word
        if isinstance(word, str) and word in OTHER_KINDS:
            raise UserError(f"{first.path} is {OTHER_KINDS[word]}")
    if not isinstance(architecture, str):
        raise UserError(f"{first.path} has no general.architecture: it holds no model")
    return architecture


def _parts(given: Header) -> list[Header]:
    count = given.metadata.get("split.count", 1)
    if not isinstance(count, int) or isinstance(count, bool):
        raise UserError(f"{given.path} is damaged (split.count is {count!r}): get it again")
    if count <= 1:
        return [given]
    number = given.metadata.get("split.no")
    name = PART.fullmatch(given.path.name)
    if number not in range(count) or not name or int(name["count"]) != count:
        raise UserError(
            f"{given.path} is one of {count} parts of a model: name the parts NAME-00001-of-"
            f"{count:05}.gguf and so on, in one folder, and give one of them"
        )
    names = [f"{name['stem']}-{i:05}-of-{count:05}{name['suffix']}" for i in range(1, count + 1)]
    paths = [given.path.with_name(each) for each in names]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"{given.path} is one of {count} parts, and {len(missing)} are missing beside it: get "
            f"{', '.join(missing[:3])}{', …' if missing[3:] else ''}"
        )
    headers = [given if path == given.path else read_header(path) for path in paths]
    for i, header in enumerate(headers):
        _check_part(header, i, headers[0])
    return headers


def _check_part(part: Header, number: int, first: Header) -> None:
    shared = ["split.count", "split.tensors.count"]
    if "general.architecture" in part.metadata:
        shared.append("general.architecture")
    for key, expected in {"split.no": number, **{k: first.metadata.get(k) for k in shared}}.items():
        if part.metadata.get(key) != expected:
            raise UserError(
                f"{part.path} is no part of the same model as {first.path.name}: its {key} is "
                f"{part.metadata.get(key)!r}, not {expected!r}; get the parts again"
            )
