"""What is saved by running shared few-shot examples once, on MMLU with a fixed set of heads.

    python benchmarks/prefixes.py --data FOLDER
    python benchmarks/prefixes.py --data FOLDER --dtypes float32 bfloat16
    python benchmarks/prefixes.py --data FOLDER --limit 40 --subjects 6

The same questions are answered with and without sharing, with the same tenth of the heads zeroed
(the most inactive by AHON (LN) on bundled texts). The script prints the tokens run, the times and
their ratio, the largest difference in log-probabilities, and how many choices differ. The more
questions a subject has, the more is saved; ``--subjects`` takes the first few subjects only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import inactive_heads as ih
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.engines.base import Visitor
from inactive_heads.engines.prefix_tree import segments_of
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.tasks.base import ScoredInput


def inactive_tenth(model: ih.Model) -> ih.Fixed:
    """The most inactive tenth of the heads by AHON (LN) on four bundled texts.

    Args:
        model: the model.

    Returns:
        The ablation that zeroes them.
    """
    texts = [model.encode(text)[:200] for text in ih.load_texts(n=4)]
    scores = ih.score_heads(model, texts, scores=["AHON (LN)"], progress=False)
    return ih.Fixed(ih.select_heads(scores, "AHON (LN)", 10))


def answered(
    model: ih.Model, inputs: Sequence[ScoredInput], visitor: Visitor
) -> tuple[np.ndarray, float]:
    """Runs the questions and measures the time.

    Args:
        model: the model.
        inputs: one per question, with the choices as targets.
        visitor: silences heads.

    Returns:
        The log-probabilities in nats, ``(question, choice)``, and the time in seconds.
    """
    start = time.perf_counter()
    found = log_likelihoods(model, inputs, visitor, advance=lambda *_: None)
    return np.stack(found), time.perf_counter() - start


def main() -> None:
    """Reads the command line, measures and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="what load_model takes; the bundled model if not given")
    parser.add_argument("--data", help="a copy of cais/mmlu; from the hub if not given")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--subjects", type=int, help="how many of the subjects; all if not given")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    subjects = ih.load_task("mmlu", data=given.data, shots=0).about["subjects"][: given.subjects]
    task = ih.load_task(
        "mmlu", data=given.data, shots=given.shots, limit=given.limit, subjects=subjects
    )

    for dtype in given.dtypes:
        model = ih.load_model(given.model, dtype=dtype)
        engine: Any = model.engine
        if not engine.shares_prefixes():
            raise SystemExit(f"{model.name} cannot share prefixes")
        inputs, heads = PreparedTask.of(model, task).inputs, inactive_tenth(model)
        if not all(len(one.targets) == 4 for one in inputs):
            raise SystemExit("a letter is more than one token; choose another model")
        n_tokens = sum(len(one.tokens) for one in inputs)
        n_shared = sum(len(one.tokens) for one in segments_of([one.tokens for one in inputs]))
        print(f"\n{model}, {len(heads.heads)} heads zeroed, {given.threads} threads")
        print(f"{len(inputs)} questions on {len(subjects)} subjects, {given.shots} shots")
        print(f"tokens     {n_tokens:>8} without, {n_shared:>8} with sharing, ", end="")
        print(f"ratio {n_tokens / n_shared:.2f}", flush=True)

        recorder = ZeroedRecorder(heads, model.shape, len(inputs))
        # A visitor of unknown type must see every input's heads, which rules out sharing.
        looking = partial(ih.Fixed.__call__, heads)
        answered(model, inputs[:3], looking)  # warm-up: the first run of a process is slower
        shared, seconds = answered(model, inputs, recorder)
        alone, seconds_alone = answered(model, inputs, looking)
        differ = int((shared.argmax(axis=1) != alone.argmax(axis=1)).sum())
        print(f"seconds    {seconds_alone:>8.1f} without, {seconds:>8.1f} with sharing, ", end="")
        print(f"ratio {seconds_alone / seconds:.2f}")
        print(f"largest difference of log-probabilities {np.abs(shared - alone).max():.1e}")
        print(f"choices that differ {differ} of {len(inputs)}", flush=True)


if __name__ == "__main__":
    main()
