"""The metrics a task is judged by, accuracy and loss, and everything that depends on the metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from inactive_heads.analysis.curves.intervals import FEWEST_ANSWERS, FEWEST_VALUES
from inactive_heads.analysis.curves.ties import ROUNDING
from inactive_heads.errors import UserError
from inactive_heads.names import MetricName

Direction: TypeAlias = Literal["higher", "lower"]
T = TypeVar("T", float, np.ndarray)


class Metric(str):
    """A metric: its name, "accuracy" or "loss", with its direction, units, columns and wording.

        loss = get_metric("loss")
        loss == "loss", loss.higher_is_better, loss.tolerance  # True, False, 0.05
        curves[loss]                                           # the column of losses

    Being a string, a metric serves as a column label, a dictionary key or a JSON value, and equals
    the plain name. ``ACCURACY`` and ``LOSS`` are the only instances: `get_metric` looks them up,
    and copying or unpickling a metric returns the same object.

    Attributes:
        higher_is_better: whether higher values are better.
        is_binary: whether the outcome of an item is right (1) or wrong (0) rather than a number.
        scale: the curve's unit per unit of an item's outcome: 100 for accuracy, which is in %.
        tolerance: how much worse still counts as unharmed by default: 1 point of accuracy, 0.05
            nats of loss.
        rounding: values closer than this are equal: ties in a ranking.
        unit: the unit of a value: "%" or "nats per token".
        change_unit: the unit of a difference: "points" or "nats per token".
        digits: decimals of a value.
        auc_digits: decimals of a normalized AUC with an interval.
        item_column: the column of `Outcomes.items` with the outcome of an item.
        weight_column: the column there with the weight of an item; None if all weigh the same.
        bounds: the columns of curves with the ends of the 95% interval.
        items: the items of a task in words: "questions" or "texts".
        fewest_items: the smallest number of items that has an interval.
        subject: the metric as the subject of a sentence: "accuracy" or "the loss".
        suffix: the unit of the tolerance in column names such as ``percent_within_1pt``.
    """

    def __new__(cls, name: str, **_: object) -> Metric:
        return super().__new__(cls, name)

    def __init__(
        self,
        name: str,
        *,
        higher_is_better: bool,
        is_binary: bool,
        scale: float,
        tolerance: float,
        unit: str,
        change_unit: str,
        digits: int,
        auc_digits: int,
        item_column: str,
        weight_column: str | None,
        bounds: tuple[str, str],
        items: str,
        fewest_items: int,
        subject: str,
        suffix: str,
    ):
        self.higher_is_better = higher_is_better
        self.is_binary = is_binary
        self.scale = scale
        self.tolerance = tolerance
        self.rounding = ROUNDING * scale
        self.unit = unit
        self.change_unit = change_unit
        self.digits = digits
        self.auc_digits = auc_digits
        self.item_column = item_column
        self.weight_column = weight_column
        self.bounds = bounds
        self.items = items
        self.fewest_items = fewest_items
        self.subject = subject
        self.suffix = suffix

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return get_metric, (str(self),)

    @property
    def direction(self) -> Direction:
        """Which values are better, as `percent_within` takes it: "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def too_few(self) -> str:
        """Why an interval is not shown: "not shown: fewer than 10 texts"."""
        return f"not shown: fewer than {self.fewest_items} {self.items}"

    @property
    def axis_title(self) -> str:
        """The title of an axis: "accuracy, %" or "loss, nats per token"."""
        return f"{self}, {self.unit}"

    @property
    def heading(self) -> str:
        """The heading of a table's column: "accuracy, %" or "loss, nats/token"."""
        return self.axis_title.replace(" per ", "/")

    def upward(self, values: T) -> T:
        """Return values or changes turned so that higher is better: losses are negated.

        Args:
            values: numbers in the metric's unit.
        """
        return values if self.higher_is_better else -values

    def within_column(self, within: float | None = None) -> str:
        """Return the column with the percent of heads that can be zeroed: ``percent_within_1pt``.

        Args:
            within: the tolerance, in points or nats; by default the metric's own.

        Returns:
            The name of the column.
        """
        amount = self.tolerance if within is None else within
        return f"percent_within_{amount:g}{self.suffix}"

    def within_of(self, column: str) -> float:
        """Return the tolerance that a column is for.

        Args:
            column: a name from `within_column`.
        """
        return float(column.removeprefix("percent_within_").removesuffix(self.suffix))

    def amount(self, within: float) -> str:
        """Return a tolerance in words: "1 point", "2 points" or "0.05 nats".

        Args:
            within: the tolerance, in points or nats.

        Returns:
            The tolerance with its unit.
        """
        if self.change_unit == "points":
            return f"{within:g} point" if within == 1 else f"{within:g} points"
        return f"{within:g} nats"

    def written(self, value: float) -> str:
        """Return a value as text, without the unit of a loss: "61.2%" or "2.345".

        Args:
            value: a value in the metric's unit.
        """
        return f"{value:.{self.digits}f}" + ("%" if self.unit == "%" else "")

    def with_unit(self, value: float) -> str:
        """Return a value as text with its unit: "61.2%" or "2.345 nats per token".

        Args:
            value: a value in the metric's unit.
        """
        return self.written(value) if self.unit == "%" else f"{self.written(value)} {self.unit}"

    def signed(self, change: float) -> str:
        """Return a change as text to follow a value: "-2.3 points" or "+0.064".

        Args:
            change: a difference of two values.

        Returns:
            The change with its sign, rounded to the metric's decimals.
        """
        points = " points" if self.change_unit == "points" else ""
        return f"{change:+.{self.digits}f}{points}"


ACCURACY = Metric(
    "accuracy",
    higher_is_better=True,
    is_binary=True,
    scale=100.0,
    tolerance=1.0,
    unit="%",
    change_unit="points",
    digits=1,
    auc_digits=2,
    item_column="correct",
    weight_column=None,
    bounds=("ci_low", "ci_high"),
    items="questions",
    fewest_items=FEWEST_ANSWERS,
    subject="accuracy",
    suffix="pt",
)
"""Right answers, in % of the questions."""

LOSS = Metric(
    "loss",
    higher_is_better=False,
    is_binary=False,
    scale=1.0,
    tolerance=0.05,
    unit="nats per token",
    change_unit="nats per token",
    digits=3,
    auc_digits=3,
    item_column="loss",
    weight_column="n_tokens",
    bounds=("loss_low", "loss_high"),
    items="texts",
    fewest_items=FEWEST_VALUES,
    subject="the loss",
    suffix="_nats",
)
"""Next-token loss, in nats per token."""

METRICS: tuple[Metric, ...] = (ACCURACY, LOSS)
"""All metrics."""
TOLERANCE: dict[Metric, float] = {metric: metric.tolerance for metric in METRICS}
"""Metric → its default tolerance."""

Tolerances: TypeAlias = Mapping[Metric | MetricName, float]
"""How much worse each metric may get; metrics that are left out have their own tolerance."""


def get_metric(name: str) -> Metric:
    """Return the metric of a given name.

    Args:
        name: "accuracy" or "loss"; a `Metric` is returned unchanged.

    Returns:
        The metric.

    Raises:
        UserError: there is no such metric.
    """
    for metric in METRICS:
        if metric == name:
            return metric
    raise UserError(f"metric must be accuracy or loss, not {name!r}")
