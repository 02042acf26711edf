"""The registry of scores: each has a name, a function and an inactive side.

A score is a pure function of one layer's `HeadActivations` that returns one number per input and
head. Register your own with `score_function`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from einops import reduce
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import PerHead
from inactive_heads.errors import NotFinite, UserError, look_up, shortened
from inactive_heads.names import HOW_TO_LIST, is_baseline

Side = Literal["below", "above"]


@runtime_checkable
class ScoreFunction(Protocol):
    """A pure function from one layer's `HeadActivations` to one number per input and head."""

    def __call__(self, heads: HeadActivations, /) -> PerHead: ...


@dataclass(frozen=True)
class Score:
    """A named score function and the side of the threshold on which a head is inactive.

        score = ih.get_score("AHON (LN)")
        values = score(heads)  # (batch, head)
        score.is_inactive(values, threshold=0.5)

    Calling it returns a float32 tensor ``(batch, head)``, computed once per `HeadActivations`.

    Args:
        name: the score's name in results.
        function: computes the score.
        inactive: "below" or "above": on this side of a threshold, a head is inactive.
        definition: one line for readers of a report.

    Raises:
        UserError: when called, if the function returns anything other than a floating-point
            tensor of finite numbers of that shape; the message names the score.
    """

    name: str
    function: ScoreFunction
    inactive: Side
    definition: str = ""

    is_ratio = False  # a ratio of scores may be NaN

    def __hash__(self) -> int:
        return hash((self.name, self.inactive))  # a user's object may be unhashable

    def __call__(self, heads: HeadActivations) -> PerHead:
        if self not in heads.scored:
            heads.scored[self] = _checked(self.name, self.function(heads), heads)
        return heads.scored[self]

    def is_inactive(self, values: Tensor, threshold: float) -> Tensor:
        """Whether each value is strictly on the inactive side of the threshold.

        Args:
            values: scores, of any shape.
            threshold: in the units of the score.

        Returns:
            A boolean tensor of the same shape, false for NaN and for values equal to the threshold.
        """
        # torch would round the threshold to single precision, and select other heads.
        values = values.double() if values.device.type != "mps" else values
        return values < threshold if self.inactive == "below" else values > threshold


ScoreLike = str | ScoreFunction | Score
"""A score: its name, a function, or a `Score`."""


REGISTRY: dict[str, Score] = {}


