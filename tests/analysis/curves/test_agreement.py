"""Agreement of models on the order of scores: ties, missing scores, constants, pairs."""

import numpy as np
import pandas as pd
import pytest

from inactive_heads.analysis import compare_models, rank_agreement, rank_correlations, top_overlap
from inactive_heads.errors import UserError


def ranking_of(**models):
    """Rows as `rank_scores` gives them, from the normalized AUC of every model's scores."""
    rows = [
        {"model": model, "task": "t", "mode": "fixed", "score": score, "normalized_auc": area}
        | {"percent_within_1pt": 1.0}
        for model, areas in models.items()
        for score, area in areas.items()
    ]
    table = pd.DataFrame(rows)
    table["rank"] = table.groupby("model")["normalized_auc"].rank(ascending=False, method="min")
    return table


LETTERS = "ABCDEF"


def areas(*values):
    return dict(zip(LETTERS, map(float, values), strict=False))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (areas(1, 2, 3, 10), areas(1, 2, 3, 4), 1),  # ranks, not sizes
        (areas(1, 2, 3, 10), areas(9, 8, 7, -50), -1),
        (areas(1, 2), areas(5, 6), 1),  # two scores are enough
        (areas(1, 2), areas(6, 5), -1),
        (areas(1, 2, 3), areas(1, 3, 2), 0.5),  # 1 - 6 (0 + 1 + 1) / (3 (9 - 1))
        (areas(1, 1, 2), areas(1, 2, 3), np.sqrt(3) / 2),  # ties take their mean rank
        (areas(1), areas(2), np.nan),
        (areas(5, 5, 5), areas(1, 2, 3), np.nan),
        (areas(1, 2, 3), areas(5, 5, 5), np.nan),
    ],
)
def test_correlations_are_spearmans_over_shared_scores(one, other, expected):
    for first, second in ((one, other), ({**one, "own": 99.0}, {**other, "else": -99.0})):
        table = ranking_of(a=first, b=second)
        found = rank_correlations(table)
        for pair in (("a", "b"), ("b", "a")):
            assert found.loc[pair] == pytest.approx(expected, nan_ok=True)
        assert found.loc["a", "a"] == found.loc["b", "b"] == 1
        value = rank_agreement(table, "a", "b")["spearman"]
        assert value == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (1, 0),  # A of a and of c; F of b
        (2, 0),  # A B; F E
        (3, 1 / 5),  # A B C; F E C
        (4, 2 / 6),
        (6, 1),
    ],
)
def test_the_best_scores_are_the_first_by_rank(top, expected):
    table = ranking_of(
        a=areas(6, 5, 4, 3, 2, 1), b=areas(1, 2, 4, 3, 5, 6), c=areas(9, 0, 0, 0, 0, 0)
    )
    assert top_overlap(table, top=top).loc["a", "b"] == pytest.approx(expected)
    assert rank_agreement(table, "a", "b", top=top)["top_iou"] == pytest.approx(expected)
    # Five scores share c's rank 2: they are among its best together.
    assert top_overlap(table, top=top).loc["a", "c"] == (1 if top == 1 else top / 6)
    assert top_overlap(table, top=top).loc["c", "c"] == 1


def test_five_scores_are_the_best_unless_said():
    table = ranking_of(a=areas(6, 5, 4, 3, 2, 1), b=areas(1, 5, 4, 3, 2, 6))
    assert top_overlap(table).loc["a", "b"] == pytest.approx(4 / 6)
    assert rank_agreement(table, "a", "b")["top_iou"] == pytest.approx(4 / 6)


def test_a_score_that_a_model_lacks_is_not_among_its_best():
    table = ranking_of(a=areas(6, 5, 4), b={"B": 1.0, "D": 2.0, "E": 3.0, "F": 4.0})
    assert top_overlap(table, top=4).loc["a", "b"] == pytest.approx(1 / 6)


def test_models_stand_in_the_order_in_which_they_appear():
    table = ranking_of(z=areas(1, 2), a=areas(2, 1), m=areas(1, 2))
    assert compare_models(table)["model"].tolist() == ["z", "a", "m"]
    assert compare_models(table)["top_score"].tolist() == ["B", "A", "B"]
    assert list(rank_correlations(table)) == list(top_overlap(table)) == ["z", "a", "m"]


def test_random_takes_no_part():
    table = ranking_of(a={**areas(3, 2, 1), "Random": 9.0}, b={**areas(3, 2, 1), "Random": -9.0})
    assert rank_correlations(table).loc["a", "b"] == pytest.approx(1)
    assert top_overlap(table, top=1).loc["a", "b"] == 1


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"no ranking of the model 'c'; there is \['a', 'b'\]"):
        rank_agreement(ranking_of(a=areas(1, 2), b=areas(1, 2)), "a", "c")
