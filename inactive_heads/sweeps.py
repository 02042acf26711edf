"""A grid of ablations: score × share of heads, each judged by the same task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.ablation import Ablation, Fixed, PerInput, Random
from inactive_heads.errors import UserError
from inactive_heads.evaluation import Evaluation, PreparedTask, run_task
from inactive_heads.models import Model, as_model
from inactive_heads.progress import progress_bar
from inactive_heads.scores import Score, ScoreLike, get_scores
from inactive_heads.scoring import ScoreVisitor
from inactive_heads.tasks import Task
from inactive_heads.thresholds import (
    PAPER_PERCENTS,
    check_percents,
    choose_thresholds,
    select_heads,
)

Mode = Literal["per-input", "fixed"]
RANDOM = "Random"
COLUMNS = (
    "model",
    "task",
    "score",
    "mode",
    "percent",
    "threshold",
    "percent_zeroed",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
    "loss",
    "loss_low",
    "loss_high",
    "change_low",
    "change_high",
)


def sweep(
    model: Any,
    task: Task,
    *,
    scores: Iterable[ScoreLike] | None = None,
    percents: Sequence[float] = PAPER_PERCENTS,
    mode: str = "per-input",
    thresholds: xr.DataArray | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """The task's accuracy (or loss) for every score and share of heads zeroed.

        curves = ih.sweep(model, ih.load_task("quiz"), scores=["AHON (LN)", "Random"])
        ih.rank_scores(curves)

    One pass without ablation gives the baseline and the scores of the task's own inputs, from
    which thresholds (or the fixed sets) are chosen unless ``thresholds`` are given.

    Args:
        model: what `load_model` gave, a TransformerBridge or a HookedTransformer.
        task: from `load_task`.
        scores: names or functions, "Random" among them; the paper's fifteen and Random if not
            given.
        percents: shares of heads to aim at; 0, the baseline, is always there.
        mode: "per-input" (the paper's) or "fixed" (one set for every input).
        thresholds: ``(score, percent)`` from `choose_thresholds`, chosen on other data.
        out: a folder; ``curves.csv`` in it is brought up to date after every point.
        seed: of Random.
        batch_size: inputs run together, or "auto".
        progress: whether to show a bar on a terminal.

    Returns:
        One row per score and share: model, task, score, mode, percent, threshold (NaN for
        Random and fixed sets), percent_zeroed, accuracy (in %) with ci_low and ci_high, n, loss
        (nats per token) with loss_low and loss_high, NaN in what the task does not measure; and
        change_low to change_high, the paired interval of the difference from the baseline.

    Raises:
        UserError: an unknown score or mode, a share outside 0 to 100, a folder that cannot be
            written.
    """
    folder = None if out is None else writable_folder(out)
    rows: list[dict[str, Any]] = []
    points = sweep_points(
        model,
        task,
        scores=scores,
        percents=percents,
        mode=mode,
        thresholds=thresholds,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    for row in points:
        rows.append(row)
        if folder is not None:
            write_whole(folder / "curves.csv", curves_of(rows).to_csv(index=False))
    return curves_of(rows)


def sweep_points(
    model: Any,
    task: Task,
    *,
    scores: Iterable[ScoreLike] | None = None,
    percents: Sequence[float] = PAPER_PERCENTS,
    mode: str = "per-input",
    thresholds: xr.DataArray | None = None,
    seed: int = 0,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Iterator[dict[str, Any]]:
    """The rows of `sweep`, each as soon as it is known."""
    if mode not in get_args(Mode):
        raise UserError(f"mode must be per-input or fixed, not {mode!r}")
    subject = as_model(model)
    ranked, with_random = split_random(scores)
    shares = [share for share in check_percents(percents) if share > 0]
    prepared = PreparedTask.of(subject, task)
    seen = ScoreVisitor(subject, ranked, len(prepared.inputs)) if ranked else None
    names = [*(score.name for score in ranked), *([RANDOM] if with_random else [])]
    work = (1 + len(names) * len(shares)) * prepared.n_tokens

    def row(name: str, percent: float, threshold: float, found: Evaluation) -> dict[str, Any]:
        point = (subject.name, task.name, name, mode, percent, threshold)
        _, low, high = found.change(baseline)
        change = {"change_low": low, "change_high": high}
        return dict(zip(COLUMNS, point, strict=False)) | found.summary() | change

    with progress_bar(f"{task.name}: baseline", work, show=progress) as advance:
        baseline = run_task(
            subject, prepared, None, advance=advance, looking=seen, batch_size=batch_size
        )
        for name in names:
            yield row(name, 0.0, float("nan"), baseline)
        own = seen.result([len(one.tokens) for one in prepared.inputs]) if seen else None
        if thresholds is None and own is not None:
            thresholds = choose_thresholds(own, shares)
        for name, share in product(names, shares):
            advance(0, f"{task.name}: {name} {share:g}%")
            threshold = float("nan")
            ablation: Ablation
            if name == RANDOM:
                ablation = _random(share, mode, subject, seed)
            elif mode == "fixed":
                assert own is not None
                ablation = Fixed(select_heads(own, name, share))
            else:
                assert thresholds is not None
                threshold = float(thresholds.sel(score=name, percent=share))
                score = next(score for score in ranked if score.name == name)
                ablation = PerInput(score, threshold)
            found = run_task(subject, prepared, ablation, advance=advance, batch_size=batch_size)
            yield row(name, share, threshold, found)


def split_random(scores: Iterable[ScoreLike] | None) -> tuple[list[Score], bool]:
    """The score functions among those asked for, and whether the baseline "Random" is too.

    Without any, the paper's fifteen and Random.
    """
    if scores is None:
        return get_scores(), True
    asked = list(scores)
    ranked = [score for score in asked if score != RANDOM]
    return (get_scores(ranked) if ranked or not asked else []), RANDOM in asked


def curves_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows of a sweep as the table of curves; NaN in what a task does not measure."""
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_whole(path: Path, content: str) -> None:
    """Write a file so that a reader, or a crash, finds the old content or all of the new."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(content, "utf-8")
    partial.replace(path)


def _random(share: float, mode: str, model: Model, seed: int) -> Ablation:
    if mode == "per-input":
        return Random(share / 100, seed=seed)
    layers, heads = list(model.shape.layers), model.shape.n_heads
    drawn = np.random.default_rng(seed).random((len(layers), heads)) < share / 100
    return Fixed(xr.DataArray(drawn, dims=("layer", "head"), coords={"layer": layers}))


def writable_folder(out: str | Path) -> Path:
    """The folder, made if it was not there.

    Raises:
        UserError: it is a file, or cannot be written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to the folder {str(out)!r}: {error.strerror}") from error
    return folder
