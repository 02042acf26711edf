"""The `inactive-heads` command line: the application, and the short ones of its commands."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from inactive_heads.checks import check_lm_eval
from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.evaluate import evaluate
from inactive_heads.cli.options import specs_as_options
from inactive_heads.cli.report import report
from inactive_heads.cli.terminal import say, say_loading, write_anywhere
from inactive_heads.errors import UserError
from inactive_heads.files import existing_file
from inactive_heads.models.weights.source import check_source
from inactive_heads.specs import ModelSpec

app = typer.Typer(
    help="Which attention heads of a language model do nothing, and how do you know?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(report)
app.command()(evaluate)


@app.command(
    "lm-eval",
    # All options, --help included, are passed to the harness.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@one_line_errors
def lm_eval(
    arguments: Annotated[list[str] | None, typer.Argument(help="The arguments of lm-eval.")] = None,
) -> None:
    """Run the command line of lm-evaluation-harness, with --model inactive-heads available.

    Example: inactive-heads lm-eval run --model inactive-heads --tasks piqa
    --model_args 'pretrained=gpt2,score=AHON (LN),threshold=0.457'
    """
    check_lm_eval()
    from inactive_heads.evaluation.lm_eval_command import run

    run(arguments or ())


@app.command()
@one_line_errors
@specs_as_options(model=["source"])
def models(
    *,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Preset files (.toml) of your own. Default: the presets of the package. With --check, "
            "the model, given as for other commands.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Load a model and report what works with it."),
    ] = False,
    model: ModelSpec,
) -> None:
    """List the presets: sizes, dtype, chat template, and the memory and hardware each needs.

    Other models are given by hub name, folder or file.

    With --check, one model is loaded with the options given, and everything is tried on a few
    tokens: which engine can show its heads (and why the other cannot), layers, heads, scores,
    zeroing, shared prefixes, generation and tokenizer. The exit status is 0 if its heads can be
    scored.

    Examples: inactive-heads models; inactive-heads models --check my-model/;
    inactive-heads models --check architecture.toml --dtype bfloat16
    """
    # Files and pipes have no width to fit into.
    width = None if sys.stdout.isatty() else 170
    if check:
        if given and len(given) > 1:
            raise UserError(f"--check takes one model, not {len(given)}: {', '.join(given)}")
        asked = replace(model, source=given[0] if given else None)
        asked.check()
        check_source(asked.source)
        say_loading([asked.source])
        from inactive_heads.cli.model_check import check_model, check_table

        found = check_model(asked)
        Console(width=width).print(check_table(found))
        return
    if model != ModelSpec():
        raise UserError("options of a model need --check: without it, presets are listed")
    from inactive_heads.cli.preset_table import find_presets, preset_table

    Console(width=width).print(preset_table(find_presets(given or ())))


@app.command()
@one_line_errors
def check_score(
    file: Annotated[str, typer.Argument(help="A Python file that registers scores. It is run.")],
) -> None:
    """Check that scores of your own keep the contract, in seconds, without a model.

    Prints what is wrong, and exits with status 1 if anything is. Layer-normalized forms are not
    checked separately.

    Example: inactive-heads check-score my_scores.py
    """
    say(f"Checking {existing_file(file, 'scores')} …")
    from inactive_heads.scores.check.check_score import check_score as check
    from inactive_heads.scores.user_file import load_score_file

    names = load_score_file(file)
    found = [check(name) for name in names if name.removesuffix(" (LN)") not in {*names} - {name}]
    print("\n\n".join(map(str, found)))
    if not all(one.passed for one in found):
        raise typer.Exit(1)


def main() -> None:
    """Run the `inactive-heads` command."""
    write_anywhere()
    app()
