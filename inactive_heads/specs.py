"""Specs: which model, task, texts and ablation a caller wants, and where the work is done.

A spec is made once, by a public function or a command, and passed on whole. Nothing here imports
torch, so that a command's help can show the options without loading it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from inactive_heads.checks import (
    check_batch_size,
    check_device,
    check_dtype,
    check_lm_eval,
    check_percents,
    check_rule,
    check_whole,
)
from inactive_heads.errors import UserError
from inactive_heads.names import CHOICE_TASKS, LM_EVAL, LM_EVAL_SCORINGS, TEXT_LOSS, EngineName

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
        "an architecture. demo is the bundled SmolLM2-135M-Instruct, the default.",
        positional=True,
    )
    engine: str = option(
        "auto",
        "How heads are read: flash (fast), lens (TransformerLens hooks), or auto (flash if it can "
        "read the model's heads, else lens).",
    )
    dtype: str = option(
        "auto",
        "auto, float32, bfloat16, float16 or float64. auto is bfloat16 for weights stored in 16 bits "
        "where the hardware multiplies it fast, else float32.",
    )
    device: str = option("auto", "auto (a GPU if there is one), cpu, cuda or cuda:N.")
    device_map: DeviceMap | None = option(
        None, "auto spreads the model over all GPUs, as Hugging Face's device_map does."
    )
    revision: str | None = option(None, "A branch, tag or commit of a model on the hub.")
    tokenizer: str | Path | None = option(
        None, "A folder or hub name. Default: the model's own tokenizer."
    )
    bos: str = option(
        "auto",
        "Whether texts start with the BOS token: on, off, or auto (the tokenizer's own rule).",
    )
    chat_template: str = option(
        "auto",
        "on writes prompts with the tokenizer's chat template, and few-shot examples as turns. auto: "
        "as the preset says, else off.",
    )
    trust_remote_code: bool = option(False, "Run Python code that comes with the model.")

    def check(self) -> None:
        """Check the options, as far as that is possible without the model.

        Raises:
            UserError: an option has no such value, or two do not go together.
        """
        engines = get_args(EngineName)
        if self.engine not in engines:
            raise UserError(
                f"engine={self.engine!r} is unknown; the engines are {', '.join(engines)}"
            )
        check_device(self.device)
        check_dtype(self.dtype)
        check_rule("bos", self.bos)
        check_rule("chat_template", self.chat_template)
        if self.device_map is not None and self.engine == "lens":
            raise UserError(
                f'device_map={self.device_map!r} needs engine="flash", not {self.engine!r}: leave '
                "out one of the two"
            )


@dataclass(frozen=True)
class TaskSpec:
    """Which task is loaded, and how: the arguments of `load_task`, which explains them."""

    name: str = option("quiz", "The task: mmlu, quiz, text-loss or lm-eval:TASK.", flag="--task")
    data: str | Path | None = option(
        None,
        "For mmlu, a local copy of cais/mmlu. For quiz, a .jsonl, .csv or .parquet file of your own "
        "questions. For lm-eval, a folder of task files.",
    )
    num_fewshot: int | None = option(
        None, "The number of answered examples in the prompt. Default: 5 for mmlu, 0 for quiz."
    )
    limit: int | None = option(None, "The number of questions to ask, spread over the subjects.")
    subjects: Sequence[str] | None = option(
        None, "The subjects to ask about, separated by commas. Default: all."
    )
    scoring: str | None = option(
        None,
        "letter (the default for mmlu) or cloze (the default for quiz). For lm-eval, acc or acc_norm.",
    )
    seed: int = 0

    def check(self) -> None:
        """Check the options, as far as that is possible without the data.

        Raises:
            UserError: the name or the scoring is unknown, a number is too small, or
                lm-evaluation-harness is needed and not installed.
        """
        check_whole("--limit", self.limit, least=1)
        check_whole("shots (--num-fewshot)", self.num_fewshot, least=0)
        check_whole("the seed", self.seed, least=0)
        if self.name.startswith(LM_EVAL):
            check_lm_eval()
            if self.scoring not in (None, *LM_EVAL_SCORINGS):
                raise UserError(
                    f"scoring must be acc or acc_norm for {self.name}, not {self.scoring!r}"
                )
        elif self.name not in (*CHOICE_TASKS, TEXT_LOSS):
            raise UserError(
                f"unknown task {self.name!r}; there are: {', '.join((*CHOICE_TASKS, TEXT_LOSS))}, "
                f"and {LM_EVAL}TASK for those of lm-evaluation-harness"
            )
        elif self.name in CHOICE_TASKS and self.scoring not in (None, "letter", "cloze"):
            raise UserError(f"scoring must be letter or cloze, not {self.scoring!r}")


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
        "The texts: bundled, fineweb-edu, or a folder or a .txt, .jsonl, .csv or .parquet file.",
        flag="--texts",
    )
    num_texts: int | None = option(None, "The number of texts to score heads on.")
    max_tokens: int | None = option(
        None, "The maximum number of tokens of a text; longer ones are cut."
    )

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UserError: one is not a whole number from 1.
        """
        check_whole("the number of texts", self.num_texts, least=1)
        check_whole("--max-tokens", self.max_tokens, least=1)


