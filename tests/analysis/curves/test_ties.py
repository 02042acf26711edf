"""Numbers that only rounding tells apart are equal: they share a rank and are called ties."""

import numpy as np
import pandas as pd
import pytest

import inactive_heads as ih
from inactive_heads.analysis import rank_agreement, rank_correlations, top_overlap
from inactive_heads.analysis.curves.summary import best_of, summarize, tied_with
from inactive_heads.analysis.curves.ties import best_rows, joined, tied_ranks
from inactive_heads.report.page.verdict import compared, verdict
from inactive_heads.sweeps.head_to_head import standing

NEARLY = 50.00000000000001


def curves(model="m", **values):
    """Curves at 0, 10 and 20% zeroed; values are their accuracies."""
    rows = [
        {"model": model, "task": "quiz", "mode": "per-input", "score": score, "percent": percent}
        | {"percent_zeroed": percent, "accuracy": value, "ci_low": value - 5, "ci_high": value + 5}
        for score, heights in values.items()
        for percent, value in zip([0.0, 10.0, 20.0], heights, strict=True)
    ]
    return pd.DataFrame(rows)


FLAT = {"Z": [NEARLY] * 3, "A": [50.0] * 3, "B": [50.0, 40.0, 30.0]}


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ([50.0, NEARLY, 40.0], True, [1, 1, 3]),
        ([40.0, NEARLY, 50.0, 60.0], True, [4, 2, 2, 1]),
        ([50.0, NEARLY, 40.0], False, [2, 2, 1]),
        ([1.0, 1.0 + 1e-6], False, [1, 2]),
        ([3.0], True, [1]),
        ([], True, []),
        ([0.0, -0.0, 0.0], True, [1, 1, 1]),
    ],
)
def test_ranks(values, higher, expected):
    found = tied_ranks(pd.Series(values, dtype=float), higher_is_better=higher, rounding=1e-9)
    assert found.tolist() == expected


def test_a_chain_of_close_values_is_not_one_tie():
    steps = pd.Series([0.0, 0.8, 1.6, 2.4])
    assert tied_ranks(steps, higher_is_better=False, rounding=1.0).tolist() == [1, 1, 3, 3]


def test_words():
    assert joined(["A"]) == "A"
    assert joined(["A", "B"]) == "A and B"
    assert joined(["A", "B", "C"]) == "A, B and C"
    table = pd.DataFrame({"score": list("abc"), "x": [1.0, 1 - 1e-12, 0.5]})
    assert best_rows(table, "x", rounding=1e-9)["score"].tolist() == ["a", "b"]


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_rounding_decides_no_rank(metric):
    table = curves(**FLAT).rename(columns={"accuracy": metric})
    ranks = ih.rank_scores(table, metric=metric).set_index("score")["rank"]
    expected = {"Z": 1, "A": 1, "B": 3} if metric == "accuracy" else {"B": 1, "Z": 2, "A": 2}
    assert ranks.to_dict() == expected
    summary = summarize(table, None, percent=10).set_index("score")["rank"]
    assert summary.to_dict() == expected


def test_a_difference_of_one_answer_in_a_million_is_one():
    one = curves(A=[50.0, 50.0, 50.0], B=[50.0, 50.0, 50.0 + 100 / 1e6])
    assert ih.rank_scores(one)[["score", "rank"]].values.tolist() == [["B", 1], ["A", 2]]


def test_models_compared_name_all_that_tie():
    ranking = ih.rank_scores(curves(AWFT=[50, 40, 30], **FLAT))
    row = ih.compare_models(ranking).iloc[0]
    assert (row["best_score"], row["top_score"]) == ("Z and A", "Z and A")
    counts = ih.count_ranks(ranking).set_index("score")
    assert counts["first"].to_dict() == {"Z": 1, "A": 1, "AWFT": 0, "B": 0}
    assert "Z and A each have the best normalized AUC on 1 of 1 models and are among" in compared(
        ranking, "quiz", "accuracy"
    )
    alone = ih.rank_scores(curves(AWFT=[50, 40, 30], A=[50] * 3))
    assert ih.compare_models(alone)["best_score"].item() == "A"
    assert " A has the best normalized AUC on 1 of 1 models and is among" in compared(
        alone, "quiz", "accuracy"
    )


