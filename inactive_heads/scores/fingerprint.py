"""What a score computes, as a digest: tells a sweep that a score was changed since it began."""

from __future__ import annotations

import hashlib
import inspect
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from inactive_heads.scores.registry import Score

if TYPE_CHECKING:
    pass


def fingerprint(function: object) -> str:
    """A digest of what a score computes: its code, and that of the scores it is made of.

    Tells a sweep that a score was changed since it began. Constants from outside a function
    are seen where they are closed over, not where they are globals.
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
        # Wherever it lies: numpy takes neither a GPU's tensors nor bfloat16.
        parts += [str(function.dtype), fingerprint(function.detach().cpu().double().numpy())]
    elif hasattr(function, "__array__") and (values := np.asarray(function)).dtype.kind != "O":
        # Of numbers, repr shows a part. Objects' bytes are addresses.
        parts += [f"{values.dtype} {values.shape}", hashlib.sha256(values.tobytes()).hexdigest()]
    elif isinstance(function, frozenset):  # whose order differs from process to process
        parts += sorted(map(repr, function))
    else:
        parts.append(repr(function))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code(code: CodeType) -> str:
    constants = [_code(one) if inspect.iscode(one) else fingerprint(one) for one in code.co_consts]
    return " ".join([code.co_code.hex(), *code.co_names, *constants])
