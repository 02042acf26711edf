"""A report about one model's heads: scores, thresholds, ablations, and the page that shows them.

python -m inactive_heads.report gpt2 --out report
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import xarray as xr

from inactive_heads import page
from inactive_heads.ablation import Fixed
from inactive_heads.analysis import summarize
from inactive_heads.errors import UserError
from inactive_heads.models import Model, load_model
from inactive_heads.results import ModelResults
from inactive_heads.scores import PAPER_SCORES, REGISTRY
from inactive_heads.scoring import now, score_heads, versions
from inactive_heads.sweeps import (
    RANDOM,
    Mode,
    curves_of,
    split_random,
    sweep_points,
    writable_folder,
    write_whole,
)
from inactive_heads.tasks import Task, TextTask, load_task
from inactive_heads.texts import cut_at_random, cut_to, load_texts
from inactive_heads.thresholds import (
    check_percents,
    choose_thresholds,
    select_heads,
)

SWEPT_SCORES = ("AHON (LN)", "LTHON (LN)", "AHRN (LN)", "AVVN (LN)", "AEQD", "AWFT", RANDOM)
"""What a report ablates questions by unless told: one score of each kind, and the baseline.

Next-token loss, which is cheaper, is measured for all fifteen.
"""

DEFAULT_PERCENTS = (0, 5, 10, 15, 20, 30)


@dataclass(frozen=True)
class ReportOptions:
    """All that a report was asked for, by the names of its command line."""

    model: str | None = None
    out: str = "report"
    texts: str = "bundled"
    num_texts: int | None = None
    max_tokens: int | None = None
    tasks: Sequence[str] = ("quiz", "text-loss")
    data: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    subjects: Sequence[str] | None = None
    scoring: str | None = None
    scores: Sequence[str] | None = None
    percents: Sequence[float] = DEFAULT_PERCENTS
    at: float = 10.0
    mode: str = "per-input"
    engine: str = "flash"
    dtype: str = "auto"
    device: str = "auto"
    revision: str | None = None
    tokenizer: str | None = None
    bos: str = "auto"
    trust_remote_code: bool = False
    batch_size: int | str = "auto"
    seed: int = 0


SPANS = {"bundled": (64, 256), "fineweb-edu": (10, 3000)}
"""Between how many tokens texts are cut at random; a user's own are not."""

DEFAULT_TEXTS, DEFAULT_QUESTIONS = 10, 30
"""Sizes of a report's bundled data, such that it takes minutes on two cores."""


def build_report(options: ReportOptions) -> tuple[Path, pd.DataFrame]:
    """Score, ablate and write everything; the path of report.html and the summary table.

    What is cheap to check is checked before the model is loaded. ``curves.csv`` is brought up
    to date after every point, so that an interrupted report keeps what it had.

    Raises:
        UserError: whatever of the options, the model or the data is wrong.
    """
    if not options.tasks:
        raise UserError("no task was asked for; there are: mmlu, quiz, text-loss")
    if options.mode not in get_args(Mode):
        raise UserError(f"mode must be per-input or fixed, not {options.mode!r}")
    split_random(options.scores)
    percents = check_percents({0.0, options.at, *check_percents(options.percents)})
    folder = writable_folder(options.out)
    texts = _texts(options)
    questions = [_questions(options, name) for name in options.tasks if name != "text-loss"]
    model = load_model(
        options.model,
        engine=options.engine,
        dtype=options.dtype,
        device=options.device,
        revision=options.revision,
        tokenizer=options.tokenizer,
        bos=options.bos,
        trust_remote_code=options.trust_remote_code,
    )
    samples = _samples(options, model, texts)
    tasks: list[Task] = [*questions]
    if "text-loss" in options.tasks:
        tasks.append(TextTask("text-loss", samples, {"texts": options.texts}))
    scores = score_heads(model, samples, batch_size=options.batch_size)
    thresholds = choose_thresholds(scores, percents)
    scores.to_netcdf(folder / "scores.nc", engine="h5netcdf")

    curves = _sweep(options, model, tasks, percents, folder)
    summary = summarize(curves, thresholds, percent=options.at)
    config = _config(options, model, samples, tasks)
    write_whole(folder / "summary.csv", summary.to_csv(index=False))
    write_whole(folder / "config.json", json.dumps(config, indent=1, default=str) + "\n")
    _best_heads(options, scores, summary, model).save(folder / "heads.json")
    results = ModelResults(
        model.name,
        revision=str(model.provenance["revision"]),
        scores=scores,
        thresholds=thresholds,
        curves=curves,
        summary=summary,
        config={key: value for key, value in config.items() if key != "asked"},
    )
    html = page.render([results], percent=options.at)
    write_whole(folder / "report.html", html)
    return folder / "report.html", summary


