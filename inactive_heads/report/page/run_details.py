"""What was run, as names and values for readers: the settings of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_NAMES = {"num_fewshot": "shots (num_fewshot)", "bos": "BOS token", "n_samples": "samples"}

Group = tuple[str, list[tuple[str, str]]]
"""A heading, with names and values below it."""


def facts_of(config: Mapping[str, Any]) -> list[Group]:
    """Return the settings of one model as names and values.

    Args:
        config: settings, nested to any depth.

    Returns:
        Groups of names and values: plain settings first, then one group per nested setting.
    """
    plain = [(_label(key), _text(value)) for key, value in config.items() if not _nested(value)]
    groups = [("", plain)] if plain else []
    for key, value in config.items():
        if _nested(value) and value:
            groups.append((_label(key), [(_label(k), _text(v)) for k, v in _flat(value)]))
    return groups


def _nested(value: object) -> bool:
    return isinstance(value, Mapping)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _label(key: object) -> str:
    return _NAMES.get(str(key), str(key).replace("_", " "))


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)


def facts_of_models(configs: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """Return the settings of several models, one group per model.

    Args:
        configs: label → settings, nested to any depth; models without settings are left out.

    Returns:
        Pairs of a model's label and its settings, each a name and a value in words.
    """
    groups = [
        (model, [(_label(key), _text(value)) for key, value in _flat(config)])
        for model, config in configs.items()
    ]
    return [group for group in groups if group[1]]
