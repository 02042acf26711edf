"""What is read off curves, by hand, by property and against the published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.places import SHARED
from hypothesis import given
from hypothesis import strategies as st

from inactive_heads.analysis import (
    RANDOM,
    SUMMARY_COLUMNS,
    inactive_counts,
    normalized_auc,
    percent_within,
    rank_agreement,
    rank_scores,
    read_curves,
    score_distances,
    summarize,
)
from inactive_heads.errors import UserError

PUBLISHED = SHARED / "paper" / "mmlu_curves.csv"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published curves are not at {PUBLISHED}"
)


def table(**scores: list[float]) -> pd.DataFrame:
    """One model's accuracies at 0, 10, 20 % zeroed."""
    rows = [
        {"model": "m", "task": "quiz", "mode": "per-input", "score": score, "accuracy": value}
        | {"percent": 10.0 * i, "percent_zeroed": 10.0 * i, "threshold": i / 10, "n": 50}
        | {"ci_low": value - 2, "ci_high": value + 2}
        for score, values in scores.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


curve = st.lists(
    st.tuples(
        st.floats(0, 100).map(lambda x: round(x, 3)),
        st.floats(0, 100).map(lambda y: round(y, 3)),
    ),
    min_size=2,
    max_size=12,
    unique_by=lambda point: point[0],
)


@pytest.mark.parametrize(
    ("percents", "values", "expected"),
    [
        ([0, 10], [60, 40], 50),
        ([0, 10, 30], [60, 50, 20], (550 + 700) / 30),
        ([30, 0, 10], [20, 60, 50], (550 + 700) / 30),  # in any order
        ([5, 15], [60, 40], 50),  # over what it spans, wherever that starts
        ([0, 10, 10, 20], [60, 50, 70, 60], 60),  # points at one % are averaged
    ],
)
def test_normalized_auc(percents, values, expected):
    assert normalized_auc(percents, values) == pytest.approx(expected)


@given(curve)
def test_normalized_auc_lies_within_the_values(points):
    percents, values = zip(*points, strict=True)
    area = normalized_auc(percents, values)
    assert min(values) - 1e-9 <= area <= max(values) + 1e-9
    assert normalized_auc(percents[::-1], values[::-1]) == pytest.approx(area)
    assert normalized_auc(percents, np.array(values) + 7) == pytest.approx(area + 7)


@pytest.mark.parametrize("function", [normalized_auc, percent_within])
def test_curves_that_say_nothing_are_refused(function):
    with pytest.raises(UserError, match=r"two different % zeroed, not \[5\.0\]"):
        function([5], [60])
    with pytest.raises(UserError, match=r"two different % zeroed, not \[5\.0\]"):
        function([5, 5], [60, 50])
    with pytest.raises(UserError, match=r"not \[\]"):
        function([], [])
    with pytest.raises(UserError, match=r"row 1 .* nan at 10\.0% zeroed"):
        function([0, 10, 20], [60, np.nan, 50])
    with pytest.raises(UserError, match="row 41"):
        function([0, np.inf], pd.Series([60, 50], index=[40, 41]))
    with pytest.raises(UserError, match="do not pair"):
        function([0, 10], [60])


@pytest.mark.parametrize(
    ("percents", "values", "expected"),
    [
        ([0, 10, 20], [60, 60, 50], 11),  # one crossing
        ([20, 10, 0], [50, 60, 60], 11),  # in any order
        ([0, 10, 20], [60, 59.5, 59.2], 20),  # none: its largest %
        ([0, 10, 20], [60, 60, 60], 20),  # flat
        ([0, 10, 20, 30], [60, 50, 60, 50], 21),  # many: the last
        ([0, 10, 20], [60, 50, 60], 19),  # the last may lead up again
        ([0, 10, 20], [60, 59, 60], 20),  # on the line is not below it
        ([0, 10, 20], [60, 59, 50], 10),  # from the line down
        ([0, 10, 20], [60, 65, 59], 20),  # ends on the line
        ([0, 10, 20], [60.3, 59.3, 60], 20),  # 60.3 - 1 is not 59.3 in floating point
    ],
)
def test_percent_within(percents, values, expected):
    assert percent_within(percents, values) == pytest.approx(expected)
    mirrored = percent_within(percents, [100 - v for v in values], direction="lower")
    assert mirrored == pytest.approx(expected)


def test_percent_within_of_a_given_baseline():
    assert percent_within([0, 10], [60, 50], within=2, baseline=61) == pytest.approx(1)
    assert percent_within([0, 10], [60, 50], baseline=70) == 0, "never within: its smallest %"
    assert percent_within([0, 10], [3.0, 3.1], within=0.05, direction="lower") == pytest.approx(5)
    with pytest.raises(UserError, match="baseline=nan"):
        percent_within([0, 10], [60, 50], baseline=float("nan"))
    with pytest.raises(UserError, match="within=-1"):
        percent_within([0, 10], [60, 50], within=-1)


@given(curve, st.floats(0, 50))
def test_percent_within_ends_on_the_line_or_at_an_end(points, within):
    percents, values = (np.array(column) for column in zip(*sorted(points), strict=True))
    reach = percent_within(percents, values, within=within)
    assert percents[0] <= reach <= percents[-1]
    line = values[0] - within
    if reach < percents[-1]:
        assert np.interp(reach, percents, values) == pytest.approx(line, abs=1e-3 + 1e-6 * line)
    after = values[percents > reach + 1e-9]
    assert np.all(after >= line - 1e-6) or np.all(after <= line + 1e-6), "nothing crosses later"


def test_rank_scores():
    curves = table(Good=[60, 60, 58], Bad=[60, 50, 40], Random=[60, 55, 50])
    ranks = rank_scores(curves)
    assert list(ranks["score"]) == ["Good", "Random", "Bad"]
    assert list(ranks["rank"]) == [1, 2, 3]
    assert list(ranks["normalized_auc"]) == pytest.approx([59.5, 55, 50])
    assert list(ranks["percent_within_1pt"]) == pytest.approx([15, 2, 1])
    assert "percent_within_2pt" in rank_scores(curves, within=2)


def test_rank_scores_of_losses_and_of_groups():
    losses = table(A=[3.0, 3.1, 3.4], B=[3.0, 3.0, 3.1]).rename(columns={"accuracy": "loss"})
    losses["task"] = "text-loss"
    both = pd.concat([table(A=[60, 50, 40], B=[60, 55, 50]), losses], ignore_index=True)
    ranks = rank_scores(both, metric="loss")
    assert list(ranks["task"]) == ["text-loss"] * 2, "tasks without a loss are left out"
    assert list(ranks["score"]) == ["B", "A"], "less loss is better"
    assert list(ranks["percent_within_0.05_nats"]) == pytest.approx([15, 5])
    assert set(rank_scores(both)["task"]) == {"quiz"}


def test_the_baseline_is_random_s_where_no_head_was_zeroed():
    curves = table(A=[58, 58, 50], Random=[60, 55, 50])
    assert rank_scores(curves).set_index("score").loc["A", "percent_within_1pt"] == 0
    alone = rank_scores(curves[curves["score"] == "A"])
    assert alone.loc[0, "percent_within_1pt"] == pytest.approx(11.25)


def test_rank_scores_names_what_is_wrong():
    with pytest.raises(UserError, match=r"no curve has a value of 'loss'"):
        rank_scores(table(A=[60, 50]).assign(loss=np.nan), metric="loss")
    with pytest.raises(UserError, match=r"no column \['loss'\]"):
        rank_scores(table(A=[60, 50]), metric="loss")
    with pytest.raises(UserError, match=r"'A' \(m, quiz, per-input\): row 1 .* nan"):
        rank_scores(table(A=[60, np.nan, 50]))
    with pytest.raises(UserError, match=r"'B' .*two different"):
        rank_scores(table(A=[60, 50], B=[60]))


def test_summarize():
    curves = table(A=[60, 57, 50], Random=[60, 55, 40])
    curves.loc[curves["score"] == RANDOM, "threshold"] = np.nan
    losses = table(A=[3.0, 3.1, 3.4], Random=[3.0, 3.2, 3.6]).drop(columns=["ci_low", "ci_high"])
    losses = losses.rename(columns={"accuracy": "loss"}).assign(
        task="text-loss", threshold=np.nan, loss_low=2.0, loss_high=4.0
    )
    thresholds = xr.DataArray(
        [[0.5, 0.7]], dims=("score", "percent"), coords={"score": ["A"], "percent": [5, 10]}
    )
    found = summarize(pd.concat([curves, losses]), thresholds, percent=10)
    assert list(found.columns) == SUMMARY_COLUMNS
    assert list(found["task"]) == ["quiz", "quiz", "text-loss", "text-loss"]
    quiz, _, text, random = (row for _, row in found.iterrows())
    assert (quiz["accuracy"], quiz["accuracy_change"], quiz["ci_low"]) == (57, -3, 55)
    assert (quiz["threshold"], quiz["rank"]) == (0.1, 1), "the curve's own threshold comes first"
    assert np.isnan(quiz["loss"])
    assert text["threshold"] == 0.7
    assert text["loss_change"] == pytest.approx(0.1)
    assert np.isnan(random["threshold"]), "Random has none"
    with pytest.raises(UserError, match=r"'A' \(m, quiz, per-input\) .* 15%, only at 0, 10, 20%"):
        summarize(curves, thresholds, percent=15)


def test_summarize_without_curves():
    thresholds = xr.DataArray(
        [[0.5], [0.7]], dims=("score", "percent"), coords={"score": ["A", "B"], "percent": [10]}
    )
    found = summarize(None, thresholds, percent=10)
    assert list(found["threshold"]) == [0.5, 0.7]
    assert found["rank"].isna().all()


def test_inactive_counts():
    values = np.array([[[[0.1, 0.9]], [[0.5, np.nan]]], [[[0.1, 0.9]], [[0.5, 0.6]]]])
    scores = xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["B", "A"], "inactive": ("score", ["below", "above"]), "layer": [3]},
    )
    cuts = xr.DataArray(
        [[0.5], [0.5]], dims=("score", "percent"), coords={"score": ["A", "B"], "percent": [10.0]}
    )
    counts = inactive_counts(scores, cuts, 10)
    assert counts.sel(score="B").to_numpy().tolist() == [[1, 0]], "0.5 is not strictly below"
    assert counts.sel(score="A").to_numpy().tolist() == [[0, 2]]
    with pytest.raises(UserError, match="no thresholds for 20% of heads, only for 10"):
        inactive_counts(scores, cuts, 20)


