"""The command `inactive-heads report`, also run as `python -m inactive_heads.report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from inactive_heads.checks import check_percents
from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.options import (
    ScoreFile,
    Seed,
    ShowPrompt,
    help_of,
    listed,
    numbers,
    specs_as_options,
    tolerances_of,
)
from inactive_heads.cli.terminal import say, say_loading, write_anywhere
from inactive_heads.errors import UserError
from inactive_heads.files import existing_file, writable_folder
from inactive_heads.names import REPORT_PERCENTS
from inactive_heads.report.options import DEFAULT_TASKS, ReportOptions, all_scores, compared
from inactive_heads.specs import ExecutionSpec, ModelSpec, TaskSpec, TextsSpec

TASKS, PERCENTS = ",".join(task.name for task in DEFAULT_TASKS), ",".join(map(str, REPORT_PERCENTS))
"""The tasks and shares of a report that is not quick, as text. Its scores depend on the task."""

QUICK = {"task": "text-loss", "score": "RON,AHON (LN),AWFT,Random", "percents": "10,20,30"}
"""What --quick stands for."""


@one_line_errors
@specs_as_options(asked=["name"], model=["source", "revision"])
def report(
    *,
    models: Annotated[
        list[str] | None, typer.Argument(help=help_of(ModelSpec, "source"), show_default=False)
    ] = None,
    out: Annotated[str, typer.Option("--out", "--output", help="The folder to write.")] = "report",
    texts: TextsSpec,
    task: Annotated[
        str | None,
        typer.Option(
            help="The tasks that measure the damage, separated by commas: quiz, mmlu, text-loss, "
            "lm-eval:TASK.",
            show_default=TASKS,
        ),
    ] = None,
    asked: TaskSpec,
    score: Annotated[
        str | None,
        typer.Option(
            help="The scores that choose the heads, separated by commas. all: the paper's fifteen, RON "
            "and Random (and ROD with --replacement mean), which is the default for text-loss."
        ),
    ] = None,
    score_file: ScoreFile = None,
    percents: Annotated[
        str | None,
        typer.Option(
            help="The percentages of heads to zero, separated by commas.", show_default=PERCENTS
        ),
    ] = None,
    at: Annotated[
        float, typer.Option(help="The percentage that tables and marks show first.")
    ] = 10,
    mode: Annotated[
        str,
        typer.Option(
            help="Which heads are zeroed: per-input chooses them for each input, as in the paper; fixed "
            "chooses one set for all."
        ),
    ] = "per-input",
    replacement: Annotated[
        str,
        typer.Option(
            help="What replaces the output of a head: zero, or mean (its mean over texts that are not "
            "scored)."
        ),
    ] = "zero",
    model: ModelSpec,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="A branch, tag or commit, or a folder inside the model's; repeat the option to compare "
            "checkpoints."
        ),
    ] = None,
    execution: ExecutionSpec,
    seed: Seed = 0,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first look in about a minute. Unless given, the options are --task "
            f"{QUICK['task']} --score '{QUICK['score']}' --percents {QUICK['percents']}.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be done and how long it would take, and stop."
        ),
    ] = False,
    show_prompt: ShowPrompt = False,
    curves: Annotated[
        list[str] | None,
        typer.Option(
            help="Draw saved curves: a curves.csv, or any .csv with the columns model, score, "
            "percent_zeroed and accuracy."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(help="Draw saved scores: a scores.nc. Repeat for each model."),
    ] = None,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            help="Draw saved thresholds: a .csv with the columns task, model, score, percent and "
            "threshold."
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            help="The loss of accuracy, in points, that still counts as unharmed.", show_default="1"
        ),
    ] = None,
    within_nats: Annotated[
        float | None,
        typer.Option(
            help="The rise in loss, in nats per token, that still counts as unharmed.",
            show_default="0.05",
        ),
    ] = None,
) -> None:
    """Score every head, zero the inactive ones, and write a report with figures.

    The folder gets report.html (one file, opens offline), scores.nc, curves.csv, summary.csv,
    thresholds.csv, config.json and heads.json (the inactive heads, for Fixed.load). It also keeps
    all finished work: rerun the command to resume.

    With --curves, --scores or --thresholds, saved results are drawn, and no model is needed.

    Examples: inactive-heads report; inactive-heads report --quick; inactive-heads report gpt2 --task mmlu --limit 500;
    inactive-heads report my-model/ --texts my.jsonl --score "AHON (LN),Random";
    inactive-heads report base/ instruct/; inactive-heads report pythia-70m --revision step1000
    --revision step143000;
    inactive-heads report --curves a/curves.csv --curves b/curves.csv
    """
    if quick and score is None:
        score = QUICK["score"]
    task = (QUICK["task"] if quick else TASKS) if task is None else task
    percents = (QUICK["percents"] if quick else PERCENTS) if percents is None else percents
    shares, tolerances = numbers(percents, "--percents"), tolerances_of(within, within_nats)
    # Modules that import torch or pandas are imported below, after the options are checked.
    if files := [*(curves or ()), *(scores or ()), *(thresholds or ())]:
        if models:
            raise UserError(f"saved results are drawn without a model; leave out {models[0]!r}")
        check_percents({at, *check_percents(shares)})
        say(f"Reading {files[0] if len(files) == 1 else f'{len(files)} files'} …")
        from inactive_heads.report.from_files import SavedOptions, build_saved_report

        saved = SavedOptions(
            curves=curves or [],
            scores=scores or [],
            thresholds=thresholds or [],
            out=out,
            percents=shares,
            at=at,
            within=tolerances,
        )
        print(f"The report is at {build_saved_report(saved).resolve()}")
        return
    options = ReportOptions(
        model=model,
        out=out,
        texts=texts,
        tasks=[replace(asked, name=name, seed=seed) for name in listed(task) or ()],
        scores=all_scores(replacement) if score == "all" else listed(score),
        percents=shares,
        at=at,
        within=tolerances,
        mode=mode,
        replacement=replacement,
        execution=execution,
        seed=seed,
    )
    several = compared(options, models or [None], revision or [None])
    _check(several, score_file)
    if not (show_prompt or dry_run):
        writable_folder(out)
    say_loading([one.model.source for one in several])
    from inactive_heads.cli.summary_table import summary_table
    from inactive_heads.report.build import build_reports
    from inactive_heads.report.prepare import plan_report, prepare_report

    if score_file is not None:
        from inactive_heads.scores.user_file import load_score_file

        own = load_score_file(score_file)
        several = [replace(one, own_scores=own) for one in several]
    if show_prompt:
        for prepared in map(prepare_report, several):
            for one in prepared.job.tasks.values():
                print(one.task.first_prompt(prepared.job.model), end="\n\n")
        return
    if dry_run:
        print("\n".join(map(plan_report, several)))
        return
    path, summary = build_reports(several, out, announce=say)
    console = Console()
    console.print(summary_table(summary, at))
    console.print(f"The report is at {path.resolve()}", soft_wrap=True)


def run_report() -> None:
    """Run `python -m inactive_heads.report`, the report command alone."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(report)
    write_anywhere()
    alone(prog_name="python -m inactive_heads.report")


def _check(several: Sequence[ReportOptions], score_file: str | None) -> None:
    """Check all options; names of scores are not known before a file of scores has been run."""
    if score_file is not None:
        existing_file(score_file, "scores")
        several = [replace(one, scores=None) for one in several]
    for one in several:
        one.check()
