"""What inactive heads have in common: medians and key/value groups counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import inactive_heads as ih
from inactive_heads.analysis.heads.traits import (
    DEPTH,
    GROUP,
    LENGTH,
    TRAITS,
    head_traits,
    in_whole_groups,
)


def made(n_layers=3, n_heads=4, n_samples=5, **more):
    names = [trait.score for trait in TRAITS]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(names), n_samples, n_layers, n_heads))
    coords = {"score": names, "inactive": ("score", ["above", *["below"] * (len(names) - 1)])}
    coords |= {"layer": range(n_layers), "head": range(n_heads), "sample": range(n_samples)}
    coords |= {"n_tokens": ("sample", [10, 20, 30, 40, 50][:n_samples])}
    dims = ("score", "sample", "layer", "head")
    attrs = more.pop("attrs", {})
    return xr.DataArray(values, dims=dims, coords=coords | more, attrs=attrs)


def traits_of(scores, score="AWFT", percent=25):
    heads = ih.select_heads(scores, score, percent)
    return head_traits(scores, score, heads).set_index("trait"), heads


def test_medians_are_those_of_the_heads_written_out():
    scores = made()
    table, heads = traits_of(scores)
    pairs = [(layer, head) for layer in range(3) for head in range(4)]
    inside = [pair for pair in pairs if heads.values[pair]]
    assert len(inside) == 3
    for trait in TRAITS:
        mean = {
            pair: float(np.mean([scores.sel(score=trait.score).values[n][pair] for n in range(5)]))
            for pair in pairs
        }
        own = sorted(mean[pair] for pair in inside)[1]
        rest = sorted(mean[pair] for pair in pairs if pair not in inside)
        row = table.loc[trait.words]
        assert row["inactive"] == pytest.approx(own)
        assert row["others"] == pytest.approx(rest[4])
    assert table.loc[DEPTH, "inactive"] == sorted(layer / 2 for layer, _ in inside)[1]


def test_the_correlation_with_length_is_that_of_the_chosen_score():
    scores = made()
    grown = scores["n_tokens"].values[:, None, None] + 100.0 * np.arange(12).reshape(3, 4)
    scores[0], scores[1] = grown, -grown
    for score, expected in (("AWFT", 1.0), ("AEQD", -1.0)):
        table, _ = traits_of(scores, score)
        assert table.loc[LENGTH].tolist() == pytest.approx([expected, expected])
    alike = scores.assign_coords(n_tokens=("sample", [10, 10, 20, 20, 20]))
    assert LENGTH not in traits_of(alike)[0].index


def test_an_empty_side_has_no_median():
    table, heads = traits_of(made(), percent=0)
    assert not heads.any()
    assert table["inactive"].isna().all()
    assert table["others"].notna().all()
    table = head_traits(made(), "AWFT", ~heads)
    assert table["others"].isna().all()
    assert table["inactive"].notna().all()


def mask_of(inside, layers=2, **more):
    values = np.zeros((layers, 4), dtype=bool)
    for pair in inside:
        values[pair] = True
    attrs = more.pop("attrs", {})
    coords = {"layer": range(layers), "head": range(4)}
    return xr.DataArray(values, dims=("layer", "head"), coords=coords | more, attrs=attrs)


@pytest.mark.parametrize(
    ("more", "inside", "whole"),
    [
        ({"attrs": {"n_key_value_heads": 2}}, [(0, 0), (0, 1), (1, 2)], [(0, 0), (0, 1)]),
        ({"attrs": {"n_key_value_heads": 2}}, [(0, 1), (0, 2)], []),
        (
            {"attrs": {"n_key_value_heads": 1}},
            [(0, h) for h in range(4)],
            [(0, h) for h in range(4)],
        ),
        # Layers that differ: two groups of two, and one of two heads.
        (
            {"n_heads": ("layer", [4, 2]), "n_key_value_heads": ("layer", [2, 1])},
            [(0, 2), (0, 3), (1, 0), (1, 1)],
            [(0, 2), (0, 3), (1, 0), (1, 1)],
        ),
        ({"n_heads": ("layer", [4, 2]), "n_key_value_heads": ("layer", [2, 1])}, [(1, 0)], []),
        # The second layer reads the first one's keys and values.
        (
            {
                "n_heads": ("layer", [4, 4]),
                "n_key_value_heads": ("layer", [2, 2]),
                "key_value_layer": ("layer", [0, 0]),
            },
            [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)],
            [(0, 0), (0, 1), (1, 0), (1, 1)],
        ),
    ],
)
def test_heads_in_groups_that_are_inactive_as_a_whole(more, inside, whole):
    found = in_whole_groups(mask_of(inside, **more))
    assert found is not None
    assert [tuple(pair) for pair in np.argwhere(found.values).tolist()] == whole


@pytest.mark.parametrize("more", [{}, {"attrs": {"n_key_value_heads": 4}}])
def test_without_shared_keys_there_are_no_groups(more):
    assert in_whole_groups(mask_of([(0, 0)], **more)) is None


def test_the_share_in_whole_groups_is_a_percent_of_the_set():
    scores = made(attrs={"n_key_value_heads": 2})
    heads = mask_of([(0, 0), (0, 1), (1, 3), (2, 2)], 3, attrs={"n_key_value_heads": 2})
    table = head_traits(scores, "AWFT", heads).set_index("trait")
    assert table.loc[GROUP, "inactive"] == 50.0
    assert np.isnan(table.loc[GROUP, "others"])
