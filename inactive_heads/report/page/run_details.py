"""What was run, as names and values for people: the settings of each model's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_NAMES = {"num_fewshot": "shots (num_fewshot)", "bos": "BOS token", "n_samples": "samples"}

Group = tuple[str, list[tuple[str, str]]]


def facts_of(config: Mapping[str, Any]) -> list[Group]:
    """What was run, as (heading, [(name, value)]): plain settings first, then nested ones."""
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
    """What was run for each of several models, all of a model's settings in one group."""
    groups = [
        (model, [(_label(key), _text(value)) for key, value in _flat(config)])
        for model, config in configs.items()
    ]
    return [group for group in groups if group[1]]
