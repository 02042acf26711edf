"""What a report can be asked for: its options, checked, and the same of several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from inactive_heads.analysis.curves.metrics import Tolerances
from inactive_heads.analysis.heads.thresholds import REPORT_PERCENTS, check_percents
from inactive_heads.errors import UserError
from inactive_heads.files import file_name
from inactive_heads.models.batching import check_batch_size
from inactive_heads.sweeps.grid import Mode, split_random


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
    own_scores: Sequence[str] = ()  # of the user's files: swept, drawn, and compared as challengers
    percents: Sequence[float] = REPORT_PERCENTS
    at: float = 10.0
    within: Tolerances = field(default_factory=dict)
    mode: str = "per-input"
    engine: str = "flash"
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | None = None
    revision: str | None = None
    called: str | None = None  # what a page calls the model, and …
    checkpoint: str | None = None  # … which checkpoint of it, where its folder is one of several
    tokenizer: str | None = None
    bos: str = "auto"
    chat_template: str = "auto"
    trust_remote_code: bool = False
    batch_size: int | str = "auto"
    executor: str = "local"
    workers: int | None = None
    ray_address: str | None = None
    gpus_per_worker: float | None = None
    shard_tokens: int | None = None
    seed: int = 0


def compared(
    asked: ReportOptions, models: Sequence[str | None], revisions: Sequence[str | None]
) -> list[ReportOptions]:
    """The same asked of every model and revision, each in a folder of its own if several."""
    pairs = [(model, revision) for model in models for revision in revisions]
    if len(pairs) == 1:
        return [_one(asked, *pairs[0])]
    names = ["@".join(filter(None, pair)) or "bundled" for pair in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]!r} was given twice; compare a model with others")
    return [
        replace(_one(asked, *pair), out=str(Path(asked.out) / file_name(name)))
        for pair, name in zip(pairs, names, strict=True)
    ]


def _one(asked: ReportOptions, model: str | None, revision: str | None) -> ReportOptions:
    """The same asked of a model: of a checkpoint, where a folder of that name is in its own."""
    if model is not None and revision is not None and (Path(model) / revision).is_dir():
        inside, name = str(Path(model) / revision), Path(model).resolve().name
        return replace(asked, model=inside, called=name, checkpoint=revision)
    return replace(asked, model=model, revision=revision)


def check_options(options: ReportOptions) -> None:
    """Raises a UserError for what is wrong and shows without a model."""
    if not options.tasks:
        raise UserError("no task was asked for; there are: mmlu, quiz, text-loss, lm-eval:TASK")
    if options.mode not in get_args(Mode):
        raise UserError(f"mode must be per-input or fixed, not {options.mode!r}")
    split_random(options.scores)
    percents_of(options)
    check_batch_size(options.batch_size)


def percents_of(options: ReportOptions) -> list[float]:
    """The shares to zero: none, those asked for, and the one that is marked."""
    return check_percents({0.0, options.at, *check_percents(options.percents)})
