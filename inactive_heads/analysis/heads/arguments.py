"""Checks of what functions on scores are given: scores, thresholds, and single numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr

from inactive_heads.analysis.heads.existing import check_absent
from inactive_heads.checks import any_number
from inactive_heads.errors import UserError, look_up, shortened


def check_scores(scores: Any, dims: Iterable[str] = ("score",)) -> None:
    """Check that an array has the form of scores.

    Args:
        scores: what should be scores, as from `score_heads`.
        dims: the dimensions that are needed.

    Raises:
        UserError: it is no DataArray, lacks a dimension, or does not say in ``inactive`` on which
            side heads are inactive; or it has a number at a head that a layer lacks.
    """
    check_labelled(scores, ("score",), "scores", "score_heads")
    if missing := [dim for dim in dims if dim not in scores.dims]:
        raise UserError(
            f"the scores have no dimension {missing[0]!r}, only {scores.dims}; give them as from "
            "score_heads (.sel(score=[NAME]) keeps the dimension)"
        )
    if "inactive" not in scores.coords:
        raise UserError(
            "the scores do not say on which side heads are inactive: they need the coordinate "
            "'inactive' of score_heads"
        )
    check_absent(scores, "scores")
    names = scores["score"].to_numpy().tolist()
    if len(set(names)) < len(names):
        raise UserError(f"the scores have a name twice: {shortened(names)}")


def check_thresholds(thresholds: Any) -> None:
    """Check that an array has the form of thresholds, ``(score, percent)`` or ``(score,)``.

    Args:
        thresholds: what should be thresholds, as from `choose_thresholds`.

    Raises:
        UserError: it is no DataArray, has other dimensions, or a threshold is NaN.
    """
    check_labelled(thresholds, ("score",), "thresholds", "choose_thresholds")
    if not {*thresholds.dims} <= {"score", "percent"}:
        raise UserError(
            f"thresholds have the dimensions ('score', 'percent'), not {thresholds.dims}; make them "
            "with choose_thresholds"
        )
    if thresholds.isnull().any():
        raise UserError(f"a threshold is NaN: {shortened(thresholds.to_numpy().tolist())}")


def check_labelled(given: Any, coords: Iterable[str], what: str, maker: str) -> None:
    """Check that something is a DataArray with certain coordinates.

    Args:
        given: what should be one.
        coords: the coordinates that it must have.
        what: what it should be, used in error messages.
        maker: the function that makes it.

    Raises:
        UserError: it is something else; a path is answered with how to read a file.
    """
    if isinstance(given, str | PathLike):
        raise UserError(
            f"{shortened(str(given))} is a text, not {what}; read a file with "
            'xarray.load_dataarray(PATH, engine="h5netcdf")'
        )
    if not isinstance(given, xr.DataArray):
        raise UserError(
            f"{what} are a DataArray from {maker}, not a {type(given).__name__}: {shortened(given)}"
        )
    if missing := [name for name in coords if name not in given.coords]:
        raise UserError(
            f"the {what} have no coordinate {missing[0]!r}, only {sorted(map(str, given.coords))}; "
            f"make them with {maker}"
        )


def score_name(scores: xr.DataArray, name: Any) -> str:
    """Return the name of a score, checked to be one of an array's.

    Args:
        scores: an array with the coordinate ``score``.
        name: the name as it was given.

    Returns:
        The name.

    Raises:
        UserError: the array does not have it; the message has the nearest name.
    """
    known = [str(one) for one in np.atleast_1d(scores["score"].to_numpy())]
    return look_up(name, known, "score", f"there are {shortened(known)[1:].rstrip(']')}")


def one_number(value: Any, what: str) -> float:
    """Return a single finite number as a float.

    Args:
        value: a number, or an array or tensor of a single number without dimensions.
        what: what the number is, used in the error message.

    Returns:
        The number.

    Raises:
        UserError: it is no number, several, NaN or infinite.
    """
    number = any_number(value, what)
    if not math.isfinite(number):
        raise UserError(f"{what} is a finite number, not {number}")
    return number


def check_seed(seed: Any) -> int:
    """Return the seed of random draws as an int.

    Args:
        seed: a whole number, 0 or more.

    Returns:
        The seed.

    Raises:
        UserError: it is anything else.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"a seed is a whole number from 0, not {shortened(seed)}")
    return int(seed)
