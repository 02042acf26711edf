"""Intervals by coverage, tests and divergences by hand, for single changes and for rankings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import optimize, stats

from inactive_heads.analysis import normalized_auc, percent_within, rank_scores
from inactive_heads.certainty import rank_uncertainty
from inactive_heads.errors import UserError
from inactive_heads.intervals import (
    resampled_sums,
    score_intervals,
    share_intervals,
    studentized_intervals,
)
from inactive_heads.uncertainty import choice_kl, mcnemar_p, paired_change

ASKED = np.array([0, 5, 10, 15, 20, 25, 30.0])
ZEROED = {  # differs from score to score, as it does in a sweep
    "A": np.array([0, 5.1, 9.9, 15.2, 20.0, 25.1, 29.8]),
    "B": np.array([0, 4.9, 10.1, 14.8, 20.2, 24.9, 30.1]),
    "Random": ASKED,
}


def answers(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Own and baseline answers of which so many turned right and wrong."""
    own, baseline = np.zeros(n, bool), np.zeros(n, bool)
    own[:won], baseline[won : won + lost] = True, True
    return own, baseline


def sweep_table(values: np.ndarray, weights: np.ndarray, metric: str) -> pd.DataFrame:
    """The curves that a sweep gives for outcomes (score, percent, item), baselines first."""
    means = (100 if metric == "accuracy" else 1) * values @ (weights / weights.sum())
    points = [(s, 0) for s in range(3)] + [(s, p) for s in range(3) for p in range(1, 7)]
    names = list(ZEROED)
    return pd.DataFrame(
        {"model": "m", "task": "t", "mode": "per-input", "score": names[s], "percent": ASKED[p]}
        | {"percent_zeroed": ZEROED[names[s]][p], metric: means[s, p]}
        for s, p in points
    )


def right_or_wrong(rng: np.random.Generator, n: int) -> np.ndarray:
    """Answers (score, percent, item): A is a little better than B, and B than Random."""
    able, shared, own = rng.normal(0.3, 1, n), rng.normal(size=n), rng.normal(size=(3, n))
    share = ASKED / 30
    noise = 0.6 * shared + 0.6 * own[:, None] + 0.5 * rng.normal(size=(3, 7, n))
    harm = np.array([0.3, 0.5, 1.0])[:, None, None] * share[:, None] ** 2
    return (able - harm + 0.3 * share[:, None] * noise > 0).astype(float)


