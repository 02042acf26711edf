"""The options of commands: those made from the fields of specs, and others that commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from types import UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

import typer

from inactive_heads.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


def specs_as_options(**left_out: Collection[str]) -> Callable[[Callable[P, T]], Callable[..., T]]:
    """A decorator that replaces a command's spec parameters by options for their fields.

        @app.command()
        @specs_as_options(model=["revision"])
        def evaluate(model: ModelSpec, seed: int = 0): ...

    Typer reads a command's signature, so every option would have to be listed there, and again in
    the call that makes the spec. Instead, each field of a spec that has a help text becomes an
    option with the field's name, type, default and help. The command receives the spec.

    Args:
        left_out: by parameter, the fields that are not options of this command.

    Returns:
        The decorator.
    """

    def decorate(command: Callable[P, T]) -> Callable[..., T]:
        hints = get_type_hints(command, include_extras=True)
        options: list[inspect.Parameter] = []
        specs: dict[str, Any] = {}
        for name, parameter in inspect.signature(command).parameters.items():
            if not is_dataclass(hints[name]):
                options.append(parameter.replace(annotation=hints[name]))
                continue
            specs[name] = (
                hints[name],
                [
                    one
                    for one in fields(hints[name])
                    if "help" in one.metadata and one.name not in left_out.get(name, ())
                ],
            )
            types = get_type_hints(hints[name])
            options += [_option(one, types[one.name]) for one in specs[name][1]]

        @wraps(command)
        def wrapped(**given: Any) -> T:
            made = {
                name: spec(**{one.name: _read(one.name, given.pop(one.name)) for one in chosen})
                for name, (spec, chosen) in specs.items()
            }
            return command(**given, **made)  # type: ignore[call-arg]

        # Typer puts arguments before options, whatever their order here.
        wrapped.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {one.name: one.annotation for one in options}
        return wrapped

    return decorate


def _option(one: Field[Any], hint: Any) -> inspect.Parameter:
    """A field as the parameter that Typer makes an option of."""
    said = one.metadata
    shown = (
        typer.Argument(help=said["help"], show_default=False)
        if said["positional"]
        else typer.Option(said["flag"] or f"--{one.name.replace('_', '-')}", help=said["help"])
    )
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=one.default,
        annotation=Annotated[_written(one.name, hint), shown],
    )


def _written(name: str, hint: Any) -> Any:
    """The type by which Typer parses an option."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    plain = str if name in READ else next(kind for kind in (str, bool, int, float) if kind in kinds)
    return plain | None if type(None) in kinds else plain


def _read(name: str, value: Any) -> Any:
    return READ[name](value) if name in READ else value


def help_of(spec: type, name: str) -> str:
    """The help of a spec's field, for an option that a command defines itself.

    Args:
        spec: the spec's class.
        name: the field's name.

    Returns:
        The text that ``--help`` shows.
    """
    return next(str(one.metadata["help"]) for one in fields(spec) if one.name == name)


def listed(value: str | None) -> list[str] | None:
    """The parts of a list separated by commas.

    Args:
        value: such as ``"AHON (LN),AWFT"``; None if the option was not given.

    Returns:
        The parts, stripped of white space, without empty ones; None if the option was not given.
    """
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


def numbers(value: str, option: str) -> list[float]:
    """The numbers of a list separated by commas.

    Args:
        value: such as ``"0,10,20"``.
        option: the option's name, used in the error message.

    Returns:
        The numbers, in the order given.

    Raises:
        UserError: a part is not a number.
    """
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise UserError(f"{option} takes numbers separated by commas, not {value!r}") from None


def tolerances_of(points: float | None, nats: float | None) -> dict[Any, float]:
    """How much worse each metric may get and still count as unharmed.

    Args:
        points: points of accuracy; None if not given.
        nats: nats of loss per token; None if not given.

    Returns:
        The given tolerances by metric.
    """
    given = {"accuracy": points, "loss": nats}
    return {metric: value for metric, value in given.items() if value is not None}


def batch_size_of(value: str) -> int | str:
    """A batch size as a number, if it is one.

    Args:
        value: digits, or a word such as "auto".

    Returns:
        The number, or the word unchanged.
    """
    return int(value) if value.isdigit() else value


READ = {"subjects": listed, "batch_size": batch_size_of}
"""Functions that parse the text of an option, by the name of the spec's field."""

Seed = Annotated[
    int, typer.Option(help="The seed of the choice of texts and questions, and of Random.")
]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Print the first prompt as the model reads it, and stop."),
]
Compare = Annotated[
    bool,
    typer.Option(
        help="If heads are zeroed, evaluate the model with every head, too, and print the change."
    ),
]
ScoreFile = Annotated[
    str | None,
    typer.Option(
        help="A Python file that registers scores of your own with @score_function. It is run."
    ),
]
