"""Intervals of few items hold what they promise, 93 to 97% at a nominal 95%, or are not shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from inactive_heads.analysis.curves.intervals import (
    FEWEST_ANSWERS,
    FEWEST_VALUES,
    score_intervals,
    share_intervals,
    studentized_intervals,
)
from inactive_heads.analysis.curves.paired import paired_change

NS = (5, 10, 20)
DRAWS, COLUMNS = 6, 2000
NOISE = 3 * np.sqrt(0.05 * 0.95 / (DRAWS * COLUMNS))
"""Three standard errors of a coverage that is 95%: 0.6 points."""

CHANGES = {  # how the loss of a text may change, and the mean of that
    "normal": (lambda rng, size: rng.normal(0.2, 1, size), 0.2),
    "gamma": (lambda rng, size: rng.gamma(4, 0.25, size), 1.0),
    "exponential": (lambda rng, size: rng.exponential(1, size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(0, 0.5, size), np.exp(0.125)),
    "t, 3 degrees": (lambda rng, size: rng.standard_t(3, size), 0.0),
}
TOKENS = {  # how many tokens the texts have
    "equal": lambda rng, n: np.full(n, 128.0),
    "64 to 256": lambda rng, n: rng.integers(64, 257, n).astype(float),
    "lognormal": lambda rng, n: np.ceil(128 * rng.lognormal(0, 0.5, n)),
}


def covered(draw, tokens_of, n: int, truth: float) -> float:
    """The share of samples whose interval holds the truth."""
    rng, hits = np.random.default_rng(n), []
    for seed in range(DRAWS):
        values, tokens = draw(rng, (n, COLUMNS)), tokens_of(rng, n)
        found = studentized_intervals(values, tokens, confidence=0.95, n_resamples=500, seed=seed)
        hits.append((found.low <= truth) & (truth <= found.high))
    return float(np.mean(hits))


@pytest.mark.parametrize("n", [n for n in NS if n >= FEWEST_VALUES])
@pytest.mark.parametrize("tokens_of", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize(("draw", "truth"), CHANGES.values(), ids=CHANGES)
def test_coverage_for_the_losses_of_few_texts(draw, truth, tokens_of, n):
    assert 0.93 - NOISE <= covered(draw, tokens_of, n, truth) <= 0.97 + NOISE


@pytest.mark.parametrize("n", [n for n in NS if n >= FEWEST_VALUES])
def test_where_few_texts_hide_what_is_rare(n):
    """No interval is valid if what matters was likely not seen: how far off it may be is known."""
    known = {
        "lognormal, sigma 1": (
            lambda rng, size: rng.lognormal(0, 1, size),
            np.exp(0.5),
            0.89,
            0.95,
        ),
        "half zeros": (
            lambda rng, size: (rng.random(size) < 0.5) * rng.normal(1, 0.5, size),
            *(0.5, 0.96, 1.0),
        ),
    }
    for draw, truth, least, most in known.values():
        assert least <= covered(draw, TOKENS["64 to 256"], n, truth) <= most


@pytest.mark.parametrize("n", [n for n in NS if n >= FEWEST_ANSWERS])
def test_coverage_for_few_answers(n):
    """Exact. It goes in steps, so single shares are off by more than their average."""
    right = np.arange(n + 1)
    found = share_intervals((np.arange(n)[:, None] < right) * 1.0, np.ones(n), confidence=0.95)
    coverage = np.array(
        [
            stats.binom.pmf(right, n, p)[(found.low <= p) & (p <= found.high)].sum()
            for p in np.linspace(0.05, 0.95, 181)
        ]
    )
    assert 0.93 <= coverage.mean() <= 0.97
    assert coverage.min() >= 0.92
    assert coverage.max() <= 0.98


@pytest.mark.parametrize("n", [n for n in NS if n >= FEWEST_ANSWERS])
def test_coverage_for_few_paired_answers(n):
    """Exact: the chance of every table whose interval holds the truth."""
    won, lost = (counts.ravel() for counts in np.indices((n + 1, n + 1)))
    won, lost = won[won + lost <= n], lost[won + lost <= n]
    item = np.arange(n)[:, None]
    differences = (item < won) * 1.0 - ((item >= won) & (item < won + lost))
    found = score_intervals(differences, np.ones(n), confidence=0.95)

    def coverage(p_won: float, p_lost: float) -> float:
        tables = np.column_stack([won, lost, n - won - lost])
        chance = stats.multinomial.pmf(tables, n, [p_won, p_lost, 1 - p_won - p_lost])
        truth = p_won - p_lost + 1e-12 * np.array([1, -1])
        return float(chance[(found.low <= truth[0]) & (truth[1] <= found.high)].sum())

    often = [(0.1, 0.1), (0.05, 0.2), (0.1, 0.2), (0.2, 0.2), (0.05, 0.4), (0.1, 0.5), (0, 0.3)]
    covers = [coverage(*shares) for shares in often]
    assert 0.93 <= np.mean(covers) <= 0.97
    assert min(covers) >= 0.93
    assert max(covers) <= 0.98
    # Where hardly an answer changes, no interval that can be 0 covers less than nearly always.
    assert min(coverage(0.01, 0.01), coverage(0, 0.05)) >= 0.97


@pytest.mark.parametrize("n", NS)
def test_fewer_have_no_interval(n):
    rng, weights = np.random.default_rng(n), np.ones(n)
    answers, losses = (rng.random((n, 3)) < 0.5) * 1.0, rng.random((n, 3))
    of_values = studentized_intervals(losses, weights, confidence=0.9, n_resamples=9, seed=0)
    shown = [
        (of_values, losses, FEWEST_VALUES),
        (share_intervals(answers, weights, confidence=0.9), answers, FEWEST_ANSWERS),
        (score_intervals(answers, weights, confidence=0.9), answers, FEWEST_ANSWERS),
    ]
    for found, values, fewest in shown:
        np.testing.assert_allclose(found.value, values.mean(axis=0))
        assert np.isnan([found.low, found.high]).all() == (n < fewest)
        assert np.isfinite([found.low, found.high]).all() == (n >= fewest)


@pytest.mark.parametrize(
    ("values", "fewest"),
    [(lambda n: np.arange(n) * 0.1, FEWEST_VALUES), (lambda n: np.arange(n) % 2, FEWEST_ANSWERS)],
    ids=["values", "answers"],
)
def test_the_smallest_number_has_one(values, fewest):
    for n in (2, fewest - 1, fewest):
        found = paired_change(values(n), np.zeros(n))
        assert found.value == pytest.approx(values(n).mean())
        assert np.isnan([found.low, found.high]).all() == (n < fewest)