def losses(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses (score, percent, item) that rise by skewed amounts, more in short texts; tokens."""
    tokens = rng.integers(10, 3000, n).astype(float)
    share = (ASKED / 30)[:, None]
    rise = rng.gamma(1.5, 1 / 3, n) + rng.gamma(1.5, 1 / 3, (3, 1, n))
    rise = np.array([0.1, 0.11, 0.3])[:, None, None] * share**2 * rise * (1 + np.sqrt(30 / tokens))
    noise = 0.05 * share * rng.normal(size=(3, 7, n)) / np.sqrt(tokens / 50)
    return rng.gamma(9, 0.35, n) + rise + noise, tokens


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
    assert paired_change([0.3, 0.7, 1.1], [0.3, 0.7, 1.1]) == (0, 0, 0)


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
        student = stats.t.ppf(0.95, 39) * np.sqrt(40 / 39)
        low = mean - max(np.quantile(t, 0.95), student) * error
        high = mean + max(-np.quantile(t, 0.05), student) * error
        assert found.value[column] == pytest.approx(mean)
        assert (found.low[column], found.high[column]) == pytest.approx((low, high), abs=0.01)
    assert np.all(found.high - found.value > found.value - found.low), "skewed to the right"


def test_an_end_that_the_data_do_not_bound_is_infinite():
    own = np.zeros(100)
    own[0] = 1.5  # a resample is without it in 37 of 100 cases
    value, low, high = paired_change(own, np.zeros(100))
    assert value == pytest.approx(0.015)
    assert low < 0
    assert high == np.inf
    assert paired_change([0.3, 0.7], [0.1, 0.2])[1:] == (-np.inf, np.inf)


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
    monkeypatch.setattr("inactive_heads.intervals.CHUNK", 120)  # two resamples at a time
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


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_rank_uncertainty_is_of_the_numbers_of_rank_scores(metric):
    rng = np.random.default_rng(5)
    values, weights = losses(rng, 80)
    if metric == "accuracy":
        values, weights = right_or_wrong(rng, 80), np.ones(80)
    curves = sweep_table(values, weights, metric)
    found = rank_uncertainty(curves, values, weights, metric=metric)
    ranks = rank_scores(curves, metric=metric)
    same = ["score", "rank", "normalized_auc", ranks.columns[-2]]
    pd.testing.assert_frame_equal(found[same], ranks[same])

    # The AUC is linear in the items: the mean of one number per item, and so is its lead.
    scale, better = (100, 1) if metric == "accuracy" else (1, -1)
    own = {
        name: np.array([scale * normalized_auc(ZEROED[name], item) for item in values[s].T])
        for s, name in enumerate(ZEROED)
    }
    for row, following in zip(found.itertuples(), found["score"][1:], strict=False):
        assert np.average(own[row.score], weights=weights) == pytest.approx(row.normalized_auc)
        lead = better * (own[row.score] - own[following])
        assert row.lead == pytest.approx(np.average(lead, weights=weights))
        assert row.lead_low <= row.lead <= row.lead_high
        assert row.better_than_next == (row.lead_low > 0)
        if metric == "loss":
            change = paired_change(-own[row.score], -own[following], weights)
            assert (row.lead_low, row.lead_high) == pytest.approx(change[1:], rel=0.1, abs=1e-4)
    assert np.all(found["auc_low"] < found["normalized_auc"])
    assert np.all(found["normalized_auc"] < found["auc_high"])
    assert np.all(found["within_low"] <= found[same[-1]])
    assert np.all(found[same[-1]] <= found["within_high"])
    assert np.isnan(found["lead"].iloc[-1])
    assert not found["better_than_next"].iloc[-1]

    # Resamples one after another, each curve by analysis.py: who is first how often.
    wins = []
    for _ in range(1000):
        rows = rng.integers(80, size=80)
        heights = np.average(values[..., rows], axis=2, weights=weights[rows])
        drawn = [normalized_auc(x, y) for x, y in zip(ZEROED.values(), heights, strict=True)]
        wins.append(list(ZEROED)[np.argmax(better * np.array(drawn))])
    assert found["first"].sum() == pytest.approx(1)
    for name, first in zip(found["score"], found["first"], strict=True):
        assert first == pytest.approx(wins.count(name) / 1000, abs=0.05)

    # Neither the order of the items nor that of the labels matters.
    order = rng.permutation(80)
    labels = {"score": list(ZEROED)[::-1], "percent": ASKED[::-1]}
    mixed = xr.DataArray(
        values[::-1, ::-1][..., order].transpose(2, 0, 1), coords=labels, dims=("item", *labels)
    )
    again = rank_uncertainty(curves, mixed, weights[order], metric=metric)
    pd.testing.assert_frame_equal(again, found)


def test_how_much_can_be_zeroed_reaches_to_where_the_paired_interval_crosses():
    values = right_or_wrong(np.random.default_rng(8), 60)
    found = rank_uncertainty(sweep_table(values, np.ones(60), "accuracy"), values, within=3)
    for row in found.itertuples():
        s = list(ZEROED).index(row.score)
        changes = [paired_change(values[s, p], values[2, 0]) for p in range(1, 7)]
        for end, reached in ((1, row.within_low), (2, row.within_high)):
            curve = [0, *(100 * change[end] for change in changes)]
            expected = percent_within(ZEROED[row.score], curve, within=3, baseline=0.0)
            assert reached == pytest.approx(expected)


def test_scores_that_tie():
    values = right_or_wrong(np.random.default_rng(2), 50)
    values[1] = values[0]
    curves = sweep_table(values, np.ones(50), "accuracy")
    curves["percent_zeroed"] = curves["percent"]
    found = rank_uncertainty(curves, values).set_index("score")
    assert found.loc["A", "first"] == found.loc["B", "first"], "they share what they tie for"
    assert found["first"].sum() == pytest.approx(1)
    assert found.loc["A", "lead"] == 0
    assert found.loc["A", "lead_low"] == -found.loc["A", "lead_high"] < 0
    assert found.loc["A", "n_to_tell"] == np.inf
    assert not found.loc["A", "better_than_next"]


@pytest.mark.parametrize("n", [40, 150])
def test_coverage_for_leads_of_answers(n):
    """Two curves' areas differ by many sizes, few of which one sample shows."""
    points = [[normalized_auc(x, alone) for alone in np.eye(7)] for x in ZEROED.values()]

    def areas(seed: int, count: int) -> np.ndarray:
        return np.einsum("sp,spi->si", points, right_or_wrong(np.random.default_rng(seed), count))

    truth, samples = areas(1, 400_000).mean(axis=1), areas(n, 2000 * n).reshape(3, n, 2000)
    for better, worse in ((0, 1), (1, 2), (0, 2)):
        lead = samples[better] - samples[worse]
        found = score_intervals(lead, np.ones(n), confidence=0.95, least=np.max(points))
        hits = (found.low <= truth[better] - truth[worse]) & (
            truth[better] - truth[worse] <= found.high
        )
        assert 0.92 <= hits.mean() <= 0.98


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_n_to_tell_items_tell_in_four_of_five_samples(metric):
    points = [[normalized_auc(x, alone) for alone in np.eye(7)] for x in ZEROED.values()]

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        return (right_or_wrong(rng, n), np.ones(n)) if metric == "accuracy" else losses(rng, n)

    rng = np.random.default_rng(11)
    values, weights = sample(50_000)
    curves = sweep_table(values, weights, metric)
    truth = rank_uncertainty(curves, values, weights, metric=metric, n_resamples=2)
    assert list(truth["score"]) == list(ZEROED)
    n, told = int(truth["n_to_tell"][0]), []
    assert 100 < n < 400
    for _ in range(300):
        values, weights = sample(n)
        areas = np.einsum("sp,spi->si", points, values)
        lead = (areas[:1] - areas[1:2]).T
        if metric == "accuracy":
            found = score_intervals(lead, weights, confidence=0.95, least=np.max(points))
        else:
            found = studentized_intervals(-lead, weights, confidence=0.95, n_resamples=400, seed=0)
        told.append(found.low[0] > 0)
    assert 0.7 <= np.mean(told) <= 0.9


@pytest.mark.parametrize("n", [40, 150])
def test_coverage_for_how_much_can_be_zeroed(n):
    """Two shares that can be zeroed, of which the bootstrap of the crossing itself holds half."""
    truth = 100 * right_or_wrong(np.random.default_rng(1), 400_000).mean(axis=2)
    samples = right_or_wrong(np.random.default_rng(n), n * 600).reshape(3, 7, n, 600)
    for name, values, heights in zip(ZEROED, samples, truth, strict=True):
        true = percent_within(ZEROED[name], heights, within=2, baseline=truth[2, 0])
        changes = (values[1:] - values[0]).transpose(1, 0, 2).reshape(n, -1)
        found = score_intervals(changes, np.ones(n), confidence=0.95)
        low, high = (
            np.array(
                [
                    percent_within(ZEROED[name], [0, *end], within=2, baseline=0.0)
                    for end in 100 * ends.reshape(6, 600).T
                ]
            )
            for ends in found[1:]
        )
        assert np.mean((low <= true) & (true <= high)) >= 0.92


def test_rank_uncertainty_refuses_what_does_not_fit():
    values = right_or_wrong(np.random.default_rng(1), 20)
    curves = sweep_table(values, np.ones(20), "accuracy")
    with pytest.raises(UserError, match="metric must be accuracy or loss, not 'speed'"):
        rank_uncertainty(curves, values, metric="speed")
    with pytest.raises(UserError, match=r"shape \(3, 6, 20\) do not fit curves of 3 scores at 7"):
        rank_uncertainty(curves, values[:, 1:])
    with pytest.raises(UserError, match="outcomes of 1 item"):
        rank_uncertainty(sweep_table(values[..., :1], np.ones(1), "accuracy"), values[..., :1])
    with pytest.raises(UserError, match="weights of shape"):
        rank_uncertainty(curves, values, np.ones(19))
    broken = values.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="outcome of 'B' at 10%, item 3, is nan"):
        rank_uncertainty(curves, broken)
    broken[1, 2, 3] = 0.5
    with pytest.raises(UserError, match=r"is 0\.5, not right \(1\) or wrong \(0\)"):
        rank_uncertainty(curves, broken)
    with pytest.raises(UserError, match="outcomes of 'A' at 5% average .* the curve has"):
        rank_uncertainty(curves, values[[1, 0, 2]])
    labels = {"score": ["A", "B", "C"], "percent": ASKED}
    with pytest.raises(UserError, match=r"outcomes have the scores \['A', 'B', 'C'\]"):
        rank_uncertainty(curves, xr.DataArray(values, labels, ("score", "percent", "item")))
    with pytest.raises(UserError, match="the dimensions"):
        rank_uncertainty(curves, xr.DataArray(values, dims=("score", "percent", "question")))
    with pytest.raises(UserError, match="curves of 2 tasks"):
        rank_uncertainty(pd.concat([curves, curves.assign(task="u")]), values)
    with pytest.raises(UserError, match="have 'B' at 5% twice"):
        rank_uncertainty(pd.concat([curves, curves[9:10]]), values)
    with pytest.raises(UserError, match="no percent_zeroed of 'B' at 5%"):
        rank_uncertainty(curves.drop(index=9), values)
    touched = curves.assign(percent_zeroed=curves["percent_zeroed"] + 1)
    with pytest.raises(UserError, match="'A' has no point where no head was zeroed"):
        rank_uncertainty(touched, values)
    with pytest.raises(UserError, match="lack the percent"):
        rank_uncertainty(curves.assign(percent=np.nan), values)
