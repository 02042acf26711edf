"""Heads input by input: by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import inactive_heads as ih
from inactive_heads.analysis import (
    cache_shares,
    group_shares,
    inactive_shares,
    key_value_groups,
    layer_shares,
    length_correlations,
    length_shares,
    split_heads,
)
from inactive_heads.analysis.heads.per_input import lengths_vary
from inactive_heads.errors import UserError


@pytest.fixture
def inactive() -> xr.DataArray:
    """One score, three inputs of 10, 30 and 60 tokens, one layer of four heads."""
    mask = np.array([[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[1, 0, 1, 0]]], dtype=bool)[None]
    return xr.DataArray(
        mask,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["S"], "layer": [5], "n_tokens": ("sample", [10, 30, 60])},
    )


def test_shares_and_the_split(inactive):
    shares = inactive_shares(inactive)
    np.testing.assert_allclose(shares.sel(score="S", layer=5), [1, 2 / 3, 2 / 3, 0])
    busier = inactive.assign_coords(layer=[7]) | True
    by_layer = layer_shares(xr.concat([inactive, busier], dim="layer"))
    np.testing.assert_allclose(by_layer.sel(score="S"), [7 / 12, 1])
    assert by_layer["layer"].to_numpy().tolist() == [5, 7]
    row = split_heads(inactive).iloc[0]
    assert row[["always", "sometimes", "never"]].tolist() == [1, 2, 1]


def test_shares_of_groups(inactive):
    found = group_shares(inactive, ["law", "art", "law"])
    assert found["group"].to_numpy().tolist() == ["law", "art"]
    assert found["n"].to_numpy().tolist() == [2, 1]
    np.testing.assert_allclose(found.sel(score="S"), [4 / 8, 3 / 4])
    named = inactive.assign_coords(group=("sample", ["a", "a", "b"]))
    np.testing.assert_allclose(group_shares(named).sel(score="S"), [5 / 8, 2 / 4])
    with pytest.raises(UserError, match="no groups"):
        group_shares(inactive)
    with pytest.raises(UserError, match="2 groups for 3 inputs"):
        group_shares(inactive, ["a", "b"])


def test_shares_by_length(inactive):
    found = length_shares(inactive, bins=2)
    assert found["shortest"].to_numpy().tolist() == [10, 60]
    assert found["longest"].to_numpy().tolist() == [30, 60]
    assert found["n"].to_numpy().tolist() == [2, 1]
    np.testing.assert_allclose(found.sel(score="S"), [5 / 8, 2 / 4])
    one = length_shares(inactive, [7, 7, 7])
    assert (one.sizes["bin"], int(one["n"][0])) == (1, 3), "inputs of one length are never parted"
    with pytest.raises(UserError, match=r"shape \(2,\) for 3 inputs"):
        length_shares(inactive, [1, 2])
    with pytest.raises(UserError, match="lengths are not known"):
        length_shares(inactive.drop_vars("n_tokens"))


def test_bins_have_about_as_many_inputs_each():
    lengths = np.array([9, 1, 8, 2, 7, 3, 6, 4, 5, 10]) ** 2
    mask = xr.DataArray(
        (lengths > 30)[None, :, None, None],
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["S"], "n_tokens": ("sample", lengths)},
    )
    found = length_shares(mask)  # five bins
    assert found["n"].to_numpy().tolist() == [2] * 5
    assert found["shortest"].to_numpy().tolist() == [1, 9, 25, 49, 81]
    assert found["longest"].to_numpy().tolist() == [4, 16, 36, 64, 100]
    np.testing.assert_allclose(found["mean"], [2.5, 12.5, 30.5, 56.5, 90.5])
    np.testing.assert_allclose(found.sel(score="S"), [0, 0, 0.5, 1, 1])
    assert length_shares(mask, bins=1)["n"].to_numpy().tolist() == [10]


def test_a_trend_needs_three_lengths():
    for lengths, vary in (([5, 5, 5], False), ([5, 6, 5], False), ([5, 6, 7], True)):
        given = xr.DataArray(np.zeros(3), dims="sample")
        assert lengths_vary(given.assign_coords(n_tokens=("sample", lengths))) is vary
        assert not lengths_vary(given)


def test_correlation_with_length_is_spearman_s():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (2, 12, 3, 4)).astype(float)  # with ties
    values[0, :, 0, 0] = 1.0
    values[0, 3, 0, 1] = np.nan
    lengths = rng.integers(5, 12, 12)
    scores = xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["A", "B"], "n_tokens": ("sample", lengths)},
    )
    found = length_correlations(scores)
    assert np.isnan(found[0, 0, :2]).all(), "constant, and not known"
    for place in [(0, 1, 2), (0, 2, 3), (1, 0, 0), (1, 2, 1)]:
        own = values[place[0], :, place[1], place[2]]
        expected = stats.spearmanr(own, lengths).statistic
        assert float(found[place]) == pytest.approx(expected)
    assert length_correlations(scores, [8] * 12).isnull().all()


def test_key_value_groups_and_the_cache(inactive):
    groups = key_value_groups(inactive, 2)
    assert groups.dims == ("score", "sample", "layer", "kv_head")
    assert groups.to_numpy()[0, :, 0].tolist() == [[True, False], [True, False], [False, False]]
    row = cache_shares(inactive, 2).iloc[0]
    # Half of the keys and values of the inputs of 10 and 30 tokens, of 100 tokens in all.
    assert row["cache"] == pytest.approx(100 * 0.5 * 40 / 100)
    assert row["always"] == 0
    alone = cache_shares(inactive, 4).iloc[0]
    assert alone["always"] == 25
    assert alone["cache"] == pytest.approx((0.5 * 10 + 0.75 * 30 + 0.5 * 60) / 100 * 100)
    with pytest.raises(UserError, match="4 heads do not part into 3"):
        key_value_groups(inactive, 3)
    with pytest.raises(UserError, match="4 heads do not part into 0"):
        key_value_groups(inactive, 0)
    assert key_value_groups(inactive, 1).to_numpy().tolist() == [[[[False]]] * 3]


def test_scores_say_how_heads_share_keys_and_values():
    model = ih.load_model("llama-style-tiny")
    scores = ih.score_heads(model, [[1, 2, 3]], scores=["AHON"])
    assert scores.attrs["n_key_value_heads"] == model.shape.n_key_value_heads
