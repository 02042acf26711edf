"""The command `inactive-heads report`, also run as `python -m inactive_heads.report`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

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
from inactive_heads.cli.terminal import write_anywhere
from inactive_heads.errors import UserError
from inactive_heads.specs import ExecutionSpec, ModelSpec, TaskSpec, TextsSpec


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
        str,
        typer.Option(
            help="What ablations are judged by: quiz, mmlu, text-loss, lm-eval:TASK; with commas."
        ),
    ] = "quiz,text-loss",
    asked: TaskSpec,
    score: Annotated[
        str | None,
        typer.Option(
            help="Scores to ablate by, with commas; 'all' for the fifteen and Random, which is what "
            "text-loss has anyway."
        ),
    ] = None,
    score_file: ScoreFile = None,
    # REPORT_PERCENTS of `analysis`, which is not imported here so that --help stays fast.
    percents: Annotated[
        str, typer.Option(help="Shares of heads to zero, in percent.")
    ] = "0,5,10,15,20,30",
    at: Annotated[float, typer.Option(help="The share that the table and the marks show.")] = 10,
    mode: Annotated[str, typer.Option(help="per-input (the paper's) or fixed.")] = "per-input",
    model: ModelSpec,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="A branch, tag or commit, or a folder in MODEL's; several are compared as checkpoints."
        ),
    ] = None,
    execution: ExecutionSpec,
    seed: Seed = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")
    ] = False,
    show_prompt: ShowPrompt = False,
    curves: Annotated[
        list[str] | None,
        typer.Option(
            help="Saved curves: ours, or any with model, score, percent_zeroed, accuracy."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="Saved scores: a scores.nc; once for each model.")
    ] = None,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(help="Saved thresholds: a .csv of task, model, score, percent, threshold."),
    ] = None,
    within: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost (1 if not given).")
    ] = None,
    within_nats: Annotated[
        float | None, typer.Option(help="Nats of loss that may be gained (0.05 if not given).")
    ] = None,
) -> None:
    """Score every head, zero the inactive ones, and write a report with figures.

    Writes DIR/report.html (one file, opens offline) and beside it scores.nc, curves.csv,
    summary.csv, thresholds.csv, config.json and heads.json (the inactive heads, for Fixed.load).
    Every finished piece of work is kept in DIR: the same command goes on where it was stopped.

    With --curves, --scores or --thresholds it draws saved results, and needs no model.

    Examples: inactive-heads report; inactive-heads report gpt2 --task mmlu --limit 500;
    inactive-heads report my-model/ --texts my.jsonl --score "AHON (LN),Random";
    inactive-heads report base/ instruct/; inactive-heads report pythia-70m --revision step1000
    --revision step143000;
    inactive-heads report --curves a/curves.csv --curves b/curves.csv
    """
    # Imported here, so that --help does not load torch.
    if curves or scores or thresholds:
        from inactive_heads.report.from_files import SavedOptions, build_saved_report

        if models:
            raise UserError(f"saved results are drawn without a model; leave out {models[0]!r}")
        saved = SavedOptions(
            curves=curves or [],
            scores=scores or [],
            thresholds=thresholds or [],
            out=out,
            percents=numbers(percents, "--percents"),
            at=at,
            within=tolerances_of(within, within_nats),
        )
        print(f"The report is at {build_saved_report(saved).resolve()}")
        return
    from inactive_heads.analysis.curves.table import RANDOM
    from inactive_heads.cli.summary_table import summary_table
    from inactive_heads.report.build import build_reports
    from inactive_heads.report.options import ReportOptions, compared
    from inactive_heads.report.prepare import plan_report, prepare_report
    from inactive_heads.scores.paper import PAPER_SCORES
    from inactive_heads.scores.user_file import load_score_file

    own = [] if score_file is None else load_score_file(score_file)
    options = ReportOptions(
        model=model,
        out=out,
        texts=texts,
        tasks=[replace(asked, name=name, seed=seed) for name in listed(task) or ()],
        scores=(*PAPER_SCORES, RANDOM) if score == "all" else listed(score),
        own_scores=own,
        percents=numbers(percents, "--percents"),
        at=at,
        within=tolerances_of(within, within_nats),
        mode=mode,
        execution=execution,
        seed=seed,
    )
    several = compared(options, models or [None], revision or [None])
    if show_prompt:
        for prepared in map(prepare_report, several):
            for one in prepared.job.tasks.values():
                print(one.task.first_prompt(prepared.job.model), end="\n\n")
        return
    if dry_run:
        print("\n".join(map(plan_report, several)))
        return
    path, summary = build_reports(several, out, announce=_announce)
    console = Console()
    console.print(summary_table(summary, at))
    console.print(f"The report is at {path.resolve()}", soft_wrap=True)


def run_report() -> None:
    """Run `python -m inactive_heads.report`, the report command alone."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(report)
    write_anywhere()
    alone(prog_name="python -m inactive_heads.report")


def _announce(text: str) -> None:
    print(text, file=sys.stderr)
