"""What a caller asks for: which model, task and ablation, and where the work is done.

A spec is made once, by a public function or a command line, and passed on whole. Nothing here
imports torch, so that a command's help can show the options without waiting for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DeviceMap = str | dict[str, int | str]
"""How the parts of a model are spread over devices, as Hugging Face's ``device_map`` says it."""


def option(default: Any, help: str, *, flag: str | None = None, positional: bool = False) -> Any:
    """A dataclass field that is an option of commands.

    Args:
        default: the field's default.
        help: one sentence for ``--help``.
        flag: the option's name, if not the field's own (``num_fewshot`` is ``--num-fewshot``).
        positional: whether it is an argument, given without a name.

    Returns:
        A `dataclasses.field` with these in its metadata.
    """
    metadata = {"help": help, "flag": flag, "positional": positional}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelSpec:
    """Which model is loaded, and how: the arguments of `load_model`, which explains them."""

    source: str | Path | None = option(
        None,
        "A hub name (gpt2), a local folder, a .gguf file, a preset, or a .toml file that describes "
        "an architecture; demo is the bundled SmolLM2-135M-Instruct, which is taken if none is "
        "given.",
        positional=True,
    )
    engine: str = option(
        "flash", "How heads are read: flash (fast) or lens (TransformerLens hooks)."
    )
    dtype: str = option("auto", "auto, float32, bfloat16 or float16.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, …")
    device_map: DeviceMap | None = option(
        None, "auto spreads the model over all GPUs (Hugging Face's device_map)."
    )
    revision: str | None = option(None, "A branch, tag or commit of the hub's model.")
    tokenizer: str | Path | None = option(None, "A folder or hub name, if not the model's own.")
    bos: str = option("auto", "auto (the tokenizer's own rule), on or off.")
    chat_template: str = option(
        "auto",
        "on writes prompts by the tokenizer's chat template, few-shot examples as turns; auto: as a "
        "preset says, else off.",
    )
    trust_remote_code: bool = option(False, "Run the Python code of the model's repository.")


@dataclass(frozen=True)
class TaskSpec:
    """Which task is loaded, and how: the arguments of `load_task`, which explains them."""

    name: str = option("quiz", "mmlu, quiz, text-loss or lm-eval:TASK.", flag="--task")
    data: str | Path | None = option(
        None,
        "mmlu: a local copy of cais/mmlu; quiz: a .jsonl file of your own questions; lm-eval: a "
        "folder of task files.",
    )
    num_fewshot: int | None = option(None, "Answered examples in the prompt (mmlu 5, quiz 0).")
    limit: int | None = option(None, "Questions to ask, spread over the subjects.")
    subjects: Sequence[str] | None = option(None, "Only these subjects, separated by commas.")
    scoring: str | None = option(
        None,
        "letter or cloze; letter for mmlu, cloze for quiz if not given. lm-eval: acc or acc_norm.",
    )
    seed: int = 0


@dataclass(frozen=True)
class TextsSpec:
    """The texts that heads are scored on; see `load_texts`.

    Attributes:
        source: "bundled", "fineweb-edu", a file or a folder.
        num_texts: how many; all, or a default number of bundled ones, if None.
        max_tokens: tokens that texts are cut to. Bundled texts and FineWeb-Edu are cut at random, to
            at most so many; a user's own only if this is given.
    """

    source: str = option(
        "bundled",
        "bundled, fineweb-edu, or a .txt, .jsonl or .parquet file, or a folder.",
        flag="--texts",
    )
    num_texts: int | None = option(None, "How many texts to score heads on.")
    max_tokens: int | None = option(None, "Cut texts to this many tokens.")


@dataclass(frozen=True)
class AblationSpec:
    """Which heads to silence, in at most one of three ways.

    Attributes:
        score: for each input, by this score …
        threshold: … on the inactive side of this, in the score's unit.
        heads: by a file of heads; see `Fixed.load`.
        random: at random, this many percent.
        seed: of ``random``.
    """

    score: str | None = option(None, "Zero heads, for each input, by this score …")
    threshold: float | None = option(None, "… on the inactive side of this.")
    heads: str | None = option(None, "Zero the heads of this heads.json.")
    random: float | None = option(None, "Zero this % of heads at random.")
    seed: int = 0


@dataclass(frozen=True)
class ExecutionSpec:
    """Where work is done, and in what pieces.

    Attributes:
        executor: "local" (this process, or one process per GPU) or "ray".
        workers: processes that each load the model; one per GPU if None.
        ray_address: of the Ray cluster; one is started on this machine if there is none.
        gpus_per_worker: GPUs of one Ray worker; 0.5 for two workers on a GPU.
        shard_tokens: tokens that one unit of work runs; minutes' worth if None.
        batch_size: inputs run together, or "auto".
    """

    batch_size: int | str = option("auto", "Inputs run together, or auto.")
    executor: str = option("local", "Where the work is done: local (this machine) or ray.")
    workers: int | None = option(None, "Processes with the model: one per GPU if not given.")
    ray_address: str | None = option(None, "The Ray cluster; one is started here if there is none.")
    gpus_per_worker: float | None = option(None, "GPUs of one Ray worker, 0.5 for two on a GPU.")
    shard_tokens: int | None = option(
        None, "Tokens of one piece of work; minutes' worth if not given."
    )
