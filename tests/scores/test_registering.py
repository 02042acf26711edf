"""What `score_function` refuses, and that nothing is half registered."""

import pytest
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.scores.registry import (
    REGISTRY,
    Score,
    get_score,
    listed_scores,
    register_score,
)


@pytest.fixture
def registry():
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def score(heads):
    return heads.mean_over_tokens(heads.z_norm)


MISUSES = {
    "without a name": (lambda: ih.score_function(score), r'write @score_function\("NAME", inact'),
    "an empty name": (lambda: ih.score_function(" ", inactive="below"), "needs a name"),
    "the baseline": (lambda: ih.score_function("random", inactive="below"), "'random' is the name"),
    "without a side": (
        lambda: ih.score_function("MY")(score),
        "must be .below. or .above., not None",
    ),
    "another side": (lambda: ih.score_function("MY", inactive="under")(score), "not 'under'"),
    "no function": (lambda: ih.score_function("MY", inactive="below")(5), "no function but 5"),
    "taken": (lambda: ih.score_function("AHON", inactive="below")(score), "'AHON' is registered"),
    "unknown divisor": (
        lambda: ih.score_function("MY", inactive="below", layer_mean_of="AHONN")(score),
        "unknown score 'AHONN'; did you mean 'AHON'",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISUSES.values(), ids=MISUSES)
def test_a_misuse_is_refused_and_registers_nothing(call, message, registry):
    before = dict(registry)
    with unchecked(), pytest.raises(ih.UserError, match=message):
        call()
    assert registry == before


def test_a_name_whose_normalized_form_is_taken_is_not_half_registered(registry):
    registry["MY (LN)"] = get_score("AHON (LN)")
    with pytest.raises(ih.UserError, match=r"'MY \(LN\)' is registered already"):
        ih.score_function("MY", inactive="below")(score)
    assert "MY" not in registry


def test_no_score_takes_the_place_of_another(registry):
    before = registry["AHON"]
    other = Score("AHON", score, "above")
    with pytest.raises(ih.UserError, match="'AHON' is registered already; choose another name"):
        register_score(other)
    assert registry["AHON"] is before
    register_score(own := Score("MY", score, "above"))
    assert get_score("MY") is own
    assert "MY (LN)" not in registry


@pytest.mark.parametrize(
    ("name", "near"),
    [("ahon", "AHON"), ("AHON(LN)", "AHON (LN)"), ("lthon ( hn )", "LTHON (HN)"), ("AWTF", "AWFT")],
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(ih.UserError) as caught:
        get_score(name)
    assert f"unknown score {name!r}; did you mean {near!r}? " in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", [None, 5, 1.5, ["AHON"]])
def test_what_is_no_score_is_refused(given):
    with unchecked(), pytest.raises(ih.UserError, match="a name or a function, not"):
        get_score(given)


def test_one_score_is_a_list_of_one():
    assert listed_scores("AHON (LN)") == ["AHON (LN)"]
    assert listed_scores(score) == [score]
    assert listed_scores(("A", score)) == ["A", score]
    with unchecked(), pytest.raises(ih.UserError, match="a list of names or functions, not 5"):
        listed_scores(5)
