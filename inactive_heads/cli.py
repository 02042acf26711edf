"""The command line: `inactive-heads report`, `inactive-heads evaluate` and the others."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from inactive_heads.errors import Notice, UserError
from inactive_heads.options import (
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
    ModelArgument,
    Revision,
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
)

app = typer.Typer(
    help="Which attention heads of a language model do nothing, and how do you know?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

P = ParamSpec("P")
T = TypeVar("T")


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """The command, with a UserError as one line and status 2, and Ctrl-C as status 130."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        # Libraries' warnings are for developers; a reader of a command line has no use for them.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Notice)
        warnings.showwarning = _show_notice
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print(
                "stopped; what is finished is kept: the same command goes on from there",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None

    return wrapped


def _show_notice(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"note: {message}", file=sys.stderr)


def _announce(text: str) -> None:
    print(text, file=sys.stderr)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@app.command()
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
        str, typer.Option(help="What ablations are judged by: quiz, mmlu, text-loss, with commas.")
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
    summary.csv, config.json and heads.json (the inactive heads, for Fixed.load). Every finished
    piece of work is kept in DIR: the same command goes on where it was stopped.

    With --curves, --scores or --thresholds it draws saved results, and needs no model.

    Examples: inactive-heads report; inactive-heads report gpt2 --task mmlu --limit 500;
    inactive-heads report my-model/ --texts my.jsonl --score "AHON (LN),Random";
    inactive-heads report base/ instruct/; inactive-heads report pythia-70m --revision step1000
    --revision step143000;
    inactive-heads report --curves a/curves.csv --curves b/curves.csv
    """
    # Imported here: --help should not wait for torch.
    if curves or scores or thresholds:
        from inactive_heads.saved import SavedOptions, build_saved_report

        if models:
            raise UserError(f"saved results are drawn without a model; leave out {models[0]!r}")
        shares, tolerances = _numbers(percents, "--percents"), _within(within, within_nats)
        saved = SavedOptions(
            curves or [], scores or [], thresholds or [], out, shares, at, tolerances
        )
        print(f"The report is at {build_saved_report(saved).resolve()}")
        return
    from inactive_heads.asking import shown_prompt
    from inactive_heads.grids import RANDOM
    from inactive_heads.report import (
        ReportOptions,
        build_reports,
        compared,
        plan_report,
        prepare_report,
    )
    from inactive_heads.score_files import load_score_file
    from inactive_heads.scores import PAPER_SCORES
    from inactive_heads.tables import summary_table

    own = [] if score_file is None else load_score_file(score_file)
    chosen = (*PAPER_SCORES, RANDOM) if score == "all" else _list(score)
    asked = ReportOptions(
        out=out,
        texts=texts,
        num_texts=num_texts,
        max_tokens=max_tokens,
        tasks=_list(task) or (),
        data=data,
        num_fewshot=num_fewshot,
        limit=limit,
        subjects=_list(subjects),
        scoring=scoring,
        scores=chosen,
        own_scores=own,
        percents=_numbers(percents, "--percents"),
        at=at,
        within=_within(within, within_nats),
        mode=mode,
        engine=engine,
        dtype=dtype,
        device=device,
        device_map=device_map,
        tokenizer=tokenizer,
        bos=bos,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
        batch_size=_batch_size(batch_size),
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


@app.command()
@one_line_errors
def evaluate(
    model: ModelArgument = None,
    task: Annotated[str, typer.Option(help="mmlu, quiz or text-loss.")] = "quiz",
    data: Data = None,
    num_fewshot: Shots = None,
    limit: Limit = None,
    subjects: Subjects = None,
    scoring: Scoring = None,
    score: Annotated[
        str | None, typer.Option(help="Zero heads, for each input, by this score …")
    ] = None,
    score_file: ScoreFile = None,
    threshold: Annotated[float | None, typer.Option(help="… on the inactive side of this.")] = None,
    heads: Annotated[str | None, typer.Option(help="Zero the heads of this heads.json.")] = None,
    random: Annotated[float | None, typer.Option(help="Zero this % of heads at random.")] = None,
    engine: Engine = "flash",
    dtype: Dtype = "auto",
    device: Device = "auto",
    device_map: Map = None,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    bos: Bos = "auto",
    chat_template: ChatTemplate = "auto",
    trust_remote_code: TrustRemoteCode = False,
    batch_size: BatchSize = "auto",
    seed: Seed = 0,
    show_prompt: ShowPrompt = False,
) -> None:
    """Answer a task, with heads zeroed if asked, and print accuracy or loss.

    Example: inactive-heads evaluate --task mmlu --data mmlu/ --limit 100
    """
    from inactive_heads import evaluate as run
    from inactive_heads import load_model, load_task
    from inactive_heads.ablation import asked_ablation
    from inactive_heads.asking import shown_prompt

    if score_file is not None:
        from inactive_heads.score_files import load_score_file

        load_score_file(score_file)
    ablation = asked_ablation(score, threshold, heads, random, seed)
    asked = load_task(
        task,
        data=data,
        shots=num_fewshot,
        limit=limit,
        subjects=_list(subjects),
        scoring=scoring,
        seed=seed,
    )
    loaded = load_model(
        model,
        engine=engine,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        tokenizer=tokenizer,
        bos=bos,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
    )
    if show_prompt:
        print(shown_prompt(loaded, asked))
        return
    found = run(loaded, asked, ablation, batch_size=_batch_size(batch_size)).summary()
    about = {key: value for key, value in asked.about.items() if key not in ("subjects", "seed")}
    about["chat_template"] = "off" if loaded.chat is None else "on"
    print(f"{loaded.name}, {task}: " + ", ".join(f"{key} {value}" for key, value in about.items()))
    if "accuracy" in found:
        low, high = found["ci_low"], found["ci_high"]
        print(
            f"accuracy {found['accuracy']:.1f}% (95% interval {low:.1f} to {high:.1f}), {found['n']} questions"
        )
    else:
        low, high = found["loss_low"], found["loss_high"]
        print(
            f"loss {found['loss']:.4f} nats per token (95% interval {low:.4f} to {high:.4f}), {found['n']} texts"
        )
    print(f"heads zeroed: {found['percent_zeroed']:.2f}%")


@app.command(
    "lm-eval",
    # Every option is the harness's, --help too.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@one_line_errors
def lm_eval(
    arguments: Annotated[list[str] | None, typer.Argument(help="What lm-eval takes.")] = None,
) -> None:
    """Run lm-evaluation-harness's own command line, which then knows --model inactive-heads.

    Example: inactive-heads lm-eval run --model inactive-heads --tasks piqa
    --model_args 'pretrained=gpt2,score=AHON (LN),threshold=0.457'
    """
    from inactive_heads.harness_tasks import check_installed

    check_installed()
    from inactive_heads.harness import run

    run(arguments or ())


@app.command()
@one_line_errors
def models(
    own: Annotated[
        list[str] | None,
        typer.Argument(help="Presets of your own (.toml files); else all that come along."),
    ] = None,
) -> None:
    """List the presets: sizes, dtype, chat template, and the memory and hardware each needs.

    Any other model is given by its hub name, folder or file.
    """
    from inactive_heads.catalogue import find_presets, preset_table

    # A file or a pipe has no width of its own to fit into.
    width = None if sys.stdout.isatty() else 150
    Console(width=width).print(preset_table(find_presets(own or ())))


@app.command()
@one_line_errors
def check_score(
    file: Annotated[str, typer.Argument(help="A Python file that registers scores: it is run.")],
) -> None:
    """Check that scores of your own keep the contract, in seconds, without a model.

    Says in words what is wrong, and exits with status 1 if anything is. Layer-normalized forms
    are not checked by themselves.

    Example: inactive-heads check-score my_scores.py
    """
    from inactive_heads import check_score as check
    from inactive_heads.score_files import load_score_file

    names = load_score_file(file)
    found = [check(name) for name in names if name.removesuffix(" (LN)") not in {*names} - {name}]
    print("\n\n".join(map(str, found)))
    if not all(one.passed for one in found):
        raise typer.Exit(1)


def run_report() -> None:
    """`python -m inactive_heads.report`: the report command alone."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(report)
    alone(prog_name="python -m inactive_heads.report")


def main() -> None:
    """The `inactive-heads` command."""
    app()


def _list(value: str | None) -> list[str] | None:
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


def _numbers(value: str, option: str) -> list[float]:
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise UserError(f"{option} takes numbers separated by commas, not {value!r}") from None


def _within(points: float | None, nats: float | None) -> dict[Any, float]:
    given = {"accuracy": points, "loss": nats}
    return {metric: value for metric, value in given.items() if value is not None}


def _batch_size(value: str) -> int | str:
    return int(value) if value.isdigit() else value


if __name__ == "__main__":
    main()
