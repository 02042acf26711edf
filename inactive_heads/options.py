"""The options that commands share, as typer takes them: a type, and what --help says."""

from __future__ import annotations

from typing import Annotated

import typer

MODEL_HELP = (
    "A hub name (gpt2), a local folder, a .gguf file, a preset, or a .toml file that describes an "
    "architecture; demo is the bundled SmolLM2-135M-Instruct, which is taken if none is given."
)

ModelArgument = Annotated[str | None, typer.Argument(help=MODEL_HELP, show_default=False)]
Data = Annotated[
    str | None,
    typer.Option(
        help="mmlu: a local copy of cais/mmlu; quiz: a .jsonl file of your own questions."
    ),
]
Shots = Annotated[
    int | None,
    typer.Option("--num-fewshot", help="Answered examples in the prompt (mmlu 5, quiz 0)."),
]
Limit = Annotated[int | None, typer.Option(help="Questions to ask, spread over the subjects.")]
Subjects = Annotated[str | None, typer.Option(help="Only these subjects, separated by commas.")]
Scoring = Annotated[
    str | None, typer.Option(help="letter or cloze; letter for mmlu, cloze for quiz if not given.")
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