def test_score_distances():
    first = xr.DataArray([[0.0, 1.0], [0, 0]], dims=("score", "head"), coords={"score": ["A", "B"]})
    second = xr.DataArray([[2.0, 3.0, np.nan]], dims=("score", "head"), coords={"score": ["A"]})
    distances = score_distances(first, second)
    assert distances.to_dict() == {"A": pytest.approx(2.0)}


def test_rank_agreement():
    one = table(A=[60, 50], B=[60, 40], C=[60, 30], Random=[60, 20])
    other = table(A=[60, 30], B=[60, 40], C=[60, 50], Random=[60, 55]).assign(model="k")
    ranking = rank_scores(pd.concat([one, other]))
    assert rank_agreement(ranking, "m", "k", top=1) == {"spearman": pytest.approx(-1), "top_iou": 0}
    assert rank_agreement(ranking, "m", "m", top=2) == {"spearman": pytest.approx(1), "top_iou": 1}
    with pytest.raises(UserError, match="'x'"):
        rank_agreement(ranking, "m", "x")


def test_read_curves_names_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_curves(tmp_path / "none.csv")
    path = tmp_path / "odd.csv"
    path.write_text("model,score,quiz_accuracy\nm,A,60\n")
    with pytest.raises(UserError, match=r"odd.csv has no column \['percent_zeroed'\]"):
        read_curves(path)


