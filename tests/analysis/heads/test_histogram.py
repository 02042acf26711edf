"""Histograms that outliers do not flatten, by hand."""

import numpy as np
import pytest

import inactive_heads as ih
from inactive_heads.analysis.heads.histogram import histogram


def test_outliers_are_counted_and_not_drawn():
    values = np.concatenate([np.linspace(0, 1, 999), [100.0]])
    edges, counts, outside = histogram(values)
    assert (len(edges), len(counts)) == (61, 60)
    low, high = np.quantile(values, [0.005, 0.995])
    assert (edges[0], edges[-1]) == (low, high)
    np.testing.assert_allclose(np.diff(edges), (high - low) / 60)
    assert outside == ((values < low) | (values > high)).sum() > 1
    assert counts.sum() + outside == len(values)


def test_the_whole_range_is_drawn_if_it_is_at_most_twice_the_middle():
    values = np.linspace(0, 1, 401)  # the middle 99% are those from index 2 to 398
    values[:2], values[2], values[398], values[399:] = [-0.5, 0], 0, 1, [1, 1.5]
    edges, counts, outside = histogram(values, bins=4)
    np.testing.assert_array_equal(edges, [-0.5, 0, 0.5, 1, 1.5])
    assert (counts.sum(), outside) == (401, 0)
    values[0] -= 0.01
    edges, _, outside = histogram(values, bins=4)
    assert (edges[0], edges[-1], outside) == (0, 1, 2)


def test_values_of_one_size_have_a_bar_in_the_middle():
    edges, counts, outside = histogram(np.full((2, 3), 7.0), bins=2)
    assert edges.tolist() == [6.5, 7, 7.5]
    assert (counts.tolist(), outside) == ([0, 6], 0)
    many = np.zeros(1000)
    many[0] = 5
    assert histogram(many, bins=5)[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_not_finite_is_left_out():
    edges, counts, outside = histogram(np.array([np.nan, 0, 1, np.inf, 2, -np.inf]), bins=2)
    assert (edges.tolist(), counts.tolist(), outside) == ([0, 1, 2], [1, 2], 0)
    with pytest.raises(ih.UserError, match="there is no finite value"):
        histogram(np.array([np.nan]))
