"""Checks of single values that callers give.

Nothing here imports anything that is slow to load, so that a command can refuse its options at once.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, get_args

from inactive_heads.errors import Notice, UserError, look_up, shortened
from inactive_heads.names import (
    DTYPE_NAMES,
    GALLERY_SCORES,
    HOW_TO_LIST,
    PAPER_SCORES,
    PROPOSED_SCORES,
    RANDOM,
    ROD,
    Mode,
    Replacement,
    Rule,
    score_of_placebo,
)


def check_whole(name: str, value: object, *, least: int) -> None:
    """Check a whole number that may be left out.

    Args:
        name: what the error message calls it.
        value: an integer; None passes.
        least: the smallest number allowed.

    Raises:
        UserError: it is not an integer (True and 2.0 are not), or is below ``least``.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{name} must be a whole number, not {value!r:.60}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")


def any_number(value: Any, what: str) -> float:
    """A single number as a float, NaN and infinity too.

    Args:
        value: a number, or an array or tensor of a single number without dimensions.
        what: what the number is, used in the error message.

    Returns:
        The number.

    Raises:
        UserError: it is no number, or several.
    """
    if getattr(value, "ndim", 0):
        shape = tuple(value.shape)
        hint = ", such as cuts.sel(score=NAME, percent=10)" if hasattr(value, "sel") else ""
        raise UserError(f"{what} is a single number{hint}, not an array of shape {shape}")
    plain = value.item() if callable(getattr(value, "item", None)) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise UserError(f"{what} is a number, not {shortened(value)}")
    return float(plain)


def check_percents(percents: Any) -> list[float]:
    """Percents of heads in ascending order, validated.

    A `Notice` is given if all are below 1, as shares of 1 are.

    Args:
        percents: numbers from 0 to 100, each once, or a single one.

    Returns:
        The percents, ascending.

    Raises:
        UserError: none is given, one is not a number between 0 and 100, or one is given twice.
    """
    several = isinstance(percents, Iterable) and getattr(percents, "ndim", None) != 0
    if isinstance(percents, str) or not several:
        percents = [percents]
    checked = [any_number(percent, "a percent of heads") for percent in percents]
    if not checked:
        raise UserError("no percent of heads was given; percents might be [0, 10, 20, 30]")
    for percent in checked:
        if not 0 <= percent <= 100:
            raise UserError(f"a percent of heads is from 0 to 100, not {percent:g}")
    if len(set(checked)) < len(checked):
        raise UserError(f"a percent of heads stands twice in {[f'{one:g}' for one in checked]}")
    if 0 < max(checked) < 1:
        most = max(checked)
        warnings.warn(
            f"{most:g} means {most:g}% of heads; for a share of {most:g} write {100 * most:g}",
            Notice,
            stacklevel=2,
        )
    return sorted(checked)


def check_scores_once(names: Sequence[str]) -> None:
    """Check that scores were asked for, each once.

    Args:
        names: the names of the scores.

    Raises:
        UserError: there is none, or a name is given twice.
    """
    if not names:
        raise UserError(f"no score was asked for; {HOW_TO_LIST}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"score {name!r} was asked for twice; give each function its own name")


def check_score_names(names: Sequence[str], own: Sequence[str] = ()) -> None:
    """Check the names of scores before any score function is loaded.

    Args:
        names: the names as they were given, baselines among them.
        own: the names of the user's scores.

    Raises:
        UserError: there is none, or one is unknown or given twice.
    """
    known = (*PAPER_SCORES, *GALLERY_SCORES, *PROPOSED_SCORES, *own)
    for name in names:
        if (followed := score_of_placebo(name)) is None:
            look_up(name, (*known, RANDOM), "score", HOW_TO_LIST)
        else:
            look_up(followed, known, "score for a placebo to follow", HOW_TO_LIST)
    check_scores_once(names)


def check_batch_size(batch_size: int | str) -> None:
    """Check that a batch size is valid.

    Args:
        batch_size: the number or word given.

    Raises:
        UserError: it is neither a positive integer nor "auto".
    """
    if batch_size != "auto" and not (isinstance(batch_size, int) and batch_size > 0):
        raise UserError(f'batch_size must be a positive number or "auto", not {batch_size!r}')


def check_dtype(dtype: str) -> None:
    """Check the name of a dtype.

    Args:
        dtype: "auto" or one of `DTYPE_NAMES`.

    Raises:
        UserError: it is neither.
    """
    if dtype not in ("auto", *DTYPE_NAMES):
        raise UserError(
            f"dtype={dtype!r} is unknown; give 'auto' or one of {', '.join(DTYPE_NAMES)}"
        )


def check_rule(name: str, value: str) -> None:
    """Check an option that is "auto", "on" or "off".

    Args:
        name: the option's name, used in the error message.
        value: what was given.

    Raises:
        UserError: it is none of the three.
    """
    if value not in get_args(Rule):
        raise UserError(f"{name}={value!r} is unknown; give one of {', '.join(get_args(Rule))}")


def check_mode(mode: str) -> None:
    """Check how heads are chosen in a sweep.

    Args:
        mode: "per-input" or "fixed".

    Raises:
        UserError: it is neither.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode must be per-input or fixed, not {mode!r}")


def check_replacement(replacement: str, scores: Sequence[str]) -> None:
    """Check what takes the place of a silenced head's output in a report.

    Args:
        replacement: "zero" or "mean".
        scores: the names of the scores to ablate by.

    Raises:
        UserError: it is neither; or ROD is asked for, and heads are not replaced by their mean.
    """
    if replacement not in get_args(Replacement):
        raise UserError(f"replacement must be zero or mean, not {replacement!r}")
    if ROD in scores and replacement != "mean":
        raise UserError(
            f"{ROD} measures the distance from a head's mean output; give --replacement mean"
        )


def check_device(device: str) -> None:
    """Check the form of a device's name; whether the machine has the device is another question.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: it is something else.
    """
    kind, _, number = device.partition(":")
    if device not in ("auto", "cpu") and (
        kind != "cuda" or (":" in device and not number.isdecimal())
    ):
        raise UserError(f"device={device!r} is unknown; give 'auto', 'cpu', 'cuda' or 'cuda:N'")


def check_lm_eval() -> None:
    """Check that lm-evaluation-harness is installed.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("this needs lm-evaluation-harness: pip install 'inactive-heads[lm-eval]'")
