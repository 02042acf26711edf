"""The options that commands share: a type and what --help says, and what is read out of text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from inactive_heads.errors import UserError

MODEL_HELP = (
    "A hub name (gpt2), a local folder, a .gguf file, a preset, or a .toml file that describes an "
    "architecture; demo is the bundled SmolLM2-135M-Instruct, which is taken if none is given."
)

ModelArgument = Annotated[str | None, typer.Argument(help=MODEL_HELP, show_default=False)]
Data = Annotated[
    str | None,
    typer.Option(
        help="mmlu: a local copy of cais/mmlu; quiz: a .jsonl file of your own questions; lm-eval: a "
        "folder of task files."
    ),
]
Shots = Annotated[
    int | None,
    typer.Option("--num-fewshot", help="Answered examples in the prompt (mmlu 5, quiz 0)."),
]
Limit = Annotated[int | None, typer.Option(help="Questions to ask, spread over the subjects.")]
Subjects = Annotated[str | None, typer.Option(help="Only these subjects, separated by commas.")]
Scoring = Annotated[
    str | None,
    typer.Option(
        help="letter or cloze; letter for mmlu, cloze for quiz if not given. lm-eval: acc or acc_norm."
    ),
]
Engine = Annotated[
    str, typer.Option(help="How heads are read: flash (fast) or lens (TransformerLens hooks).")
]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Map = Annotated[
    str | None,
    typer.Option(help="auto spreads the model over all GPUs (Hugging Face's device_map)."),
]
Revision = Annotated[str | None, typer.Option(help="A branch, tag or commit of the hub's model.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="A folder or hub name, if not the model's own.")
]
Bos = Annotated[str, typer.Option(help="auto (the tokenizer's own rule), on or off.")]
ChatTemplate = Annotated[
    str,
    typer.Option(
        help="on writes prompts by the tokenizer's chat template, few-shot examples as turns; auto: "
        "as a preset says, else off."
    ),
]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Print the first prompt as the model reads it, and stop."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code of the model's repository.")
]
BatchSize = Annotated[str, typer.Option(help="Inputs run together, or auto.")]
Seed = Annotated[int, typer.Option(help="Of texts, questions and Random.")]

ScoreFile = Annotated[
    str | None,
    typer.Option(
        help="A Python file of your own that registers scores with @score_function: it is run."
    ),
]

SavedCurves = Annotated[
    list[str] | None,
    typer.Option(help="Saved curves: ours, or any with model, score, percent_zeroed, accuracy."),
]
SavedScores = Annotated[
    list[str] | None, typer.Option(help="Saved scores: a scores.nc; once for each model.")
]
SavedThresholds = Annotated[
    list[str] | None,
    typer.Option(help="Saved thresholds: a .csv of task, model, score, percent, threshold."),
]
Within = Annotated[
    float | None, typer.Option(help="Points of accuracy that may be lost (1 if not given).")
]
WithinNats = Annotated[
    float | None, typer.Option(help="Nats of loss that may be gained (0.05 if not given).")
]


def listed(value: str | None) -> list[str] | None:
    """The parts of a list with commas, or None where none was given."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


def numbers(value: str, option: str) -> list[float]:
    """The numbers of a list with commas; ``option`` is what an error calls it."""
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise UserError(f"{option} takes numbers separated by commas, not {value!r}") from None


def tolerances_of(points: float | None, nats: float | None) -> dict[Any, float]:
    """What may be lost of each metric for which it was given."""
    given = {"accuracy": points, "loss": nats}
    return {metric: value for metric, value in given.items() if value is not None}


def batch_size_of(value: str) -> int | str:
    """A number of inputs, or a word as it was given."""
    return int(value) if value.isdigit() else value
