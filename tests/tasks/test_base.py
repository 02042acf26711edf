"""Which items are chosen: of some subjects, spread evenly, and drawn by the seed."""

from collections import Counter

import pytest

import inactive_heads as ih
from inactive_heads.tasks.base import choose_evenly

SIZES = {"a": 1, "b": 3, "c": 5}
ITEMS = [(subject, index) for subject, n in SIZES.items() for index in range(n)]


def chosen(limit, subjects=None, seed=0, items=ITEMS):
    return choose_evenly(items, lambda item: item[0], subjects, limit, seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("limit", range(1, 11))
def test_a_limit_takes_one_of_each_subject_in_turn(limit, seed):
    found = chosen(limit, seed=seed)
    assert len(set(found)) == len(found) == min(limit, len(ITEMS))
    assert set(found) <= set(ITEMS)
    # Rounds of a, b, c; b, c; b, c; c; c.
    assert "".join(subject for subject, _ in found) == "abcbcbccc"[:limit]
    assert found == chosen(10, seed=seed)[:limit]


def test_the_seed_draws_the_items_of_every_subject():
    draws = {tuple(chosen(5, seed=seed)) for seed in range(30)}
    assert len(draws) > 10
    for subject, n in (("b", 3), ("c", 5)):
        first = {next(item for item in draw if item[0] == subject) for draw in draws}
        assert len(first) == n


def test_without_a_limit_all_items_come_subject_by_subject():
    turned = ITEMS[::-1]
    assert chosen(None, items=turned) == turned
    mixed = [("b", 0), ("a", 0), ("b", 1), ("a", 1)]
    assert chosen(None, items=mixed) == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert chosen(None, ["c", "a"]) == [item for item in ITEMS if item[0] in "ac"]
    assert Counter(subject for subject, _ in chosen(4, ["c", "b"])) == {"b": 2, "c": 2}


@pytest.mark.parametrize(("n", "more"), [(3, ""), (10, ""), (11, " and 1 more")])
def test_an_unknown_subject_gets_the_nearest_ten(n, more):
    names = [f"s{index:02d}" for index in range(n)]
    items = [(name, 0) for name in names]
    with pytest.raises(ih.UserError) as error:
        chosen(None, ["zzz"], items=items)
    assert str(error.value) == f"unknown subject 'zzz'; there are: {', '.join(names[:10])}{more}"
    with pytest.raises(ih.UserError, match="unknown subject 's002'; there are: s02, "):
        chosen(None, ["s002"], items=items)
