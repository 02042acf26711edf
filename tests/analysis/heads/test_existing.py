"""Heads that exist, told by the number of each layer and not by NaN."""

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih
from inactive_heads.analysis import (
    cache_shares,
    checkpoint_shares,
    inactive_at,
    inactive_counts,
    inactive_shares,
    key_value_groups,
    layer_shares,
    length_correlations,
    split_heads,
    transition_counts,
)
from inactive_heads.analysis.heads.existing import check_absent, existing_heads, exists_at
from inactive_heads.analysis.heads.histogram import histogram
from inactive_heads.analysis.models.checkpoints import inactive_states

DIMS = ("score", "sample", "layer", "head")
EXISTS = np.array([[True, True, True, True], [True, True, False, False]])


def scores_of(values, **sizes):
    coords = {"score": ["S"], "inactive": ("score", ["below"]), "layer": [2, 5], "head": range(4)}
    coords |= {name: ("layer", own) for name, own in sizes.items()}
    coords["n_tokens"] = ("sample", [10, 30])
    return xr.DataArray(np.where(EXISTS, values, np.nan)[None], dims=DIMS, coords=coords)


VALUES = np.array(
    [[[0.1, 0.1, 0.9, 0.9], [0.1, 0.9, 0, 0]], [[0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0, 0]]]
)
SCORES = scores_of(VALUES, n_heads=[4, 2])
CUTS = xr.DataArray([[0.5]], dims=("score", "percent"), coords={"score": ["S"], "percent": [50.0]})
INACTIVE = inactive_at(SCORES, CUTS, 50)


def test_which_heads_exist():
    assert exists_at(SCORES).tolist() == EXISTS.tolist()
    assert existing_heads(SCORES.sel(layer=5)).values.tolist() == [True, True, False, False]
    assert existing_heads(SCORES.sel(layer=2)) is None
    assert existing_heads(SCORES.sel(layer=5, head=[3, 0])).values.tolist() == [False, True]
    assert not bool(existing_heads(SCORES.sel(layer=5, head=3)))
    assert existing_heads(SCORES.drop_vars("n_heads")) is None
    assert existing_heads(SCORES.mean(("layer", "head"))) is None


def test_thresholds_and_shares_by_hand():
    # 12 scores, 6 of them 0.1.
    assert float(ih.choose_thresholds(SCORES, 50)[0, 0]) == 0.1
    assert INACTIVE.values[0, :, 1, 2:].any() == False  # noqa: E712
    np.testing.assert_allclose(layer_shares(INACTIVE)[0], [3 / 8, 3 / 4])
    np.testing.assert_allclose(
        inactive_shares(INACTIVE)[0], [[1, 0.5, 0, 0], [1, 0.5, np.nan, np.nan]]
    )
    assert split_heads(INACTIVE).iloc[0].tolist() == ["S", 2, 2, 2]
    assert inactive_counts(SCORES, CUTS, 50)[0].values.tolist() == [[2, 1, 0, 0], [2, 1, 0, 0]]
    np.testing.assert_allclose(checkpoint_shares([("a", SCORES), ("b", SCORES)], CUTS, 50)[0], 0.5)
    assert np.isnan(length_correlations(SCORES).values[0, 1, 2:]).all()
    _, counts, beyond = histogram(SCORES.values)
    assert counts.sum() + beyond == 12


def test_a_number_at_a_head_that_a_layer_lacks_is_refused_by_name():
    message = "value at L5H2, and layer 5 has heads 0 to 1"
    for call in (
        lambda scores: ih.choose_thresholds(scores, 50),
        lambda scores: ih.select_heads(scores, "S", 50),
        lambda scores: inactive_at(scores, CUTS, 50),
        lambda scores: ih.inactive_heads(scores.sel(score="S"), CUTS),
    ):
        with pytest.raises(ih.UserError, match=message):
            call(SCORES.fillna(0.0))
    with pytest.raises(ih.UserError, match=message):
        check_absent(SCORES.fillna(0.0).sel(layer=5, sample=0), "scores")
    with pytest.raises(ih.UserError, match="value at L5H3"):
        check_absent(SCORES.fillna(0.0).sel(layer=5, head=3), "scores")
    check_absent(SCORES, "scores")
    check_absent(INACTIVE, "mask")