@dataclass(frozen=True)
class AblationSpec:
    """Which heads to silence, in at most one of three ways, or their placebo.

    Attributes:
        score: silences heads for each input by this score.
        threshold: the score's threshold, in its unit.
        heads: silences the heads in this file; see `Fixed.load`.
        random: silences this percent of heads at random.
        placebo: silences as many heads of the same layers, drawn at random, instead of those that
            ``score`` or ``heads`` choose; see `Placebo`.
        seed: the seed of ``random`` and ``placebo``.
    """

    score: str | None = option(
        None, "Zero, for each input, the heads that this score calls inactive …"
    )
    threshold: float | None = option(None, "… at this threshold.")
    heads: str | None = option(None, "Zero the heads in this file, such as a report's heads.json.")
    random: float | None = option(None, "Zero this percentage of heads at random.")
    placebo: bool = option(
        False, "Zero as many heads of the same layers, drawn at random, instead of those chosen."
    )
    seed: int = 0

    def check(self) -> None:
        """Check the options, as far as that is possible without scores and files.

        Raises:
            UserError: more than one way is given, a score and threshold are not given together,
                the percent is not between 0 and 100, or a placebo has nothing to follow.
        """
        given = [one for one in (self.score, self.heads, self.random) if one is not None]
        if len(given) > 1:
            raise UserError("give one of score, heads and random, not several")
        if (self.score is None) != (self.threshold is None):
            raise UserError("score and threshold go together")
        if self.random is not None:
            check_percents([self.random])
        if self.placebo and (self.random is not None or not given):
            raise UserError(
                "a placebo follows other heads: give it a score and threshold, or heads"
            )


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

    batch_size: int | str = option("auto", "The number of inputs run together, or auto.")
    executor: str = option(
        "local", "Where the work is done: local (this machine) or ray (a cluster)."
    )
    workers: int | None = option(
        None, "The number of processes that each load the model. Default: one per GPU."
    )
    ray_address: str | None = option(
        None, "The address of the Ray cluster. Default: one is started here if there is none."
    )
    gpus_per_worker: float | None = option(
        None, "The GPUs of one Ray worker: 0.5 for two workers on a GPU."
    )
    shard_tokens: int | None = option(
        None, "The maximum number of tokens in one unit of work. Default: a few minutes' worth."
    )

    def check(self) -> None:
        """Check the options, as far as that is possible without the machines.

        Raises:
            UserError: the executor is unknown, or a number is too small.
        """
        check_batch_size(self.batch_size)
        if self.executor not in ("local", "ray"):
            raise UserError(f"executor={self.executor!r} is unknown; there are: local, ray")
        check_whole("workers", self.workers, least=1)
        check_whole("shard_tokens", self.shard_tokens, least=1)