def score_function(
    name: str,
    *,
    inactive: Side | None = None,
    definition: str = "",
    layer_mean_of: str | None = None,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """A decorator that registers a score as ``name``, and its layer-normalized form.

        @score_function("MY", inactive="below")  # registers "MY" and "MY (LN)"
        def my_score(heads):
            return heads.mean_over_tokens(heads.z.norm(dim=-1))

        score_function("SINK@3", inactive="above")(SinkOnToken(3))  # an object with parameters

    The layer-normalized form divides each head's score by the mean over the layer's heads, for
    the same input.

    Args:
        name: the name that users type and results show.
        inactive: "below" or "above": on this side of a threshold, a head is inactive. It has no
            default.
        definition: one line for readers of a report. Default: the docstring's first line.
        layer_mean_of: a registered score whose layer mean is the divisor. Default: the score
            itself.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        UserError: the name is no text, or is that of a baseline; or, when the decorator
            is applied, the name is already registered, ``inactive`` is neither "below" nor
            "above", ``layer_mean_of`` is unknown, or a class is given instead of an instance.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(
            f'a score needs a name: write @score_function("NAME", inactive="below") above the '
            f"function, not {shortened(name)}"
        )
    if name.strip().casefold() == "random" or is_baseline(name):
        raise UserError(f"{name!r} is the name of a baseline; choose another name")

    def register(function: ScoreFunction) -> ScoreFunction:
        if not callable(function):
            raise UserError(f"score {name!r} is no function but {shortened(function)}")
        _refuse_class(function)
        score = Score(name, function, _side(name, inactive), definition or _first_line(function))
        ratio = layer_normalized(score, layer_mean_of)
        for one in (score, ratio):
            _refuse_taken(one.name)
        register_score(score)
        register_score(ratio)
        return function

    return register


def layer_normalized(score: ScoreLike, divisor: ScoreLike | None = None) -> Score:
    """A score divided by the mean over the layer's heads, for the same input.

    Args:
        score: a name, a function or a `Score`: the numerator.
        divisor: the score whose layer mean divides. Default: ``score`` itself.

    Returns:
        A score named ``"… (LN)"``, inactive on the side of ``score``, not registered. It is NaN
        where the ratio is undefined, such as AEQD (LN) of a one-token input, whose entropy is 0.

    Raises:
        UserError: a name is unknown, or a class is given instead of an instance.
    """
    numerator = get_score(score)
    denominator = get_score(divisor) if divisor is not None else numerator
    name = f"{numerator.name} (LN)"
    definition = f"{numerator.name} / layer mean of {denominator.name}"
    ratio = partial(_by_layer_mean, numerator=numerator, denominator=denominator)
    return RatioScore(name, ratio, numerator.inactive, definition)


def _by_layer_mean(heads: HeadActivations, *, numerator: Score, denominator: Score) -> PerHead:
    return numerator(heads) / reduce(denominator(heads), "batch head -> batch 1", "mean")


def get_score(score: ScoreLike) -> Score:
    """The registered score of that name, or a score made from a callable.

        ih.get_score("AHON (LN)")
        ih.get_score(SinkOnToken(3)).name  # "SinkOnToken(position=3)"

    Args:
        score: a registered name, a `Score` (returned as it is), or a callable. A function gives
            the score its name; an object, its ``repr``, or its class and attributes. The
            callable's attribute ``inactive`` is the inactive side; "below" if it has none.

    Returns:
        The score.

    Raises:
        UserError: the name is unknown (the message has the nearest), a class is given instead of an
            instance, or ``inactive`` is neither "below" nor "above".
    """
    if isinstance(score, Score):
        return score
    if callable(score):
        _refuse_class(score)
        name = _name_of(score)
        side = getattr(score, "inactive", "below")
        return Score(name, score, _side(name, side), _first_line(score))
    if not isinstance(score, str):
        raise UserError(f"a score is a name or a function, not {shortened(score)}")
    return REGISTRY[look_up(score, REGISTRY, "score", HOW_TO_LIST)]


def listed_scores(scores: ScoreLike | Iterable[ScoreLike]) -> list[ScoreLike]:
    """Scores as a list.

    Args:
        scores: several scores, or a single one.

    Returns:
        The scores as they were given.

    Raises:
        UserError: it is neither.
    """
    if isinstance(scores, str) or callable(scores):
        return [scores]
    if not isinstance(scores, Iterable):
        raise UserError(f"scores are a list of names or functions, not {shortened(scores)}")
    return list(scores)


class RatioScore(Score):
    """A ratio of scores that are checked themselves: NaN is kept where it is undefined."""

    is_ratio = True

    def __call__(self, heads: HeadActivations) -> PerHead:
        return self.function(heads)


def register_score(score: Score) -> None:
    """Adds a score to `REGISTRY`.

    Args:
        score: the score; its layer-normalized form is not added.

    Raises:
        UserError: the name is already registered.
    """
    _refuse_taken(score.name)
    REGISTRY[score.name] = score


def _refuse_taken(name: str) -> None:
    if name in REGISTRY:
        raise UserError(f"a score named {name!r} is registered already; choose another name")


def _refuse_class(function: object) -> None:
    if inspect.isclass(function):
        raise UserError(
            f"{function.__name__} is a class; a score is an object of it: {function.__name__}(…)"
        )


def _name_of(function: ScoreFunction) -> str:
    """A function's ``__name__``; an object's own repr, if any, else its class and attributes."""
    if isinstance(function, partial):
        given = {str(place): value for place, value in enumerate(function.args)}
        return f"{_name_of(function.func)}({_parameters(given | function.keywords)})"
    if (name := getattr(function, "__name__", None)) is not None:
        return str(name)
    kind = type(function)
    if kind.__repr__ is not object.__repr__:
        return repr(function).rpartition("<locals>.")[2]  # leaves out the enclosing function
    return f"{kind.__name__}({_parameters(vars(function))})"


def _parameters(values: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _side(name: str, side: str | None) -> Side:
    if side not in get_args(Side):
        raise UserError(f'score {name!r}: inactive must be "below" or "above", not {side!r}')
    return side  # type: ignore[return-value]


def _first_line(function: ScoreFunction) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _checked(name: str, values: object, heads: HeadActivations) -> PerHead:
    expected = (len(heads.batch.tokens), heads.n_heads)
    if not isinstance(values, Tensor):
        raise UserError(
            f"score {name!r} returned a {type(values).__name__}; it must return a torch.Tensor "
            f"of shape (batch, head) = {expected}"
        )
    if tuple(values.shape) != expected:
        raise UserError(
            f"score {name!r} returned shape {tuple(values.shape)}; it must be (batch, head) = "
            f"{expected}, one number per input and query head"
        )
    if not values.is_floating_point():
        raise UserError(f"score {name!r} returned {values.dtype}; it must return floating point")
    if not bool(torch.isfinite(values).all()):
        wrong = torch.nonzero(~torch.isfinite(values)).tolist()
        row, head = min(wrong, key=lambda place: (heads.batch.rows[place[0]], place[1]))
        if not heads.is_finite(row):  # the model's fault and not the score's
            raise NotFinite(
                heads.batch.rows[row],
                f"score {name!r} is {values[row, head].item()} at L{heads.layer}H{head}, as the "
                "model's heads are",
                "a dtype such as float16 overflows, or weights are damaged",
            )
        raise UserError(
            f"score {name!r} returned {values[row, head].item()} for input "
            f"{heads.batch.rows[row]}, L{heads.layer}H{head}; a score must be finite "
            "(mean_over_tokens, at_first_token and at_last_token leave padding out)"
        )
    return values.float()
