"""Specs: which model, task, texts and ablation a caller wants, and where the work is done.

A spec is made once, by a public function or a command, and passed on whole. Nothing here imports
torch, so that a command's help can show the options without loading it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DeviceMap = str | dict[str, int | str]
"""How the parts of a model are spread over devices, as in Hugging Face's ``device_map``."""


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
        "auto",
        "How heads are read: flash (fast), lens (TransformerLens hooks), or auto: flash if it can "
        "read the model's, else lens.",
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
        "mmlu: a local copy of cais/mmlu; quiz: a .jsonl, .csv or .parquet file of your own "
        "questions; lm-eval: a folder of task files.",
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
        num_texts: the number of texts; None for all of a user's texts, and a default number of
            others.
        max_tokens: the most tokens of a text. Bundled texts and FineWeb-Edu are cut at random
            lengths up to this, or up to a default; a user's texts are cut to it, if it is given.
    """

    source: str = option(
        "bundled",
        "bundled, fineweb-edu, or a .txt, .jsonl, .csv or .parquet file, or a folder.",
        flag="--texts",
    )
    num_texts: int | None = option(None, "How many texts to score heads on.")
    max_tokens: int | None = option(None, "Cut texts to this many tokens.")


@dataclass(frozen=True)
class AblationSpec:
    """Which heads to silence, in at most one of three ways.

    Attributes:
        score: silences heads for each input by this score.
        threshold: the score's threshold, in its unit.
        heads: silences the heads in this file; see `Fixed.load`.
        random: silences this percent of heads at random.
        seed: the seed of ``random``.
    """

    score: str | None = option(None, "Zero heads, for each input, by this score …")
    threshold: float | None = option(None, "… on the inactive side of this.")
    heads: str | None = option(None, "Zero the heads of this heads.json.")
    random: float | None = option(None, "Zero this % of heads at random.")
    seed: int = 0


@dataclass(frozen=True)
class ExecutionSpec:
    """Where the work is done, and in units of which size.

    Attributes:
        executor: "local" (this process, or one process per GPU) or "ray".
        workers: the number of processes that each load the model; None for one per GPU.
        ray_address: the address of the Ray cluster; None for Ray's own choice, which starts one on
            this machine if there is none.
        gpus_per_worker: GPUs per Ray worker, such as 0.5 for two workers on a GPU; None for 1 if
            there are GPUs.
        shard_tokens: the most tokens per unit of work; None for a few minutes' worth.
        batch_size: inputs per batch, or "auto".
    """

    batch_size: int | str = option("auto", "Inputs run together, or auto.")
    executor: str = option("local", "Where the work is done: local (this machine) or ray.")
    workers: int | None = option(None, "Processes with the model: one per GPU if not given.")
    ray_address: str | None = option(None, "The Ray cluster; one is started here if there is none.")
    gpus_per_worker: float | None = option(None, "GPUs of one Ray worker, 0.5 for two on a GPU.")
    shard_tokens: int | None = option(
        None, "Tokens of one piece of work; minutes' worth if not given."
    )
