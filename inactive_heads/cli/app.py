"""The `inactive-heads` command line: the application, and the short ones of its commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.evaluate import evaluate
from inactive_heads.cli.report import report
from inactive_heads.cli.terminal import write_anywhere

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
    arguments: Annotated[list[str] | None, typer.Argument(help="What lm-eval takes.")] = None,
) -> None:
    """Run lm-evaluation-harness's own command line, which then knows --model inactive-heads.

    Example: inactive-heads lm-eval run --model inactive-heads --tasks piqa
    --model_args 'pretrained=gpt2,score=AHON (LN),threshold=0.457'
    """
    from inactive_heads.tasks.lm_eval import check_installed

    check_installed()
    from inactive_heads.evaluation.lm_eval_command import run

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

    # Files and pipes have no width to fit into.
    width = None if sys.stdout.isatty() else 170
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
