"""Which tensors of a .gguf file make up which weights, proven complete in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf import layouts
from inactive_heads.models.weights.gguf.architectures import Architecture
from inactive_heads.models.weights.gguf.layouts import Made
from inactive_heads.models.weights.gguf.parts import StoredModel
from inactive_heads.models.weights.gguf.rope import TENSORS as ROPE_TENSORS

LAYER = re.compile(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.+)")
"""The names of a layer's weights in transformers."""

STORED_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
"""The names of a layer's tensors in the file."""

ONE_OF_MANY = re.compile(r"(.+\.)(\d+)(\..+)")
"""A module of a numbered list in a layer; the file has the list in one tensor."""


@dataclass(frozen=True)
class Recipe:
    """How a weight is made.

    Attributes:
        made: the tensors of the file, by their full names, and what is done with them. Without
            tensors the weight is zero: a bias that the model does not have.
        row: the row of what is made that the weight is; None for all of it.
    """

    made: Made
    row: int | None = None


def recipes(
    stored: StoredModel, architecture: Architecture, blank: PreTrainedModel
) -> dict[str, Recipe]:
    """How each weight of a model is made from the file.

    Args:
        stored: the file.
        architecture: its architecture.
        blank: the model without weights.

    Returns:
        A recipe for every weight, by the weight's name; tied weights are there once.

    Raises:
        UserError: tensors are missing, or are not used.
    """
    found: dict[str, Recipe] = {}
    missing: list[str] = []
    kinds = {_without_layer(name) for name in stored.tensors}
    for name in _untied(blank):
        recipe = _recipe(architecture, name)
        if recipe is None:
            missing.append(f"any for {name}")
            continue
        absent = [each for each in recipe.made.sources if each not in stored.tensors]
        # A bias that no layer has is zero; one that some layers have is lost.
        if absent and name.endswith(".bias") and not {_without_layer(n) for n in absent} & kinds:
            recipe, absent = Recipe(Made((), layouts.unchanged)), []
        missing += absent
        found[name] = recipe
    if missing:
        raise UserError(
            f"{stored.path} lacks {len(missing)} tensors of the model: {listed(missing)}; the file "
            "is incomplete, or the model is not what its architecture says: get another"
        )
    used = {source for recipe in found.values() for source in recipe.made.sources}
    n_layers = blank.config.num_hidden_layers
    unused = [n for n in stored.tensors if n not in used and not _beside(n, n_layers)]
    if unused:
        raise UserError(
            f"{stored.path} has {len(unused)} tensors that are not read here: {listed(unused)}; give "
            "the model's safetensors folder or hub name"
        )
    return found


def weight(
    stored: StoredModel, name: str, recipe: Recipe, like: Tensor, config: PretrainedConfig
) -> Tensor:
    """One weight, made of the tensors of the file.

    Args:
        stored: the file.
        name: the weight's name, used in errors.
        recipe: how it is made.
        like: the model's own weight, for its shape.
        config: the model's configuration.

    Returns:
        The weight in float32, of the shape of ``like``.

    Raises:
        UserError: the tensors do not fit the model, are damaged, or cannot be unpacked.
    """
    sources = recipe.made.sources
    if not sources:
        return torch.zeros(like.shape)
    tensors = [stored.tensors[source].read() for source in sources]
    try:
        made = recipe.made.layout(config, tensors)
        made = made if recipe.row is None else made[recipe.row]
    except (RuntimeError, ValueError, IndexError) as error:  # of einops and torch
        raise _misfit(stored, sources, tensors, like) from error
    if made.shape != like.shape:
        raise _misfit(stored, sources, tensors, like)
    return made.contiguous()


def listed(names: Iterable[str]) -> str:
    """The first three of some names, and a sign if there are more."""
    all_names = list(names)
    return ", ".join(all_names[:3]) + (", …" if all_names[3:] else "")


def _misfit(
    stored: StoredModel, sources: tuple[str, ...], tensors: list[Tensor], like: Tensor
) -> UserError:
    shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
    return UserError(
        f"{' and '.join(sources)} in {stored.path} of shape {shapes} do not make a weight of shape "
        f"{tuple(like.shape)}: settings and tensors contradict each other, get the file again"
    )


def _recipe(architecture: Architecture, name: str) -> Recipe | None:
    layer = LAYER.fullmatch(name)
    table, rest = (architecture.layer, layer[2]) if layer else (architecture.top, name)
    prefix = f"blk.{layer[1]}." if layer else ""
    module, dot, last = rest.rpartition(".")
    for key, ending in ((rest, ""), (module, dot + last)):
        if key in table:
            return Recipe(_named(table[key], prefix, ending))
    one = ONE_OF_MANY.fullmatch(rest)
    if one and one[1] + "*" + one[3] in table:
        return Recipe(_named(table[one[1] + "*" + one[3]], prefix, ""), int(one[2]))
    return None


def _named(entry: str | Made, prefix: str, ending: str) -> Made:
    made = Made((entry,), layouts.unchanged) if isinstance(entry, str) else entry
    return Made(tuple(prefix + source + ending for source in made.sources), made.layout)


def _untied(blank: PreTrainedModel) -> Iterator[str]:
    """The names of a model's weights, each weight once."""
    seen: set[int] = set()
    for name, parameter in blank.state_dict(keep_vars=True).items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield name


def _without_layer(name: str) -> str:
    layer = STORED_LAYER.fullmatch(name)
    return layer[2] if layer else name


def _beside(name: str, n_layers: int) -> bool:
    """Whether a tensor is no weight: part of the configuration, or of what predicts further tokens."""
    layer = STORED_LAYER.fullmatch(name)
    return name in ROPE_TENSORS or (layer is not None and int(layer[1]) >= n_layers)
