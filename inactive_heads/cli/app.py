"""The command line: `inactive-heads report`, `inactive-heads evaluate` and the others."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.options import (
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
    ScoreFile,
    Scoring,
    Seed,
    Shots,
    ShowPrompt,
    Subjects,
    Tokenizer,
    TrustRemoteCode,
    batch_size_of,
    listed,
)
from inactive_heads.cli.report import report

app = typer.Typer(
    help="Which attention heads of a language model do nothing, and how do you know?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(report)


@app.command()
@one_line_errors
def evaluate(
    model: ModelArgument = None,
    task: Annotated[str, typer.Option(help="mmlu, quiz, text-loss or lm-eval:TASK.")] = "quiz",
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
    from inactive_heads.ablation.choose_ablation import asked_ablation
    from inactive_heads.tasks.question_tokens import shown_prompt

    if score_file is not None:
        from inactive_heads.scores.user_file import load_score_file

        load_score_file(score_file)
    ablation = asked_ablation(score, threshold, heads, random, seed)
    asked = load_task(
        task,
        data=data,
        shots=num_fewshot,
        limit=limit,
        subjects=listed(subjects),
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
    found = run(loaded, asked, ablation, batch_size=batch_size_of(batch_size)).summary()
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
    from inactive_heads.tasks.lm_eval import check_installed

    check_installed()
    from inactive_heads.evaluation.lm_eval_model import run

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
    from inactive_heads.cli.preset_table import find_presets, preset_table

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
    from inactive_heads.scores.user_file import load_score_file

    names = load_score_file(file)
    found = [check(name) for name in names if name.removesuffix(" (LN)") not in {*names} - {name}]
    print("\n\n".join(map(str, found)))
    if not all(one.passed for one in found):
        raise typer.Exit(1)


def main() -> None:
    """The `inactive-heads` command."""
    app()
