"""Intervals by their coverage; McNemar's test and divergences by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from inactive_heads.analysis.curves.intervals import (
    resampled_sums,
    score_intervals,
    share_intervals,
    studentized_intervals,
)
from inactive_heads.analysis.curves.paired import choice_kl, mcnemar_p, paired_change
from inactive_heads.errors import UserError


def answers(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Own and baseline answers of which so many turned right and wrong."""
    own, baseline = np.zeros(n, bool), np.zeros(n, bool)
    own[:won], baseline[won : won + lost] = True, True
    return own, baseline


def test_the_score_interval_is_tango_s():
    # Airway hyper-responsiveness (Fagerland, Lydersen and Laake 2014): 1, 1, 7 and 12 children.
    found = paired_change(*answers(1, 7, 21))
    assert found == pytest.approx((-6 / 21, -0.517, -0.026), abs=5e-4)

    # Where it ends, the most likely shares with that difference put the estimate 1.96 errors off.
    won, lost, n = 9, 2, 60
    for end in paired_change(*answers(won, lost, n), confidence=0.95)[1:]:

        def unlikeliness(less: float, gap: float = end) -> float:
            more = less + gap  # the shares lost and won
            table = np.array([more, less, 1 - more - less])
            return -float(np.array([won, lost, n - won - lost]) @ np.log(table))

        span = (max(0, -end) + 1e-9, (1 - end) / 2 - 1e-9)
        less = optimize.minimize_scalar(unlikeliness, bounds=span, options={"xatol": 1e-10}).x
        error = np.sqrt((2 * less + end - end**2) / n)
        assert abs((won - lost) / n - end) / error == pytest.approx(1.959964, rel=1e-4)


def test_no_changed_answer_is_no_certainty():
    value, low, high = paired_change(np.ones(100), np.ones(100))
    reach = 1.959964**2 / (100 + 1.959964**2)
    assert (value, low, high) == pytest.approx((0, -reach, reach))
    # A share of changed answers at that end is missed by 100 questions as rarely as it should be.
    assert 0.01 < (1 - reach) ** 100 < 0.05
    assert paired_change(np.ones(30), np.zeros(30)).high == pytest.approx(1)
    # The same loss to the last digit is the same computation.
    assert paired_change(0.3 * np.ones(10), 0.3 * np.ones(10)) == (0, 0, 0)


@pytest.mark.parametrize("n", [30, 50, 100])
def test_coverage_for_right_and_wrong_answers(n):
    """Exact: the chance of every table whose interval holds the truth."""
    won, lost = (counts.ravel() for counts in np.indices((n + 1, n + 1)))
    possible = won + lost <= min(n, 45)
    won, lost = won[possible], lost[possible]
    item = np.arange(n)[:, None]
    differences = (item < won) * 1.0 - ((item >= won) & (item < won + lost))
    found = score_intervals(differences, np.ones(n), confidence=0.95)
    some = 17
    one = paired_change(*answers(won[some], lost[some], n))
    assert one == pytest.approx([end[some] for end in found])

    for p_won, p_lost in [
        (0.08, 0.08),
        (0.1, 0.1),
        (0.05, 0.15),
        (0.02, 0.15),
        (0, 0.2),
        (0, 0.05),
    ]:
        chance = stats.multinomial.pmf(
            np.column_stack([won, lost, n - won - lost]), n, [p_won, p_lost, 1 - p_won - p_lost]
        )
        truth = p_won - p_lost
        coverage = chance[(found.low <= truth) & (truth <= found.high)].sum()
        assert coverage >= 0.92, (p_won, p_lost)
        # Where hardly an answer changes, no interval that can be 0 covers less than nearly always.
        assert coverage <= (0.98 if n * (p_won + p_lost) >= 4 else 1), (p_won, p_lost)


SKEWED = {
    "exponential": lambda rng, n, tokens: rng.exponential(1, n),
    "lognormal": lambda rng, n, tokens: rng.lognormal(0, 0.7, n),
    "short texts vary more": lambda rng, n, tokens: (
        0.05 + (rng.gamma(1.5, 1, n) + 0.6 * rng.standard_t(4, n)) / np.sqrt(tokens / 100)
    ),
}


@pytest.mark.parametrize("draw", SKEWED.values(), ids=SKEWED)
def test_coverage_for_skewed_losses_weighted_by_tokens(draw):
    rng = np.random.default_rng(7)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        tokens = rng.integers(10, 3000, n).astype(float)
        return draw(rng, n, tokens), tokens

    many, their_tokens = sample(2_000_000)
    truth, hits = np.average(many, weights=their_tokens), 0
    for seed in range(1000):
        change, tokens = sample(30)
        before = rng.gamma(9, 0.35, 30)
        own = before + change
        _, low, high = paired_change(own, before, tokens, n_resamples=400, seed=seed)
        hits += low <= truth <= high
    assert 0.92 <= hits / 1000 <= 0.98


