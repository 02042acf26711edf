"""The grid of a sweep: scores × percents of heads, and the units of work at each point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, Fixed, PerInput, Random
from inactive_heads.ablation.placebo import Placebo
from inactive_heads.analysis.heads.arguments import (
    check_labelled,
    check_scores,
    check_thresholds,
)
from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.analysis.heads.thresholds import choose_thresholds, select_heads
from inactive_heads.checks import check_mode, check_percents, check_whole
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.errors import UserError, look_up, shortened
from inactive_heads.files import digest_of
from inactive_heads.models.model import Model
from inactive_heads.names import (
    HOW_TO_LIST,
    RANDOM,
    is_baseline,
    placebo_of,
    score_of_placebo,
)
from inactive_heads.scores.fingerprint import fingerprint
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import REGISTRY, Score, ScoreLike, get_score, listed_scores
from inactive_heads.sweeps.unit import SHARD_TOKENS, Unit


@dataclass(frozen=True)
class Point:
    """A point of the grid: one score at one percent of heads.

    Attributes:
        score: the score's name, or that of a baseline.
        percent: the percent of heads to zero.
        threshold: the score's threshold, in the score's unit; NaN for baselines and in fixed mode.
        units: the units of work that evaluate the point.
    """

    score: str
    percent: float
    threshold: float
    units: list[Unit]


@dataclass(frozen=True, eq=False)
class Grid:
    """What a sweep varies, and how it chooses the heads to silence.

    Attributes:
        scores: the score functions.
        with_random: whether the baseline "Random" is swept too.
        followed: the scores whose placebos are swept too.
        percents: the percents of heads to zero, ascending, each above 0.
        mode: "per-input" or "fixed".
        thresholds: ``(score, percent)``; None to choose them from ``calibration``.
        calibration: ``(score, sample, layer, head)``; None for the scores of the task's inputs.
        seed: the seed of baselines.
        shard_tokens: the most tokens per unit of work.
        replacement: ``(layer, head, d_head)``, replaces the output of silenced heads; None for
            zero.
    """

    scores: list[Score]
    with_random: bool
    followed: list[Score]
    percents: list[float]
    mode: str
    thresholds: xr.DataArray | None
    calibration: xr.DataArray | None
    seed: int
    shard_tokens: int
    replacement: xr.DataArray | None = None

    @property
    def names(self) -> list[str]:
        """The names of what is swept, in order; baselines come last."""
        return [
            *(score.name for score in self.scores),
            *([RANDOM] if self.with_random else []),
            *(placebo_of(score.name) for score in self.followed),
        ]

    @property
    def scored(self) -> list[Score]:
        """The scores that heads are chosen by: those swept, and those that placebos follow."""
        return list({score.name: score for score in (*self.scores, *self.followed)}.values())

    @property
    def n_points(self) -> int:
        """The number of points, counting the baseline once."""
        return 1 + len(self.names) * len(self.percents)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the results, in a form that JSON can represent."""
        given = {"thresholds": self.thresholds, "calibration": self.calibration}
        return {
            "scores": {score.name: fingerprint(score) for score in self.scores},
            "random": self.with_random,
            "placebos": {score.name: fingerprint(score) for score in self.followed},
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
        """The points of the grid, without the baseline.

        Args:
            task: the name of the task that evaluates them.
            shards: the task's items in ranges, from `shards_of`.
            own: ``(score, sample, layer, head)``, the scores of the task's inputs; used to choose
                heads if there are neither ``thresholds`` nor ``calibration``. None if only Random
                is swept.
            shape: the model's sizes.

        Returns:
            One point per score and percent. In fixed mode, the units of an empty head set are those
            of the baseline.

        Raises:
            UserError: a score has no finite value to choose heads by.
        """
        scores = own if self.calibration is None else self.calibration
        thresholds = self.thresholds
        if thresholds is None and scores is not None and self.mode == "per-input":
            thresholds = choose_thresholds(scores, self.percents)
        points = []
        functions = {score.name: score for score in self.scored}
        for name, percent in product(self.names, self.percents):
            followed = score_of_placebo(name)
            chooser, threshold = followed or name, float("nan")
            ablation: Ablation | None = None
            if self.mode == "fixed":
                # An empty set silences nothing, so its point is the baseline.
                if heads := self._fixed_heads(chooser, percent, scores, shape):
                    ablation = Fixed(heads, self.replacement)
            elif name == RANDOM:
                ablation = Random(percent / 100, self.seed, self.replacement)
            else:
                assert thresholds is not None, "a sweep of scores has thresholds or scores"
                threshold = float(thresholds.sel(score=chooser, percent=percent))
                ablation = PerInput(functions[chooser], threshold, self.replacement)
            if followed is not None:
                threshold = float("nan")
                ablation = None if ablation is None else Placebo(ablation, self.seed)
            units = [Unit(task, shard, ablation) for shard in shards]
            points.append(Point(name, percent, threshold, units))
        return points

    def _fixed_heads(
        self, name: str, percent: float, scores: xr.DataArray | None, shape: ModelShape
    ) -> tuple[tuple[int, int], ...]:
        if name == RANDOM:
            drawn = np.random.default_rng(self.seed).random((len(shape.layers), shape.n_heads))
            chosen = (drawn < percent / 100) & shape.exists
        else:
            assert scores is not None, "a sweep of scores has scores"
            chosen = select_heads(scores, name, percent).transpose("layer", "head").values
        return tuple((shape.layers[row], int(head)) for row, head in np.argwhere(chosen))


def make_grid(
    model: Model,
    *,
    scores: ScoreLike | Iterable[ScoreLike] | None,
    percents: float | Iterable[Any],
    mode: str,
    thresholds: xr.DataArray | None = None,
    calibration: xr.DataArray | None = None,
    replacement: xr.DataArray | None = None,
    shard_tokens: int | None = None,
    seed: int = 0,
) -> Grid:
    """The grid that the arguments of `sweep` describe, validated.

    Args:
        model: the model to sweep; its device decides the default of ``shard_tokens``.
        scores: names or functions, baselines among them; None for the paper's fifteen and Random.
        percents: the percents of heads to zero, 0 to 100.
        mode: "per-input" or "fixed".
        thresholds: ``(score, percent)``; None to choose them from scores.
        calibration: ``(score, sample, layer, head)``; None for the scores of the task's inputs.
        replacement: ``(layer, head, d_head)``; None for zero.
        shard_tokens: the most tokens per unit of work; None for a few minutes' worth.
        seed: the seed of baselines.

    Returns:
        The grid; 0% is left out of its percents, because it is the baseline.

    Raises:
        UserError: a score is unknown or given twice, no score or percent is given, the mode is
            unknown, a percent is given twice or outside 0 to 100, ``thresholds`` or ``calibration``
            lack a score or percent, ``thresholds`` are given in fixed mode, a fixed set would be
            chosen from the scores of a model with other heads, or ``shard_tokens`` is below 1.
    """
    check_mode(mode)
    ranked, with_random, followed = split_baselines(scores)
    above_zero = [percent for percent in check_percents(percents) if percent > 0]
    if thresholds is not None:
        check_thresholds(thresholds)
        check_labelled(thresholds, ("score", "percent"), "thresholds", "choose_thresholds")
    if calibration is not None:
        check_scores(calibration, ("score", "sample", "layer", "head"))
    for name, given in (("thresholds", thresholds), ("calibration", calibration)):
        asked = dict.fromkeys(score.name for score in (*ranked, *followed))
        missing = [] if given is None else [one for one in asked if one not in given["score"]]
        if missing:
            raise UserError(f"the {name} given have no score {', '.join(missing)}")
    if thresholds is not None:
        if mode == "fixed":
            raise UserError("fixed sets are chosen by scores: give calibration, not thresholds")
        lacking = [percent for percent in above_zero if percent not in thresholds["percent"]]
        if lacking:
            raise UserError(f"the thresholds given have none for {lacking[0]:g}% of heads")
    if calibration is not None and mode == "fixed":
        heads = {"layer": list(model.shape.layers), "head": list(range(model.shape.n_heads))}
        for dim, own in heads.items():
            if (theirs := calibration[dim].to_numpy().tolist()) != own:
                raise UserError(
                    f"the calibration has the {dim}s {shortened(theirs)}, the model "
                    f"{shortened(own)}; score this model's heads"
                )
        theirs = exists_at(calibration).sum(axis=1).tolist()
        if "n_heads" in calibration.coords and theirs != model.shape.exists.sum(axis=1).tolist():
            raise UserError(
                f"the calibration's layers have {shortened(theirs)} heads, the model's "
                f"{shortened([one.n_heads for one in model.shape.heads])}; score this model's heads"
            )
    check_whole("shard_tokens", shard_tokens, least=1)
    usual = SHARD_TOKENS.get(model.engine.device.type, SHARD_TOKENS["cpu"])
    tokens = usual if shard_tokens is None else shard_tokens
    return Grid(
        ranked,
        with_random,
        followed,
        above_zero,
        mode,
        thresholds,
        calibration,
        seed,
        tokens,
        replacement,
    )


def split_baselines(
    scores: ScoreLike | Iterable[ScoreLike] | None,
) -> tuple[list[Score], bool, list[Score]]:
    """The score functions, separated from the baselines.

    Args:
        scores: names or functions, "Random" and "Placebo of …" with a score's name among them, or a
            single one; None for the paper's fifteen and Random.

    Returns:
        The scores without baselines, whether Random is among them, and the scores whose placebos
        are.

    Raises:
        UserError: a score is unknown or given twice, or ``scores`` is empty.
    """
    if scores is None:
        return get_scores(), True, []
    asked = listed_scores(scores)
    baselines = [score for score in asked if isinstance(score, str) and is_baseline(score)]
    for name in baselines:
        if baselines.count(name) > 1:
            raise UserError(f"score {name!r} was asked for twice")
    others = [score for score in asked if not is_baseline(score)]
    for other in others:
        if isinstance(other, str):
            look_up(other, [*REGISTRY, RANDOM], "score", HOW_TO_LIST)
    ranked = get_scores(others) if others or not asked else []
    own = {score.name: score for score in ranked}
    followed = [name for name in map(score_of_placebo, baselines) if name is not None]
    for name in followed:
        look_up(name, [*REGISTRY, *own], "score for a placebo to follow", HOW_TO_LIST)
    placebos = [own[name] if name in own else get_score(name) for name in followed]
    return ranked, RANDOM in baselines, placebos
