"""What a task measures: accuracy or loss."""

from __future__ import annotations

from typing import Literal

Metric = Literal["accuracy", "loss"]


Direction = Literal["higher", "lower"]


METRICS: tuple[Metric, ...] = ("accuracy", "loss")


TOLERANCE: dict[Metric, float] = {"accuracy": 1.0, "loss": 0.05}


_BETTER: dict[Metric, Direction] = {"accuracy": "higher", "loss": "lower"}


_UNIT: dict[Metric, str] = {"accuracy": "pt", "loss": "_nats"}
