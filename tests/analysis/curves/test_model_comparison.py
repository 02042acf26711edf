"""Scores compared over models: by hand, against scipy, and against the published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.places import SHARED
from scipy import stats

from inactive_heads.analysis import (
    RANDOM,
    compare_models,
    count_ranks,
    rank_correlations,
    rank_scores,
    rank_table,
    read_curves,
    top_overlap,
)
from inactive_heads.analysis.models.families import finetuned_pairs, scale_steps
from inactive_heads.errors import UserError
from inactive_heads.report.page.verdict import compared

PUBLISHED = SHARED / "paper" / "mmlu_curves.csv"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published curves are not at {PUBLISHED}"
)


def curves_of(**models: dict[str, list[float]]) -> pd.DataFrame:
    """Accuracies at 0, 10, 20 % zeroed, by model and score."""
    rows = [
        {"model": model, "task": "quiz", "mode": "per-input", "score": score}
        | {"percent_zeroed": 10.0 * i, "accuracy": value}
        for model, scores in models.items()
        for score, values in scores.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def ranking() -> pd.DataFrame:
    """By hand: % within 1 point and normalized AUC.

    m: AWFT 1, 50; A 15, 59.5; B 11, 57.5; Random 2, 55.  k: AWFT 12, 58.75; A 1, 50; B 20, 60.
    """
    return rank_scores(
        curves_of(
            m={"AWFT": [60, 50, 40], "A": [60, 60, 58], "B": [60, 60, 50], RANDOM: [60, 55, 50]},
            k={"AWFT": [60, 60, 55], "A": [60, 50, 40], "B": [60, 60, 60]},
        )
    )


def test_the_table_of_models(ranking):
    table = compare_models(ranking).set_index("model")
    assert table.loc["m", ["reference", "best", "gain"]].tolist() == pytest.approx([1, 15, 14])
    assert table.loc["k", ["reference", "best", "gain"]].tolist() == pytest.approx([12, 20, 8])
    assert table["best_score"].to_dict() == {"m": "A", "k": "B"}
    assert table.loc["m", "normalized_auc"] == pytest.approx(59.5)
    without = compare_models(ranking[ranking["score"] != "AWFT"])
    assert without[["reference", "gain"]].isna().all(axis=None), "not known is not 0"
    other = compare_models(ranking, reference="B").set_index("model")
    assert other["gain"].to_dict() == {"m": pytest.approx(4), "k": 0}


def test_the_best_score_may_not_be_the_first_by_area():
    curves = curves_of(m={"A": [60, 58.9, 58.9], "B": [60, 60, 50]})
    row = compare_models(rank_scores(curves)).iloc[0]
    assert (row["best_score"], row["top_score"]) == ("B", "A")


def test_how_often_each_score_is_first(ranking):
    table = count_ranks(ranking, top=2).set_index("score")
    assert list(table.index) == ["B", "A", "AWFT", RANDOM]
    assert table["first"].to_dict() == {"A": 1, "B": 1, "AWFT": 0, RANDOM: 0}
    assert table["top_2"].to_dict() == {"A": 1, "B": 2, "AWFT": 1, RANDOM: 0}
    assert table["models"].to_dict() == {"A": 2, "B": 2, "AWFT": 2, RANDOM: 1}
    assert table.loc["A", "mean_rank"] == 2
    assert table.loc["A", "mean_percent_within_1pt"] == pytest.approx(8)
    assert table.loc["A", "mean_normalized_auc"] == pytest.approx((59.5 + 50) / 2)
    ranks = rank_table(ranking)
    assert ranks.loc["B"].tolist() == [2, 1] if list(ranks.columns) == ["m", "k"] else [1, 2]
    assert np.isnan(ranks.loc[RANDOM, "k"])


def test_agreement_of_models_by_hand(ranking):
    # m orders A, B, AWFT; k orders B, AWFT, A: rank differences 2, 1, 1.
    by_hand = 1 - 6 * (4 + 1 + 1) / (3 * (9 - 1))
    assert rank_correlations(ranking).loc["m", "k"] == pytest.approx(by_hand)
    assert top_overlap(ranking, top=2).loc["m", "k"] == pytest.approx(1 / 3)
    assert rank_correlations(ranking).loc["m", "m"] == 1


def test_agreement_against_scipy_with_ties_and_missing_scores():
    rng = np.random.default_rng(0)
    names = [f"S{i}" for i in range(9)]
    areas = {model: rng.integers(50, 56, 9).astype(float) for model in "abc"}
    rows = [
        {"model": model, "task": "t", "mode": "fixed", "score": name, "normalized_auc": value}
        | {"percent_within_1pt": 1.0}
        for model, values in areas.items()
        for name, value in zip(names, values, strict=True)
        if (model, name) != ("c", "S0")
    ]
    table = pd.DataFrame(rows)
    table["rank"] = table.groupby("model")["normalized_auc"].rank(ascending=False, method="min")
    found = rank_correlations(table)
    assert found.loc["a", "b"] == pytest.approx(stats.spearmanr(areas["a"], areas["b"]).statistic)
    shared = stats.spearmanr(areas["a"][1:], areas["c"][1:]).statistic
    assert found.loc["a", "c"] == found.loc["c", "a"] == pytest.approx(shared)
    flat = rank_correlations(table.assign(normalized_auc=50.0))
    assert np.isnan(flat.loc["a", "b"]), "constant rankings have no correlation"


def test_several_tasks_are_refused(ranking):
    with pytest.raises(UserError, match="several tasks or modes"):
        compare_models(pd.concat([ranking, ranking.assign(mode="fixed")]))


def test_words_on_several_models(ranking):
    assert compared(ranking, "quiz, per-input", "accuracy") == (
        "On quiz, per-input, over 2 models: AWFT finds 6.50% of heads that can be zeroed within "
        "1 point of the model with every head, the best score of each model 17.50%, on average. "
        "B has the best normalized AUC on 1 of 2 models and is among the first three on 2."
    )


def test_families_by_name():
    names = ["Llama-3.1-8B", "Llama-3.1-8B-Instruct", "OLMo-2-1124-7B", "OLMo-2-1124-7B-SFT"]
    names += ["Qwen2.5-0.5B", "Qwen2.5-14B", "Qwen2.5-3B", "X-Base", "X", "gemma-3-270m", "gemma"]
    assert finetuned_pairs(names) == [
        ("Llama-3.1-8B", "Llama-3.1-8B-Instruct"),
        ("OLMo-2-1124-7B", "OLMo-2-1124-7B-SFT"),
        ("X-Base", "X"),
        ("gemma", "gemma-3-270m"),
    ]
    assert scale_steps([*names, "Pythia-70m", "pythia-1.4b", "Qwen2.5-7B-Instruct"]) == [
        ("Qwen2.5-0.5B", "Qwen2.5-3B"),
        ("Qwen2.5-3B", "Qwen2.5-14B"),
        ("Pythia-70m", "pythia-1.4b"),
    ]
    assert scale_steps(["X-1500M", "X-1b", "X-600m"]) == [("X-600m", "X-1b"), ("X-1b", "X-1500M")]
    # Of several bases, the one with the longest name; the mark of a base is no part of it.
    assert finetuned_pairs(["A", "A-1-base", "A-1-x", "A_2"]) == [
        ("A-1-base", "A-1-x"),
        ("A", "A_2"),
    ]


@needs_published
def test_published_comparison_of_models():
    ranking = rank_scores(read_curves(PUBLISHED))
    table = compare_models(ranking)
    assert len(table) == 14
    assert table["reference"].mean() == pytest.approx(4.61, abs=0.01)
    assert table["best"].mean() == pytest.approx(12.28, abs=0.01)
    first = count_ranks(ranking).iloc[0]
    assert (first["score"], first["first"], first["top_3"], first["models"]) == (
        *("AHON (LN)", 8, 13, 14),
    )
    words = compared(ranking, "mmlu, per-input", "accuracy")
    assert "AWFT finds 4.61% of heads" in words
    assert "12.28%, on average. AHON (LN) has the best normalized AUC on 8 of 14 models" in words
    assert "among the first three on 13" in words
