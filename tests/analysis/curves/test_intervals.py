"""Intervals against scipy and against every possible resample, not against simulations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from inactive_heads.analysis.curves import intervals
from inactive_heads.analysis.curves.intervals import (
    resampled_sums,
    score_intervals,
    share_intervals,
    studentized_intervals,
)
from inactive_heads.analysis.curves.paired import check_resampling, paired_change
from inactive_heads.errors import UserError

WEIGHTS = np.tile([1.0, 1, 2, 4, 4, 8, 10, 30], 3)
KISH = 3 * 60**2 / (1 + 1 + 4 + 16 + 16 + 64 + 100 + 900)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_unequal_weights_count_as_kishs_number_of_items(confidence):
    z2 = stats.norm.ppf((1 + confidence) / 2) ** 2
    found = score_intervals(np.zeros((24, 1)), WEIGHTS, confidence=confidence)
    assert found.high[0] == pytest.approx(z2 / (KISH + z2), rel=1e-6)
    assert found.low[0] == pytest.approx(-z2 / (KISH + z2), rel=1e-6)
    share = share_intervals(np.ones((24, 1)), WEIGHTS, confidence=confidence)
    assert share.high[0] == pytest.approx(1)
    assert share.low[0] == pytest.approx(KISH / (KISH + z2))  # Wilson's where all are right
    for scale in (0.01, 7.0):  # only the ratios of weights count
        again = score_intervals(np.zeros((24, 1)), scale * WEIGHTS, confidence=confidence)
        assert again.high[0] == pytest.approx(found.high[0])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("right", [0, 1, 5, 22])
def test_the_interval_of_a_share_is_wilsons_at_every_level(right, confidence):
    values = (np.arange(22) < right)[:, None] * 1.0
    low, high = stats.binomtest(right, 22).proportion_ci(confidence, method="wilson")
    found = share_intervals(values, np.ones(22), confidence=confidence)
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=1e-9)


def test_halves_count_as_the_answers_with_their_standard_error():
    """0.5 and 1 in equal parts: mean 0.75, variance 1/16 where answers would have 3/16: 3 n."""
    values = np.repeat([[0.5], [1.0]], 10, axis=0)
    found = share_intervals(values, np.ones(20), confidence=0.95)
    low, high = stats.binomtest(45, 60).proportion_ci(0.95, method="wilson")
    assert (found.low[0], found.high[0]) == pytest.approx((low, high))


def students_reach(values, weights, confidence):
    """Half of Student's interval: that of equal weights, with Kish's number of items for theirs."""
    mean = np.average(values, weights=weights)
    number = weights.sum() ** 2 / (weights @ weights)
    variance = weights**2 @ (values - mean) ** 2 / weights.sum() ** 2 * number / (number - 1)
    return stats.t.ppf((1 + confidence) / 2, number - 1) * np.sqrt(variance)


def every_resample(columns, *, n_resamples, seed):
    """In place of `resampled_sums`: each of the n to the n-th possible resamples once."""
    n = len(columns)
    return np.array([columns[list(rows)].sum(axis=0) for rows in product(range(n), repeat=n)])


@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.9])
def test_the_bootstrap_t_over_every_resample(confidence, monkeypatch):
    monkeypatch.setattr(intervals, "resampled_sums", every_resample)
    monkeypatch.setattr(intervals, "FEWEST_VALUES", 5)
    rng = np.random.default_rng(3)
    n = 5
    values, weights = rng.exponential(1, (n, 3)), rng.integers(1, 4, n).astype(float)
    values[:, 2] = [0, 0, 0, 0, 1]  # resamples without the last bound nothing on one side
    found = studentized_intervals(values, weights, confidence=confidence, n_resamples=0, seed=0)

    def mean_and_error(rows, column):
        w, v = weights[rows], values[rows, column]
        mean = np.average(v, weights=w)
        return mean, np.sqrt(np.sum((w * (v - mean)) ** 2)) / w.sum()

    for column in range(3):
        mean, error = mean_and_error(np.arange(n), column)
        t = []
        for rows in product(range(n), repeat=n):
            other, its_error = mean_and_error(np.array(rows), column)
            apart = other - mean
            t.append(
                0.0
                if abs(apart) < 1e-12
                else np.inf * apart
                if its_error < 1e-12
                else apart / its_error
            )
        tail = (1 - confidence) / 2
        ranked = np.sort(t)  # the inverted CDF: the first value with that share at or below it
        least, most = (ranked[int(np.ceil(p * len(t) - 1e-9)) - 1] for p in (tail, 1 - tail))
        student = students_reach(values[:, column], weights, confidence)
        assert found.value[column] == pytest.approx(mean)
        assert found.low[column] == pytest.approx(mean - max(most * error, student), rel=1e-9)
        assert found.high[column] == pytest.approx(mean + max(-least * error, student), rel=1e-9)


@pytest.mark.parametrize("n", [40_000, 100_000])
def test_of_many_items_resamples_have_a_spread(n):
    """The variance of a mean of many items is small, and no rounding of zero."""
    values = np.random.default_rng(0).exponential(1, (n, 1))
    found = studentized_intervals(values, np.ones(n), confidence=0.9, n_resamples=60, seed=0)
    error = values.std() / np.sqrt(n)
    assert found.value - 3 * error < found.low < found.value - error
    assert found.value + error < found.high < found.value + 3 * error


@pytest.mark.parametrize("n", [10, 11, 40])
def test_no_end_is_nearer_than_students(n, monkeypatch):
    """Where resamples vary less than Student's t, it is Student's interval to the last digit."""
    values = np.random.default_rng(n).normal(size=(n, 1))

    def none_varies(columns, *, n_resamples, seed):
        return np.repeat(columns.sum(axis=0, keepdims=True), 4, axis=0)

    monkeypatch.setattr(intervals, "resampled_sums", none_varies)
    found = studentized_intervals(values, np.ones(n), confidence=0.9, n_resamples=4, seed=0)
    low, high = stats.t.interval(0.9, n - 1, values.mean(), stats.sem(values[:, 0]))
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), rel=1e-9)
    weights = np.random.default_rng(0).lognormal(0, 1, n)
    found = studentized_intervals(values, weights, confidence=0.9, n_resamples=4, seed=0)
    mean, reach = (
        np.average(values[:, 0], weights=weights),
        students_reach(values[:, 0], weights, 0.9),
    )
    assert (found.low[0], found.high[0]) == pytest.approx((mean - reach, mean + reach), rel=1e-9)


def test_resamples_do_not_depend_on_the_order_of_items_and_do_on_the_seed():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(30, 2))
    one = resampled_sums(columns, n_resamples=50, seed=1)
    assert np.array_equal(one, resampled_sums(rng.permutation(columns), n_resamples=50, seed=1))
    assert not np.array_equal(one, resampled_sums(columns, n_resamples=50, seed=2))
    assert one.shape == (50, 2)


def test_units_do_not_matter():
    rng = np.random.default_rng(1)
    values, weights = rng.exponential(1, (20, 1)), rng.integers(1, 9, 20).astype(float)
    options = {"confidence": 0.95, "n_resamples": 500, "seed": 0}
    plain = studentized_intervals(values, weights, **options)
    scaled = studentized_intervals(1e-6 * values, 1000 * weights, **options)
    np.testing.assert_allclose(np.array(scaled), 1e-6 * np.array(plain), rtol=1e-9)
    moved = studentized_intervals(values + 100, weights, **options)
    np.testing.assert_allclose(np.array(moved), np.array(plain) + 100, rtol=1e-9)
    turned = studentized_intervals(-values, weights, **options)
    np.testing.assert_allclose(turned.value, -plain.value)
    # Another order of resamples, so near and not equal.
    assert -turned.low[0] == pytest.approx(plain.high[0], rel=0.15)


def test_the_least_that_an_answer_makes_is_the_size_of_differences():
    """Two of 30 items differ by 1e-12, which is rounding: as wide as if none did."""
    rounding = np.zeros((30, 1))
    rounding[:2] = 1e-12
    none = score_intervals(np.zeros((30, 1)), np.ones(30), confidence=0.95, least=0.25)
    found = score_intervals(rounding, np.ones(30), confidence=0.95, least=0.25)
    np.testing.assert_allclose(np.array(found), np.array(none), atol=1e-9)
    whole = score_intervals(np.zeros((30, 1)), np.ones(30), confidence=0.95)
    assert none.high[0] == pytest.approx(whole.high[0] / 4)
    # Differences of one size are answers in units of it.
    wins = (np.arange(30) < 6)[:, None] * 0.5 - (np.arange(30) >= 28)[:, None] * 0.5
    halves = score_intervals(wins, np.ones(30), confidence=0.95, least=0.25)
    answers = score_intervals(2 * wins, np.ones(30), confidence=0.95)
    np.testing.assert_allclose(2 * np.array(halves), np.array(answers), rtol=1e-9)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 1.5, 95, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(UserError, match="confidence="):
        check_resampling(confidence, 10)
    with pytest.raises(UserError, match="confidence="):
        paired_change([1, 0], [0, 0], confidence=confidence)


def test_one_resample_is_the_least():
    check_resampling(0.999, 1)
    check_resampling(0.001, 1)
    for n in (0, -1):
        with pytest.raises(UserError, match=f"n_resamples={n} must be 1 or more"):
            check_resampling(0.95, n)
    assert np.isfinite(paired_change(np.arange(12) / 8, np.zeros(12), n_resamples=1)).all()
