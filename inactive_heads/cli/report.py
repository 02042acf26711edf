"""The command that writes a report: `inactive-heads report`, or `python -m inactive_heads.report`.

What it does is in `inactive_heads.report.build`, which is imported once it is to be done.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.options import (
    MODEL_HELP,
    BatchSize,
    Bos,
    ChatTemplate,
    Data,
    Device,
    Dtype,
    Engine,
    Limit,
    Map,
    SavedCurves,
    SavedScores,
    SavedThresholds,
    ScoreFile,
    Scoring,
    Seed,
    Shots,
    ShowPrompt,
    Subjects,
    Tokenizer,
    TrustRemoteCode,
    Within,
    WithinNats,
    batch_size_of,
    listed,
    numbers,
    tolerances_of,
)
from inactive_heads.errors import UserError


@one_line_errors
def report(
    models: Annotated[list[str] | None, typer.Argument(help=MODEL_HELP, show_default=False)] = None,
    out: Annotated[str, typer.Option("--out", "--output", help="The folder to write.")] = "report",
    texts: Annotated[
        str,
        typer.Option(help="bundled, fineweb-edu, or a .txt, .jsonl or .parquet file, or a folder."),
    ] = "bundled",
    num_texts: Annotated[int | None, typer.Option(help="How many texts to score heads on.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cut texts to this many tokens.")] = None,
    task: Annotated[
        str,
        typer.Option(
            help="What ablations are judged by: quiz, mmlu, text-loss, lm-eval:TASK; with commas."
        ),
    ] = "quiz,text-loss",
    data: Data = None,
    num_fewshot: Shots = None,
    limit: Limit = None,
    subjects: Subjects = None,
    scoring: Scoring = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="Scores to ablate by, with commas; 'all' for the fifteen and Random, which is what "
            "text-loss has anyway."
        ),
    ] = None,
    score_file: ScoreFile = None,
    percents: Annotated[
        str, typer.Option(help="Shares of heads to zero, in percent.")
    ] = "0,5,10,15,20,30",
    at: Annotated[float, typer.Option(help="The share that the table and the marks show.")] = 10,
    mode: Annotated[str, typer.Option(help="per-input (the paper's) or fixed.")] = "per-input",
    engine: Engine = "flash",
    dtype: Dtype = "auto",
    device: Device = "auto",
    device_map: Map = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="A branch, tag or commit, or a folder in MODEL's; several are compared as checkpoints."
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    bos: Bos = "auto",
    chat_template: ChatTemplate = "auto",
    trust_remote_code: TrustRemoteCode = False,
    batch_size: BatchSize = "auto",
    executor: Annotated[
        str, typer.Option(help="Where the work is done: local (this machine) or ray.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Processes with the model: one per GPU if not given.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="The Ray cluster; one is started here if there is none.")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs of one Ray worker, 0.5 for two on a GPU.")
    ] = None,
    shard_tokens: Annotated[
        int | None, typer.Option(help="Tokens of one piece of work; minutes' worth if not given.")
    ] = None,
    seed: Seed = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")
    ] = False,
    show_prompt: ShowPrompt = False,
    curves: SavedCurves = None,
    scores: SavedScores = None,
    thresholds: SavedThresholds = None,
    within: Within = None,
    within_nats: WithinNats = None,
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
    # Imported here, where it is known what was asked for.
    if curves or scores or thresholds:
        from inactive_heads.report.from_files import SavedOptions, build_saved_report

        if models:
            raise UserError(f"saved results are drawn without a model; leave out {models[0]!r}")
        shares, tolerances = numbers(percents, "--percents"), tolerances_of(within, within_nats)
        saved = SavedOptions(
            curves or [], scores or [], thresholds or [], out, shares, at, tolerances
        )
        print(f"The report is at {build_saved_report(saved).resolve()}")
        return
    from inactive_heads.analysis.curves.table import RANDOM
    from inactive_heads.cli.summary_table import summary_table
    from inactive_heads.report.build import build_reports, plan_report, prepare_report
    from inactive_heads.report.options import ReportOptions, compared
    from inactive_heads.scores.paper import PAPER_SCORES
    from inactive_heads.scores.user_file import load_score_file
    from inactive_heads.tasks.question_tokens import shown_prompt

    own = [] if score_file is None else load_score_file(score_file)
    chosen = (*PAPER_SCORES, RANDOM) if score == "all" else listed(score)
    asked = ReportOptions(
        out=out,
        texts=texts,
        num_texts=num_texts,
        max_tokens=max_tokens,
        tasks=listed(task) or (),
        data=data,
        num_fewshot=num_fewshot,
        limit=limit,
        subjects=listed(subjects),
        scoring=scoring,
        scores=chosen,
        own_scores=own,
        percents=numbers(percents, "--percents"),
        at=at,
        within=tolerances_of(within, within_nats),
        mode=mode,
        engine=engine,
        dtype=dtype,
        device=device,
        device_map=device_map,
        tokenizer=tokenizer,
        bos=bos,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
        batch_size=batch_size_of(batch_size),
        executor=executor,
        workers=workers,
        ray_address=ray_address,
        gpus_per_worker=gpus_per_worker,
        shard_tokens=shard_tokens,
        seed=seed,
    )
    options = compared(asked, models or [None], revision or [None])
    if show_prompt:
        for job in (prepare_report(one).job for one in options):
            for prepared in job.tasks.values():
                print(shown_prompt(job.model, prepared.task), end="\n\n")
        return
    if dry_run:
        print("\n".join(plan_report(one) for one in options))
        return
    path, summary = build_reports(options, out, announce=_announce)
    console = Console()
    console.print(summary_table(summary, at))
    console.print(f"The report is at {path.resolve()}", soft_wrap=True)


def run_report() -> None:
    """`python -m inactive_heads.report`: the report command alone."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(report)
    alone(prog_name="python -m inactive_heads.report")


def _announce(text: str) -> None:
    print(text, file=sys.stderr)
