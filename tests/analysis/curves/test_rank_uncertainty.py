"""How sure a ranking is: by hand from the items, and by simulation of what it promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.unchecked import unchecked

from inactive_heads.analysis import normalized_auc, percent_within, rank_scores
from inactive_heads.analysis.curves.intervals import score_intervals, studentized_intervals
from inactive_heads.analysis.curves.paired import paired_change
from inactive_heads.analysis.curves.rank_uncertainty import about_to_tell, rank_uncertainty
from inactive_heads.errors import UserError

ASKED = np.array([0, 5, 10, 15, 20, 25, 30.0])
ZEROED = {  # differs from score to score, as it does in a sweep
    "A": np.array([0, 5.1, 9.9, 15.2, 20.0, 25.1, 29.8]),
    "B": np.array([0, 4.9, 10.1, 14.8, 20.2, 24.9, 30.1]),
    "Random": ASKED,
}


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
            draws_differ = 0.1 * (change.high - change.low)
            assert (row.lead_low, row.lead_high) == pytest.approx(change[1:], abs=draws_differ)
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


ENDS = [f"{name}_{end}" for name in ("auc", "within", "lead") for end in ("low", "high")]


@pytest.mark.parametrize(("metric", "fewest"), [("loss", 10), ("accuracy", 20)])
def test_a_ranking_by_few_items_has_no_intervals(metric, fewest):
    for n in (2, fewest - 1, fewest):
        values, weights = losses(np.random.default_rng(0), n)
        if metric == "accuracy":
            values, weights = right_or_wrong(np.random.default_rng(0), n), np.ones(n)
        curves = sweep_table(values, weights, metric)
        found = rank_uncertainty(curves, values, weights, metric=metric)
        assert found[ENDS].iloc[:-1].isna().all(axis=None) == (n < fewest)
        assert found[ENDS].iloc[:-1].notna().all(axis=None) == (n >= fewest)
        assert n >= fewest or not found["better_than_next"].any()
        # What needs no interval is there.
        ranks = rank_scores(curves, metric=metric)
        pd.testing.assert_frame_equal(found[ranks.columns[3:]], ranks[ranks.columns[3:]])
        assert found["first"].sum() == pytest.approx(1)


def test_no_interval_of_a_loss_reaches_below_0():
    values, tokens = losses(np.random.default_rng(0), 10)
    values *= np.arange(10) == 3  # one text has all of it
    found = rank_uncertainty(sweep_table(values, tokens, "loss"), values, tokens, metric="loss")
    assert (found["auc_low"] == 0).all()
    assert (found["lead_low"].iloc[:-1] < 0).all()


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (350.0, "about 350"),
        (1234.0, "about 1,234"),
        (10_000.0, "about 10,000"),
        (10_001.0, "more than 10,000"),
        (np.inf, "more than 10,000"),
    ],
)
def test_items_to_tell_end_at_ten_thousand(n, words):
    assert about_to_tell(n) == words


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

    alone = rank_uncertainty(curves[curves["score"] == "B"], values[1:2])
    assert list(alone["first"]) == [1]
    assert np.isnan(alone["lead"][0])
    assert not alone["better_than_next"][0]
    # Without Random, a curve's own first point is what it is compared with: the same model.
    assert alone["within_low"][0] == pytest.approx(found.loc["B", "within_low"])


@pytest.mark.parametrize("n", [20, 40, 150])
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


@pytest.mark.parametrize("n", [20, 40, 150])
def test_coverage_for_how_much_can_be_zeroed(n):
    """The crossings of the ends; resampling the crossing itself covers as little as 30%."""
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


def test_scores_with_the_same_answers_are_not_told_apart_by_their_percents():
    values = right_or_wrong(np.random.default_rng(2), 50)
    values[1] = values[0]
    found = rank_uncertainty(sweep_table(values, np.ones(50), "accuracy"), values)
    one = found[found["score"].isin(["A", "B"])].iloc[0]
    assert 0 < one["lead"] < 0.2
    assert not one["better_than_next"]
    # Rule of three: 3.84 of 54 answers may yet differ, each at the share that counts most.
    worth = max(normalized_auc(x, alone) for x in ZEROED.values() for alone in np.eye(7))
    unseen = 100 * worth * 3.84 / (50 + 3.84)
    assert one["lead_high"] == pytest.approx(unseen, rel=0.1)
    assert one["lead_low"] == pytest.approx(-unseen, rel=0.1)


def test_rank_uncertainty_refuses_what_does_not_fit():
    values = right_or_wrong(np.random.default_rng(1), 20)
    curves = sweep_table(values, np.ones(20), "accuracy")
    message = "metric must be accuracy or loss, not 'speed'"
    with unchecked(), pytest.raises(UserError, match=message):
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
    with pytest.raises(UserError, match="outcomes of 'A' at 15% average 65, the curve has 70"):
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