def test_agreement_of_models_leaves_rounding_out():
    other = curves("k", Z=[50.0] * 3, A=[NEARLY] * 3, B=[50.0, 40.0, 30.0])
    ranking = ih.rank_scores(pd.concat([curves(**FLAT), other]))
    assert rank_correlations(ranking).loc["m", "k"] == pytest.approx(1)
    assert top_overlap(ranking, top=1).loc["m", "k"] == 1
    apart = curves("k", Z=[50.0] * 3, A=[40.0] * 3, B=[30.0] * 3)
    ranking = ih.rank_scores(pd.concat([curves(**FLAT), apart]))
    assert rank_agreement(ranking, "m", "k", top=1)["top_iou"] == 1 / 2  # {Z, A} and {Z}


def test_the_verdict_calls_a_tie_a_tie():
    table = curves(Random=[50, 40, 35], **FLAT)
    _, text = verdict(summarize(table, None, percent=10), table)
    assert " Z and A tie: their whole curves are equally good." in text
    assert "not shown" not in text
    table = curves(Random=[NEARLY] * 3, A=[50.0] * 3)
    _, text = verdict(summarize(table, None, percent=10), table)
    assert text.endswith(" Over its whole curve, Random did as well.")
    assert best_of(summarize(table, None, percent=10), ["A"]) == "A"


def test_the_best_names_those_that_tie_with_it():
    summary = summarize(curves(Random=[NEARLY] * 3, **FLAT), None, percent=10)
    order = [name for name in summary["score"] if name in ("Z", "A")]
    assert best_of(summary, ["A", "B", "Z"]) == order[0]
    assert tied_with(summary, order[0], ["A", "B", "Z"]) == order[1:]
    assert tied_with(summary, "A", ["A", "B"]) == []
    assert tied_with(summary, "none of them", ["A", "Z"]) == []
    # By loss, which takes precedence, there is no tie.
    losses = curves(Z=[3.0] * 3, A=[3.0, 3.1, 3.2]).rename(columns={"accuracy": "loss"})
    both = pd.concat([summary, summarize(losses.assign(task="text-loss"), None, percent=10)])
    assert best_of(both, ["A", "B", "Z"]) == "Z"
    assert tied_with(both, "Z", ["A", "B", "Z"]) == []
    unranked = summary.assign(rank=np.nan)
    assert best_of(unranked, ["A"]) is None


def test_a_tie_is_no_lead():
    rng = np.random.default_rng(0)
    losses = rng.random((1, 3, 40)).repeat(2, axis=0)
    losses[:, 0] = losses[0, 0]
    losses[1, 1:] += 1e-12  # rounding
    table = curves(A=losses[0].mean(axis=1), B=losses[1].mean(axis=1))
    table = table.drop(columns=["ci_low", "ci_high"]).rename(columns={"accuracy": "loss"})
    found = ih.rank_uncertainty(table, losses, metric="loss")
    assert found["rank"].tolist() == [1, 1]
    assert found["first"].tolist() == [0.5, 0.5]
    assert found["lead"].iloc[0] == 0
    assert not found["better_than_next"].any()
    assert found["n_to_tell"].iloc[0] == np.inf


def test_a_score_that_ties_with_a_published_one_shares_its_rank():
    there = curves("p", Random=[60, 50, 40], X=[60, 60, 60 + 1e-13], Y=[60, 60, 60], W=[60, 50, 45])
    row = standing(curves(MINE=[50] * 3, Random=[50, 45, 40]), there).set_index("score").loc["MINE"]
    assert (row["would_rank"], row["out_of"], row["best_published"]) == (1, 4, "X and Y")
