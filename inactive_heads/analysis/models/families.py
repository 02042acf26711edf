"""Models that belong together, judged by their names: finetuned forms, sizes of one family."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bm])(?![A-Za-z0-9])", re.IGNORECASE)
_BASE = re.compile(r"[-_](base|pt)$", re.IGNORECASE)


def finetuned_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a pair ``(base, finetuned)`` for every name that continues another.

    >>> finetuned_pairs(["Qwen2.5-7B", "Qwen2.5-7B-Instruct", "Qwen2.5-14B"])
    [('Qwen2.5-7B', 'Qwen2.5-7B-Instruct')]

    Args:
        names: names of models. "-Base" or "-pt" at the end marks a base. If several bases fit, the
            one with the longest name is taken.

    Returns:
        Pairs of names, in the order of the finetuned models in ``names``.
    """
    pairs = []
    for name in names:
        bases = [base for base in names if base != name and _continues(name, base)]
        if bases and not _BASE.search(name):
            pairs.append((max(bases, key=lambda base: len(_BASE.sub("", base))), name))
    return pairs


def scale_steps(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs ``(smaller, larger)`` of consecutive sizes among names that differ only in size.

    >>> scale_steps(["Qwen2.5-3B", "Qwen2.5-0.5B", "Qwen2.5-14B", "Qwen2.5-7B-Instruct"])
    [('Qwen2.5-0.5B', 'Qwen2.5-3B'), ('Qwen2.5-3B', 'Qwen2.5-14B')]

    Args:
        names: names of models, in any order; those without a size such as "7B" are ignored.

    Returns:
        Pairs of names, family by family, from small to large.
    """
    families: dict[str, list[str]] = {}
    for name in names:
        if _SIZE.search(name):
            families.setdefault(_SIZE.sub("*", name).lower(), []).append(name)
    steps = []
    for members in families.values():
        ordered = sorted(members, key=_parameters)
        steps += list(itertools.pairwise(ordered))
    return steps


def _continues(name: str, base: str) -> bool:
    stem, own = _BASE.sub("", base).lower(), name.lower()
    return own == stem or own.startswith((f"{stem}-", f"{stem}_"))


def _parameters(name: str) -> float:
    found = _SIZE.search(name)
    assert found is not None  # only names with a size get here
    return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)
