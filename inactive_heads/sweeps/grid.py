"""What a sweep varies, and the units of work that this comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.analysis.curves.table import RANDOM
from inactive_heads.analysis.heads.thresholds import check_percents, choose_thresholds, select_heads
from inactive_heads.engines.base import ModelShape
from inactive_heads.errors import UserError
from inactive_heads.files import digest_of
from inactive_heads.models.model import Model
from inactive_heads.scores.fingerprint import fingerprint
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import Score, ScoreLike
from inactive_heads.sweeps.unit import SHARD_TOKENS, Unit

Mode = Literal["per-input", "fixed"]


@dataclass(frozen=True)
class Point:
    """One score and share: what is silenced, and the units that together judge it."""

    score: str
    percent: float
    threshold: float
    units: list[Unit]


@dataclass(frozen=True, eq=False)
class Grid:
    """What a sweep varies, and by what it chooses heads.

    Attributes:
        scores: the score functions.
        with_random: whether the baseline "Random" is swept too.
        percents: the percentages of heads to zero, each above 0.
        mode: "per-input" or "fixed".
        thresholds: ``(score, percent)``, chosen elsewhere; else from ``calibration``.
        calibration: ``(score, sample, layer, head)``; the task's own inputs' scores if None.
        seed: of Random.
        shard_tokens: tokens of one unit of work.
        replacement: put in the place of silenced heads; zero if None.
    """

    scores: list[Score]
    with_random: bool
    percents: list[float]
    mode: str
    thresholds: xr.DataArray | None
    calibration: xr.DataArray | None
    seed: int
    shard_tokens: int
    replacement: xr.DataArray | None = None

    @property
    def names(self) -> list[str]:
        """What is swept, in order."""
        return [*(score.name for score in self.scores), *([RANDOM] if self.with_random else [])]

    @property
    def n_points(self) -> int:
        """The baseline, and every score at every share."""
        return 1 + len(self.names) * len(self.percents)

    @property
    def settings(self) -> dict[str, Any]:
        """All of it that decides numbers, as JSON has it."""
        given = {"thresholds": self.thresholds, "calibration": self.calibration}
        return {
            "scores": {score.name: fingerprint(score) for score in self.scores},
            "random": self.with_random,
            "percents": self.percents,
            "mode": self.mode,
            "seed": self.seed,
            "shard_tokens": self.shard_tokens,
            "replacement": None if self.replacement is None else fingerprint(self.replacement),
            **{
                name: None if array is None else digest_of(array.to_dict(encoding=False)["data"])
                for name, array in given.items()
            },
        }

    def points(
        self,
        task: str,
        shards: Sequence[tuple[int, int]],
        own: xr.DataArray | None,
        shape: ModelShape,
    ) -> list[Point]:
        """Every score and share, with its units.

        Args:
            task: the name of the task that judges them.
            shards: its items, in stretches.
            own: scores of the task's own inputs, by which heads are chosen if by nothing else.
            shape: of the model.
        """
        by = own if self.calibration is None else self.calibration
        cuts = self.thresholds
        if cuts is None and by is not None and self.mode == "per-input":
            cuts = choose_thresholds(by, self.percents)
        found = []
        known = {score.name: score for score in self.scores}
        for name, percent in product(self.names, self.percents):
            threshold = float("nan")
            ablation: Ablation | None = None
            if self.mode == "fixed":
                # An empty set silences nothing: its point is the baseline.
                if heads := self._fixed_heads(name, percent, by, shape):
                    ablation = Fixed(heads, self.replacement)
            elif name == RANDOM:
                ablation = Random(percent / 100, self.seed, self.replacement)
            else:
                assert cuts is not None, "a sweep of scores has thresholds or scores"
                threshold = float(cuts.sel(score=name, percent=percent))
                ablation = PerInput(known[name], threshold, self.replacement)
            units = [Unit(task, shard, ablation) for shard in shards]
            found.append(Point(name, percent, threshold, units))
        return found

    def _fixed_heads(
        self, name: str, percent: float, by: xr.DataArray | None, shape: ModelShape
    ) -> tuple[tuple[int, int], ...]:
        if name == RANDOM:
            drawn = np.random.default_rng(self.seed).random((len(shape.layers), shape.n_heads))
            chosen = drawn < percent / 100
        else:
            assert by is not None, "a sweep of scores has scores"
            chosen = select_heads(by, name, percent).transpose("layer", "head").values
        return tuple((shape.layers[row], int(head)) for row, head in np.argwhere(chosen))


def make_grid(
    model: Model,
    *,
    scores: Iterable[ScoreLike] | None,
    percents: Sequence[float],
    mode: str,
    thresholds: xr.DataArray | None = None,
    calibration: xr.DataArray | None = None,
    replacement: xr.DataArray | None = None,
    shard_tokens: int | None = None,
    seed: int = 0,
) -> Grid:
    """The grid that `sweep` was asked for.

    Raises:
        UserError: an unknown score or mode, a share outside 0 to 100, or a score or share that
            ``thresholds`` or ``calibration`` lack.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode must be per-input or fixed, not {mode!r}")
    ranked, with_random = split_random(scores)
    shares = [share for share in check_percents(percents) if share > 0]
    for name, given in (("thresholds", thresholds), ("calibration", calibration)):
        missing = [] if given is None else [s.name for s in ranked if s.name not in given["score"]]
        if missing:
            raise UserError(f"the {name} given have no score {', '.join(missing)}")
    if thresholds is not None:
        if mode == "fixed":
            raise UserError("fixed sets are chosen by scores: give calibration, not thresholds")
        lacking = [share for share in shares if share not in thresholds["percent"]]
        if lacking:
            raise UserError(f"the thresholds given have no share {lacking[0]:g}%")
    if shard_tokens is not None and shard_tokens < 1:
        raise UserError(f"shard_tokens must be at least 1, not {shard_tokens}")
    usual = SHARD_TOKENS.get(model.engine.device.type, SHARD_TOKENS["cpu"])
    tokens = usual if shard_tokens is None else shard_tokens
    return Grid(
        ranked, with_random, shares, mode, thresholds, calibration, seed, tokens, replacement
    )


def split_random(scores: Iterable[ScoreLike] | None) -> tuple[list[Score], bool]:
    """The score functions among those asked for, and whether the baseline "Random" is too.

    Without any, the paper's fifteen and Random.
    """
    if scores is None:
        return get_scores(), True
    asked = list(scores)
    ranked = [score for score in asked if score != RANDOM]
    return (get_scores(ranked) if ranked or not asked else []), RANDOM in asked
