"""Heads over checkpoints and finetuning, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from inactive_heads.analysis import (
    changed_heads,
    checkpoint_shares,
    inactive_states,
    transition_counts,
    turning_heads,
)
from inactive_heads.errors import UserError


def scores_of(*inputs: list[float], layers: tuple[int, ...] = (3,)) -> xr.DataArray:
    """One score "S" of one layer; a row of heads for each input. Inactive is below 0.5."""
    values = np.array(inputs, dtype=float).reshape(1, len(inputs), len(layers), -1)
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["S"], "inactive": ("score", ["below"]), "layer": list(layers)}
        | {"head": range(values.shape[-1])},
    )


CUTS = xr.DataArray([[0.5]], dims=("score", "percent"), coords={"score": ["S"], "percent": [10.0]})
COURSE = [
    ("step 0", scores_of([1, 1, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1])),
    ("step 1", scores_of([0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1])),
    ("step 2", scores_of([1, 0, 0, 1], [1, 0, 0, 0], [1, 1, 1, 0])),
]


def test_shares_at_fixed_thresholds():
    found = checkpoint_shares(COURSE, CUTS, 10)
    assert found.dims == ("score", "checkpoint")
    assert found["checkpoint"].to_numpy().tolist() == ["step 0", "step 1", "step 2"]
    np.testing.assert_allclose(found.sel(score="S"), [4 / 12, 7 / 12, 6 / 12])


def test_heads_that_turn_and_turn_back():
    states = inactive_states(COURSE, CUTS, 10)
    grid = states.sel(score="S", layer=3).transpose("checkpoint", "head").to_numpy()
    assert grid.astype(int).tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1]]
    steps = transition_counts(states)
    columns = ["before", "after", "turned_inactive", "turned_active", "inactive"]
    assert steps[columns].to_numpy().tolist() == [
        ["step 0", "step 1", 2, 0, 3],
        ["step 1", "step 2", 1, 1, 3],
    ]
    turning = turning_heads(states)
    assert turning[["layer", "head", "turns", "back"]].to_numpy().tolist() == [
        [3, 0, 2, True],
        [3, 1, 1, False],
        [3, 3, 1, False],
    ]
    assert turning["path"][0] == "step 0: active, step 1: inactive, step 2: active"


def test_heads_that_finetuning_changes():
    found = changed_heads(COURSE[0][1], COURSE[1][1], CUTS, 10)
    assert found[["score", "layer", "head"]].to_numpy().tolist() == [["S", 3, 0], ["S", 3, 1]]
    np.testing.assert_allclose(found["before"], [0, 100 / 3])
    np.testing.assert_allclose(found["after"], [200 / 3, 200 / 3])
    np.testing.assert_allclose(found["change"], [200 / 3, 100 / 3])
    assert changed_heads(COURSE[0][1], COURSE[0][1], CUTS, 10).empty


def test_half_of_the_inputs_is_not_most():
    two_of_four = scores_of([0, 0], [0, 0], [1, 0], [1, 1])
    assert inactive_states([("a", two_of_four), ("b", two_of_four)], CUTS, 10)[
        0, 0, 0
    ].values.tolist() == [
        False,
        True,
    ]
    none, half = scores_of(*[[1.0]] * 4), scores_of([0.0], [0.0], [1.0], [1.0])
    assert changed_heads(none, half, CUTS, 10).empty
    assert changed_heads(half, none, CUTS, 10).empty
    # 51 of 101 inputs are more than half of them.
    none, most = scores_of(*[[1.0]] * 101), scores_of(*[[0.0]] * 51, *[[1.0]] * 50)
    assert changed_heads(none, most, CUTS, 10)["after"].tolist() == pytest.approx([5100 / 101])
    assert changed_heads(most, none, CUTS, 10)["before"].tolist() == pytest.approx([5100 / 101])


def test_tables_go_score_by_score_and_by_how_much_turns():
    """Two scores whose names are not in alphabetical order, two layers, two heads, one input."""
    coords = {"score": ["Z", "A"], "inactive": ("score", ["below", "above"]), "layer": [2, 7]}
    cuts = xr.DataArray(
        [[0.5], [0.5]], dims=("score", "percent"), coords={"score": ["Z", "A"], "percent": [10.0]}
    )

    def scores(*values):
        return xr.DataArray(
            np.array(values, dtype=float).reshape(2, 1, 2, 2),
            dims=("score", "sample", "layer", "head"),
            coords={**coords, "head": range(2)},
        )

    # L2H0 and L7H0 turn once, L7H1 twice, L2H1 never; of A, all but L7H1 turn once.
    course = [
        ("first", scores([1, 1, 1, 1], [0, 0, 0, 0])),
        ("second", scores([1, 1, 0, 0], [1, 1, 1, 0])),
        ("third", scores([0, 1, 0, 1], [1, 1, 1, 0])),
    ]
    turning = turning_heads(inactive_states(course, cuts, 10))
    assert turning[["score", "layer", "head", "turns"]].to_numpy().tolist() == [
        ["Z", 7, 1, 2],
        ["Z", 2, 0, 1],
        ["Z", 7, 0, 1],
        ["A", 2, 0, 1],
        ["A", 2, 1, 1],
        ["A", 7, 0, 1],
    ]
    assert turning["back"].tolist() == [True, *[False] * 5]
    counts = transition_counts(inactive_states(course, cuts, 10))
    assert counts.to_numpy().tolist() == [
        ["Z", "first", "second", 2, 0, 2],
        ["Z", "second", "third", 1, 1, 2],
        ["A", "first", "second", 3, 0, 3],
        ["A", "second", "third", 0, 0, 3],
    ]
    changed = changed_heads(course[0][1], course[1][1], cuts, 10)
    assert changed[["score", "layer", "head"]].to_numpy().tolist() == [
        ["Z", 7, 0],
        ["Z", 7, 1],
        ["A", 2, 0],
        ["A", 2, 1],
        ["A", 7, 0],
    ]
    assert changed["change"].tolist() == [100] * 5


def test_what_is_no_course_is_refused():
    with pytest.raises(UserError, match=r"two checkpoints or more, not \['step 0'\]"):
        checkpoint_shares(COURSE[:1], CUTS, 10)
    with pytest.raises(UserError, match="stands twice"):
        checkpoint_shares([COURSE[0], COURSE[0]], CUTS, 10)
    with pytest.raises(UserError, match=r"'step 0' and 'x' differ in their layers: \[3\], \[4\]"):
        inactive_states([COURSE[0], ("x", scores_of([1, 1, 0, 1], layers=(4,)))], CUTS, 10)
    with pytest.raises(UserError, match="no thresholds for 20%"):
        inactive_states(COURSE, CUTS, 20)