def test_the_bootstrap_t_is_what_it_says():
    """Against resampling items one sample after another."""
    rng = np.random.default_rng(3)
    values, weights = rng.exponential(1, (40, 2)), rng.integers(1, 9, 40).astype(float)
    found = studentized_intervals(values, weights, confidence=0.9, n_resamples=20_000, seed=1)

    def mean_and_error(rows: np.ndarray, column: int) -> tuple[float, float]:
        w, v = weights[rows], values[rows, column]
        mean = np.average(v, weights=w)
        return mean, np.sqrt(np.sum((w * (v - mean)) ** 2)) / w.sum()

    for column in (0, 1):
        mean, error = mean_and_error(np.arange(40), column)
        draws = [mean_and_error(rng.integers(40, size=40), column) for _ in range(20_000)]
        t = [(other - mean) / its_error for other, its_error in draws]
        # The skewness takes the upper end beyond Student's, the lower end stays there.
        high = mean - np.quantile(t, 0.05) * error
        assert found.value[column] == pytest.approx(mean)
        assert found.high[column] == pytest.approx(high, abs=0.01)
    assert np.all(found.high - found.value > found.value - found.low), "skewed to the right"


def test_an_end_that_the_data_do_not_bound_is_infinite():
    own = np.zeros(100)
    own[0] = 1.5  # a resample is without it in 37 of 100 cases
    value, low, high = paired_change(own, np.zeros(100))
    assert value == pytest.approx(0.015)
    assert low < 0
    assert high == np.inf


def test_the_interval_of_a_share_is_wilson_s():
    values = np.repeat([[1.0], [0.0]], [7, 33], axis=0)
    wilson = stats.binomtest(7, 40).proportion_ci(0.95, method="wilson")
    found = share_intervals(values, np.full(40, 3.0), confidence=0.95)
    assert (found.low[0], found.high[0]) == pytest.approx((wilson.low, wilson.high))
    # Values between 0 and 1 vary less: nearly as many 0.5 + 0.5 * answer as four times the answers.
    halves = share_intervals(0.5 + (values - 0.5) / 2, np.ones(40), confidence=0.95)
    assert halves.high[0] - halves.low[0] < 0.6 * (found.high[0] - found.low[0])


def test_resamples_draw_as_many_items_as_there_are(monkeypatch):
    columns = np.column_stack([np.ones(50), np.arange(50.0)])
    sums = resampled_sums(columns, n_resamples=3000, seed=0)
    assert np.all(sums[:, 0] == 50)
    assert sums[:, 1].mean() / 50 == pytest.approx(24.5, abs=0.15)
    assert sums[:, 1].std() / 50 == pytest.approx(np.arange(50).std() / np.sqrt(50), rel=0.05)
    monkeypatch.setattr(
        "inactive_heads.analysis.curves.intervals.CHUNK", 120
    )  # two resamples at a time
    chunked = resampled_sums(columns, n_resamples=3000, seed=0)
    assert chunked[:, 1].std() == pytest.approx(sums[:, 1].std(), rel=0.05)


def test_mcnemar():
    assert mcnemar_p(*answers(1, 8, 30)) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar_p(*answers(8, 1, 30)) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar_p(*answers(20, 31, 400)) == stats.binomtest(20, 51).pvalue
    assert mcnemar_p(*answers(4, 4, 9)) == 1
    assert mcnemar_p([1, 0, 1], [1, 0, 1]) == 1
    with pytest.raises(UserError, match=r"own_correct of item 1 is 0\.5"):
        mcnemar_p([1, 0.5], [1, 0])


def test_choice_kl():
    # Choices of 1/2 and 1/2 against 1/4 and 3/4; of 1/2, 1/4, 1/4 against equal ones.
    found = choice_kl([[-3.0, -3.0], np.log([2, 1, 1])], [np.log([1, 3]), [-9.0, -9.0, -9.0]])
    first = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    second = 0.5 * np.log(3 / 2) + 0.5 * np.log(3 / 4)
    assert found == pytest.approx([first, second])
    rows = np.random.default_rng(0).normal(size=(5, 4)) * 20
    assert np.all(choice_kl(rows, rows + 3.3) < 1e-12), "only the ratios of choices count"
    reference = [stats.entropy(np.exp(a), np.exp(b)) for a, b in zip(rows, rows[::-1], strict=True)]
    assert choice_kl(pd.Series(list(rows)), pd.Series(list(rows[::-1]))) == pytest.approx(reference)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match=r"shape \(3,\) do not pair with a baseline \(2,\)"):
        paired_change([1, 0, 1], [1, 0])
    with pytest.raises(UserError, match="1 item"):
        paired_change([1], [0])
    with pytest.raises(UserError, match="the baseline of item 2 is nan"):
        paired_change([1.0, 2.0, 3.0], [1.0, 2.0, np.nan])
    with pytest.raises(UserError, match=r"weight of item 1 is 0\.0"):
        paired_change([1, 0], [0, 0], [1, 0])
    with pytest.raises(UserError, match=r"weights of shape \(3,\) do not pair with 2 items"):
        paired_change([1, 0], [0, 0], [1, 1, 1])
    with pytest.raises(UserError, match="confidence=95"):
        paired_change([1, 0], [0, 0], confidence=95)
    with pytest.raises(UserError, match="n_resamples=0"):
        paired_change([1, 0.5], [0, 0], n_resamples=0)
    with pytest.raises(UserError, match="of 1 questions do not pair with the baseline's 2"):
        choice_kl([[0, 0], [0, 0]], [[0, 0]])
    with pytest.raises(UserError, match=r"question 1 has choices of shape \(3,\)"):
        choice_kl([[0, 0], [0, 0]], [[0, 0], [0, 0, 0]])
    with pytest.raises(UserError, match="question 0 has log-probabilities"):
        choice_kl([[0, -np.inf]], [[0, 0]])
