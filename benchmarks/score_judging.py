"""RON and ROD judged: on texts of six kinds, prompts and questions, at equal shares of heads zeroed.

`better_scores.py` runs what is here; docs/better_scores.md shows the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import inactive_heads as ih
from inactive_heads.evaluation.outcomes import Outcomes
from inactive_heads.sweeps.head_to_head import lead_over
from inactive_heads.sweeps.results import Sweep

OURS, BEST = "RON", "AHON (LN)"
BASELINES = ("Random", "Placebo of RON")
"""Swept beside the two on texts."""
TEXTS = "texts"
"""The name of the task on texts that judge, and of its folder."""
# At a requested 20%, RON zeroes more than 20% of Gemma's heads. With 18, two points lie close to it.
PAIR_PERCENTS = (5, 10, 15, 18, 20, 25)
KIND_PERCENTS = (10, 20)
REACH_PERCENTS, WITHIN = (2, 5, 10, 15, 20), 0.05
PATIENCE = 10
"""A score that zeroes nothing at this requested percentage is not swept at larger ones."""
SEED = 8
QUESTIONS, PROMPTS = 150, 12
"""Number of questions, and of prompts of each kind."""


def halves(model: ih.Model, length: int) -> tuple[ih.TextTask, ih.TextTask]:
    """The bundled texts in two random halves, each with as many texts of every kind.

    Args:
        model: gives the tokenizer.
        length: texts are cut to this many tokens; shorter ones are left out.

    Returns:
        Texts for choices, and texts for judging, as token ids with their kinds. In either, the
        kinds take turns.
    """
    # A limit, even of all texts, takes them in rounds of one per kind.
    whole = ih.load_task("text-loss", limit=len(ih.load_texts()), seed=SEED)
    kinds, cut = whole.kinds(), ih.cut_to(model, whole.samples, length)
    middle = len(cut) // 2

    def half(part: range) -> ih.TextTask:
        kept = [i for i in part if len(cut[i]) == length]
        own = [kinds[i] for i in kept]
        return ih.TextTask(TEXTS, [cut[i] for i in kept], whole.about, text_kinds=own)

    return half(range(middle)), half(range(middle, len(cut)))


def tasks(texts: ih.TextTask, mmlu: Path | None) -> list[ih.TextTask | ih.ChoiceTask]:
    """The tasks that judge: texts, the quiz in cloze, and prompts.

    Args:
        texts: the texts that judge.
        mmlu: a local copy of cais/mmlu, or None to leave its prompts out.

    Returns:
        The tasks.
    """
    quiz = ih.load_task("quiz", shots=3, limit=PROMPTS, seed=SEED)
    found = [
        texts,
        ih.load_task("quiz", limit=QUESTIONS, seed=SEED + 1),
        ih.TextTask("quiz prompts", [str(item.context) for item in quiz.items]),
    ]
    if mmlu is not None:
        asked = ih.load_task("mmlu", data=mmlu, shots=1, limit=PROMPTS, seed=SEED)
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
    on_texts = task.name == TEXTS
    found = ih.compare_scores(
        [OURS],
        model=model,
        task=task,
        against=(BEST, *BASELINES) if on_texts else (BEST,),
        percents=PAIR_PERCENTS if on_texts else KIND_PERCENTS,
        out=out / task.name,
        progress=False,
    )
    print(found, flush=True)
    return found.table.assign(task=task.name, mode="per-input")


def by_kind(found: Sweep, kinds: Sequence[str]) -> pd.DataFrame:
    """Compares RON with AHON (LN) and the baselines at equal shares of heads, kind by kind.

    Args:
        found: a sweep of all of them on texts.
        kinds: each text's kind.

    Returns:
        One row per kind, other score and percentage: ``kind``; ``n``, its number of texts;
        ``against``, the other score; and the columns of `lead_over` for RON.
    """
    tables = []
    for kind in dict.fromkeys(kinds):
        here = np.array([one == kind for one in kinds])
        points = {key: _some(outcomes, here) for key, outcomes in found.points.items()}
        own = replace(found, points=points, scores=None)
        for other in (BEST, *BASELINES):
            leads = lead_over(own, [OURS], other, KIND_PERCENTS)
            tables.append(leads.assign(kind=kind, n=int(here.sum()), against=other))
    table = pd.concat(tables, ignore_index=True)
    first = ["kind", "n", "against"]
    return table[[*first, *table.columns.drop(first)]]


def _some(outcomes: Outcomes, here: np.ndarray) -> Outcomes:
    """The outcomes of some items, with the share of heads zeroed on these."""
    items = outcomes.items[here].reset_index(drop=True)
    return Outcomes(items, outcomes.metric, float(items["percent_zeroed"].mean()))


def fixed(
    model: ih.Model, choice: list[list[int]], judged: list[list[int]], out: Path
) -> pd.DataFrame:
    """Sweeps RON and AHON (LN) with one fixed set of heads for all texts.

    Args:
        model: the model.
        choice: texts by which the sets are chosen.
        judged: texts that judge.
        out: the folder of the sweep.

    Returns:
        The curves without the baseline.
    """
    names = [OURS, BEST]
    curves = ih.sweep(
        model,
        ih.TextTask("fixed", judged),
        scores=names,
        percents=KIND_PERCENTS,
        mode="fixed",
        calibration=ih.score_heads(model, choice, scores=names, progress=False),
        out=out / "fixed",
        progress=False,
    )
    return curves[curves["percent"] > 0].assign(task=TEXTS, mode="fixed")


def mean_in_place(
    model: ih.Model, choice: list[list[int]], judged: list[list[int]], out: Path
) -> pd.DataFrame:
    """Compares ROD with AHON (LN) when heads are replaced by their means.

    Args:
        model: the model.
        choice: texts over which the means are taken.
        judged: texts that judge.
        out: the folder of the sweep.

    Returns:
        The comparison, one row per score and percentage.
    """
    means = ih.mean_head_outputs(model, choice, progress=False)
    found = ih.compare_scores(
        [ih.read_output_distance(means)],
        model=model,
        task=ih.TextTask("mean in place", judged),
        against=(BEST,),
        percents=(10, 20, 30),
        replacement=means,
        out=out / "mean in place",
        progress=False,
    )
    print(found, flush=True)
    return found.table.assign(task=TEXTS, mode="mean in place")


def reach(model: ih.Model, judged: list[list[int]], out: Path) -> pd.DataFrame:
    """The largest share of heads that each score can zero within +0.05 nats.

    The scores are RON, RRN, the paper's fifteen and Random. Only scores that stay within the limit
    are swept at larger percentages.

    Args:
        model: the model.
        judged: texts that judge.
        out: the folder of the sweeps.

    Returns:
        The columns ``score`` and ``percent_within_0.05_nats``, largest first.
    """
    names, curves = [OURS, "RRN", *ih.PAPER_SCORES, "Random"], pd.DataFrame()
    for percent in REACH_PERCENTS:
        found = ih.sweep(
            model,
            ih.TextTask("reach", judged),
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