def _texts(options: ReportOptions) -> list[str]:
    n = options.num_texts
    if n is None and options.texts == "bundled":
        n = DEFAULT_TEXTS
    return load_texts(options.texts, n=n, seed=options.seed)


def _samples(options: ReportOptions, model: Model, texts: list[str]) -> list[list[int]]:
    """The texts as tokens: cut at random as in the paper, or, a user's own, only when asked."""
    shortest, usual = SPANS.get(options.texts, (0, None))
    longest = usual if options.max_tokens is None else options.max_tokens
    if usual is None or longest is None:
        return cut_to(model, texts, longest)
    return cut_at_random(
        model, texts, shortest=min(shortest, longest), longest=longest, seed=options.seed
    )


def _questions(options: ReportOptions, name: str) -> Task:
    bundled_quiz = name == "quiz" and options.data is None
    return load_task(
        name,
        data=options.data,
        shots=options.num_fewshot,
        limit=DEFAULT_QUESTIONS if options.limit is None and bundled_quiz else options.limit,
        subjects=options.subjects,
        scoring=options.scoring,
        seed=options.seed,
    )


def _sweep(
    options: ReportOptions, model: Model, tasks: list[Task], percents: list[float], folder: Path
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for task in tasks:
        usual = None if isinstance(task, TextTask) else SWEPT_SCORES
        points = sweep_points(
            model,
            task,
            scores=options.scores or usual,
            percents=percents,
            mode=options.mode,
            seed=options.seed,
            batch_size=options.batch_size,
        )
        for row in points:
            rows.append(row)
            write_whole(folder / "curves.csv", curves_of(rows).to_csv(index=False))
    return curves_of(rows)


def _best_heads(
    options: ReportOptions, scores: xr.DataArray, summary: pd.DataFrame, model: Model
) -> Fixed:
    """The heads that the best-ranked score calls inactive, averaged over the texts."""
    judged = summary[summary["score"].isin(PAPER_SCORES)].sort_values("rank")
    by_loss = judged[judged["loss"].notna()]  # loss tells scores apart where few questions cannot
    ranked = by_loss if len(by_loss) else judged
    best = ranked["score"].iloc[0] if len(ranked) else "AHON (LN)"
    about = {"model": model.name, "score": best, "percent": options.at, "created": now()}
    return Fixed(select_heads(scores, best, options.at), about=about)


def _config(
    options: ReportOptions, model: Model, samples: list[list[int]], tasks: list[Task]
) -> dict[str, Any]:
    return {
        **model.provenance,
        "asked": asdict(options),
        "texts": options.texts,
        "n_texts": len(samples),
        "n_tokens": sum(map(len, samples)),
        "tasks": {task.name: {**task.about, "n": _size(task)} for task in tasks},
        "seed": options.seed,
        "versions": {name.removeprefix("version_"): value for name, value in versions().items()},
        "time": now(),
        "command": _command(),
        "definitions": {name: REGISTRY[name].definition for name in PAPER_SCORES},
    }


def _command() -> str:
    """The command line, as one would type it again."""
    program = Path(sys.argv[0]).name
    started = "python -m inactive_heads.report" if program == "report.py" else program
    return shlex.join([*started.split(), *sys.argv[1:]])


def _size(task: Task) -> int:
    return len(task.samples) if isinstance(task, TextTask) else len(task.items)


if __name__ == "__main__":
    from inactive_heads.cli import run_report

    run_report()
