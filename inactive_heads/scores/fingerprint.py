"""A digest of what a score computes: it tells a sweep that a score has changed since it began."""

from __future__ import annotations

import dis
import hashlib
import inspect
from functools import partial
from types import CodeType

import numpy as np
from torch import Tensor

from inactive_heads.scores.registry import Score


def fingerprint(function: object) -> str:
    """A digest of what a score computes: its code, and that of the scores it uses.

    Docstrings, comments and the names of local variables do not count. Values from outside a
    function count if its closure holds them, but not if they are globals.

    Args:
        function: a score, a function or other callable, or any value that one holds. Arrays and
            tensors count with their dtype and every number, objects with their attributes.

    Returns:
        16 hexadecimal digits.
    """
    parts: list[str] = []
    if isinstance(function, Score):
        parts += [function.name, function.inactive, fingerprint(function.function)]
    elif inspect.isfunction(function):
        parts.append(_code(function.__code__))
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        parts += [fingerprint(inside) for inside in cells]
    elif isinstance(function, partial):
        parts += [fingerprint(one) for one in (function.func, *function.args)]
        parts += [f"{name}={fingerprint(one)}" for name, one in sorted(function.keywords.items())]
    elif callable(function) and hasattr(function, "__dict__"):
        parts += [type(function).__qualname__, fingerprint(type(function).__call__)]
        parts += [f"{name}={fingerprint(value)}" for name, value in sorted(vars(function).items())]
    elif isinstance(function, Tensor):
        # On any device: numpy takes neither a GPU's tensors nor bfloat16.
        parts += [str(function.dtype), fingerprint(function.detach().cpu().double().numpy())]
    elif hasattr(function, "__array__") and (values := np.asarray(function)).dtype.kind != "O":
        # repr abbreviates long arrays. The bytes of object arrays are addresses.
        parts += [f"{values.dtype} {values.shape}", hashlib.sha256(values.tobytes()).hexdigest()]
    elif isinstance(function, frozenset):  # its order differs from process to process
        parts += sorted(map(repr, function))
    else:
        parts.append(repr(function))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code(code: CodeType) -> str:
    """The instructions, with the constants and names that they use.

    The place of a constant in ``co_consts`` does not count, as a docstring moves it. No
    instruction loads a docstring, so it is left out.
    """
    parts = []
    for step in dis.get_instructions(code):
        used: object = step.arg
        if step.opcode in dis.hasconst:
            constant = step.argval
            used = _code(constant) if inspect.iscode(constant) else fingerprint(constant)
        elif step.opcode in dis.hasname:
            used = step.argval
        parts.append(f"{step.opname} {used}")
    return " ".join(parts)