def test_a_score_that_is_undefined_is_not_an_absent_head():
    undefined = VALUES.copy()
    undefined[1, 0, 0] = np.nan  # L2H0, which exists
    scores = scores_of(undefined, n_heads=[4, 2])
    assert exists_at(scores).tolist() == EXISTS.tolist()
    mask = inactive_at(scores, CUTS, 50)
    # 2 of 3 heads of input 1 in L2 that have a score, none of them inactive.
    np.testing.assert_allclose(layer_shares(mask)[0], [2 / 7, 3 / 4])
    groups = key_value_groups(mask, 1)
    assert "defined" not in groups.coords, "every group has a head with a score"
    assert groups.values[0].tolist() == [[[False], [False]], [[False], [True]]]
    groups = key_value_groups(inactive_at(scores_of(undefined * 0 + 0.1), CUTS, 50), 4)
    assert groups.values[0, 1, 0].tolist() == [False, True, True, True]


def test_key_value_groups_of_each_layers_own_number():
    own = scores_of(VALUES, n_heads=[4, 2], n_key_value_heads=[2, 1])
    groups = key_value_groups(inactive_at(own, CUTS, 50))
    assert groups.values[0].tolist() == [
        [[True, False], [False, False]],
        [[False, False], [True, False]],
    ]
    assert groups["defined"].values[0].tolist() == [[[True, True], [True, False]]] * 2
    row = cache_shares(inactive_at(own, CUTS, 50)).iloc[0]
    # A third of the keys and values of each input, of 10 and 30 tokens.
    assert row["cache"] == pytest.approx(100 / 3)
    assert row["always"] == 0
    with pytest.raises(ih.UserError, match="2 heads do not part into 4 key/value groups"):
        key_value_groups(INACTIVE, 4)
    with pytest.raises(ih.UserError, match="give n_key_value_heads"):
        cache_shares(INACTIVE)


def test_wider_heads_hold_more_of_the_cache():
    own = scores_of(VALUES, n_heads=[4, 2], n_key_value_heads=[2, 1], d_head=[8, 32])
    row = cache_shares(inactive_at(own, CUTS, 50)).iloc[0]
    # Input 0: a group of width 8 of 8 + 8 + 32; input 1: the group of width 32.
    assert row["cache"] == pytest.approx(100 * (10 * 8 / 48 + 30 * 32 / 48) / 40)


def test_layers_that_read_another_layers_keys_and_values():
    values = np.array([[[0.1, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.1]]] * 2)
    coords = {"score": ["S"], "inactive": ("score", ["below"]), "layer": [2, 5], "head": range(4)}
    coords |= {"key_value_layer": ("layer", [2, 2]), "n_tokens": ("sample", [10, 30])}
    own = xr.DataArray(values[None], dims=DIMS, coords=coords)
    mask = inactive_at(own, CUTS, 50)
    groups = key_value_groups(mask, 4)
    assert groups.values[0, 0].tolist() == [[True, False, False, True], [False] * 4]
    assert groups["defined"].values[0, 0].tolist() == [[True] * 4, [False] * 4]
    assert cache_shares(mask, 4).iloc[0].tolist() == ["S", 50.0, 50.0]


def test_heads_over_checkpoints():
    states = inactive_states([("a", SCORES), ("b", SCORES)], CUTS, 50)
    assert not states.values[..., 1, 2:].any()
    assert transition_counts(states)["inactive"].tolist() == [2]
    whole = SCORES.drop_vars("n_heads").fillna(0.9)
    with pytest.raises(ih.UserError, match=r"differ in their heads per layer: \[4, 2\], \[4, 4\]"):
        checkpoint_shares([("a", SCORES), ("b", whole)], CUTS, 50)


def test_a_file_keeps_which_heads_exist(tmp_path):
    SCORES.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    again = xr.load_dataarray(tmp_path / "scores.nc", engine="h5netcdf")
    assert exists_at(again).tolist() == EXISTS.tolist()
    np.testing.assert_array_equal(again.values, SCORES.values)
    table = SCORES.to_dataframe(name="value").reset_index()
    table.to_csv(tmp_path / "scores.csv", index=False)
    found = table.set_index(["score", "sample", "layer", "head"])["value"].to_xarray()
    np.testing.assert_array_equal(found.values, SCORES.values)