def test_read_curves_of_a_sweep(tmp_path):
    curves = table(A=[60, 50, 40])
    curves.to_csv(tmp_path / "curves.csv", index=False)
    found = read_curves(tmp_path / "curves.csv")
    pd.testing.assert_frame_equal(found[curves.columns], curves, check_dtype=False)
    assert found["loss"].isna().all()


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return rank_scores(read_curves(PUBLISHED))


@needs_published
def test_published_numbers_of_all_models(published):
    assert published["model"].nunique() == 14
    assert set(published["task"]) == {"mmlu"}
    reach = published[published["score"] != RANDOM].set_index(["model", "score"])[
        "percent_within_1pt"
    ]
    assert reach.xs("AWFT", level="score").mean() == pytest.approx(4.61, abs=0.005)
    assert reach.groupby("model").max().mean() == pytest.approx(12.28, abs=0.006)
    ranks = published[published["score"] == "AHON (LN)"]["rank"]
    assert ((ranks == 1).sum(), (ranks <= 3).sum()) == (8, 13)


@needs_published
def test_published_numbers_of_single_models(published):
    table = published.set_index(["model", "score"])
    best, first = table.loc[("Llama-3.1-8B", "AHON (LN)")], table.loc[("Llama-3.1-8B", "AWFT")]
    assert best["percent_within_1pt"] == pytest.approx(17.11, abs=0.005)
    assert best["normalized_auc"] == pytest.approx(63.92, abs=0.005)
    assert first["percent_within_1pt"] == pytest.approx(8.56, abs=0.005)
    small = table.loc[("Qwen2.5-0.5B", "LTHON (LN)")]
    assert small["percent_within_1pt"] == pytest.approx(14.42, abs=0.005)
