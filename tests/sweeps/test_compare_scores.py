"""Scores of one's own against built-in ones: numbers by hand, and by direct evaluation."""

import numpy as np
import pandas as pd
import pytest
from helpers.closeness import assert_close
from helpers.places import SHARED
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of
from inactive_heads.sweeps.head_to_head import lead_over, standing
from inactive_heads.sweeps.results import load_sweeps

PERCENTS = (21.0, 41.0)
"""Of 10 inputs of 12 heads 25.2 and 49.2: no threshold lies on a value, where rounding would decide."""


@pytest.fixture(scope="module")
def model():
    return ih.as_model(bridge_of(tiny_llama(), "tiny"))


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    lengths = (12, 9, 17, 8, 14, 10, 11, 16, 9, 13)
    return ih.TextTask("tokens", [rng.integers(97, size=n).tolist() for n in lengths])


def twin(heads):
    """AHON (LN) under another name."""
    return ih.get_score("AHON (LN)")(heads)


def late(heads):
    """A score that zeroes other shares than its reference."""
    return heads.at_last_token(heads.v_norm)


@pytest.fixture(scope="module")
def found(model, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    comparison = ih.compare_scores(
        [twin, late, "AHON (LN)"],
        model=model,
        task=task,
        against=["AHON (LN)", "Random"],
        percents=PERCENTS,
        out=folder,
        seed=3,
    )
    return comparison, load_sweeps(folder)[0]


def test_a_score_under_another_name_is_not_told_apart(found):
    comparison, _ = found
    rows = comparison.table.set_index(["score", "percent"])
    for percent in PERCENTS:
        own, reference = rows.loc["twin", percent], rows.loc["AHON (LN)", percent]
        assert own["verdict"] == "not decided"
        assert (own["difference"], own["difference_low"], own["difference_high"]) == (0, 0, 0)
        assert own["change"] == reference["change"]
        assert own["compared_at"] <= own["percent_zeroed"] + 1e-9 or own["compared_at"] == percent
        assert np.isnan(reference["difference"])
        assert reference["verdict"] == "the reference"
    assert (comparison.reference, comparison.metric) == ("AHON (LN)", "loss")
    assert comparison.standing is None


def test_what_is_compared_and_how_it_is_shown(found):
    comparison, _ = found
    table = comparison.table
    assert list(dict.fromkeys(table["score"])) == ["twin", "late", "AHON (LN)", "Random"]
    assert set(table.loc[table["own"], "score"]) == {"twin", "late", "AHON (LN)"}
    assert set(comparison.ranking["score"]) == set(table["score"])
    text = str(comparison)
    assert text.startswith("tiny, tokens (10 texts), in nats per token:\n  twin: zeroing ")
    assert "against AHON (LN): not decided" in text
    assert "AHON (LN): zeroing" not in text  # not against itself
    figure = comparison.figure()
    assert {trace.name.partition(". ")[2] for trace in figure.data} >= {"twin", "late", "Random"}


def test_the_numbers_are_those_of_direct_evaluation(found, model, task):
    comparison, _ = found

    def losses(score, percent):
        """The share really zeroed, and every text's loss."""
        if percent == 0:
            run = ih.evaluate(model, task)
        else:
            row = comparison.curves.query("score == @score and percent == @percent").iloc[0]
            use = {"late": late}.get(score, score)
            run = ih.evaluate(model, task, ih.PerInput(use, row["threshold"]))
        return run.percent_zeroed, run.items["loss"].to_numpy()

    def at(score, share):
        (x0, y0), *rest = [losses(score, percent) for percent in (0, *PERCENTS)]
        for x1, y1 in rest:
            if share <= x1:
                return y0 + (share - x0) / (x1 - x0) * (y1 - y0)
            x0, y0 = x1, y1
        raise AssertionError("beyond the curve")

    weights = [len(sample) - 1 for sample in task.samples]
    for percent in PERCENTS:
        row = comparison.table.query("score == 'late' and percent == @percent").iloc[0]
        most = min(losses(score, PERCENTS[-1])[0] for score in ("late", "AHON (LN)"))
        share = min(percent, most)
        assert row["compared_at"] == pytest.approx(share)
        expected = ih.paired_change(at("late", share), at("AHON (LN)", share), weights)
        got = row[["difference", "difference_low", "difference_high"]].astype(float)
        assert_close(got, expected, rtol=1e-5)
        change = ih.paired_change(losses("late", percent)[1], losses("late", 0)[1], weights)
        got = row[["change", "change_low", "change_high"]].astype(float)
        assert_close(got, change, rtol=1e-5)


def sweep_by_hand(metric, heights, zeroed):
    """score → share asked for → the value of every item; shares really zeroed beside it."""
    column = "loss" if metric == "loss" else "correct"
    points = {}
    for score, curve in heights.items():
        for percent, values in curve.items():
            items = pd.DataFrame({column: values, "n_tokens": [10] * len(values)})
            points[score, percent] = ih.Outcomes(items, metric, zeroed[score][percent])
    return ih.Sweep(pd.DataFrame(), points, None)


@pytest.mark.parametrize(("metric", "verdicts"), [("loss", "worse"), ("accuracy", "better")])
def test_the_verdict_has_the_metrics_direction(metric, verdicts):
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, 60).astype(float) if metric == "accuracy" else rng.random(60)
    higher = np.ones(60) if metric == "accuracy" else base + 0.2 + 0.01 * rng.random(60)
    zeroed = {"own": {0.0: 0.0, 10.0: 10.0}, "reference": {0.0: 0.0, 10.0: 10.0}}
    heights = {
        "own": {0.0: base, 10.0: higher},
        "reference": {0.0: base, 10.0: base},
    }
    (row,) = lead_over(
        sweep_by_hand(metric, heights, zeroed), ["own"], "reference", [10.0]
    ).itertuples()
    assert row.verdict == verdicts
    scale = 100 if metric == "accuracy" else 1
    assert row.difference == pytest.approx(scale * (higher - base).mean())
    turned = lead_over(
        sweep_by_hand(metric, heights, zeroed), ["reference"], "own", [10.0]
    ).verdict.tolist()
    assert turned == [{"worse": "better", "better": "worse"}[verdicts]]


def test_scores_are_compared_where_both_zero_equally_many():
    flat = np.zeros(10)
    heights = {
        "far": {0.0: flat, 10.0: flat + 2, 20.0: flat + 8},
        "near": {0.0: flat, 10.0: flat + 1, 20.0: flat + 3},
    }
    zeroed = {
        "far": {0.0: 0.0, 10.0: 20.0, 20.0: 40.0},
        "near": {0.0: 0.0, 10.0: 8.0, 20.0: 16.0},
    }
    table = lead_over(sweep_by_hand("loss", heights, zeroed), ["far"], "near", [10.0, 20.0])
    assert table["compared_at"].tolist() == [10, 16]
    # far at 10% is 1 and at 16% is 1.6; near is 1 + 2 · 2/8 at 10%, and 3 at 16%.
    assert table["difference"].tolist() == pytest.approx([1 - 1.5, 1.6 - 3])
    assert table["verdict"].tolist() == ["better", "better"]


@pytest.mark.parametrize(("metric", "fewest"), [("loss", 10), ("accuracy", 20)])
def test_few_items_decide_nothing(metric, fewest):
    zeroed = {"own": {0.0: 0.0, 10.0: 10.0}, "reference": {0.0: 0.0, 10.0: 10.0}}
    for n in (2, fewest - 1, fewest):
        size = 0.5 if metric == "loss" else 1.0
        heights = {"own": {0.0: np.full(n, size), 10.0: np.zeros(n)}}
        heights["reference"] = dict.fromkeys((0.0, 10.0), np.full(n, size))
        (row,) = lead_over(
            sweep_by_hand(metric, heights, zeroed), ["own"], "reference", [10.0]
        ).itertuples()
        assert row.difference == pytest.approx(-size if metric == "loss" else -100)
        assert np.isnan([row.difference_low, row.difference_high]).all() == (n < fewest)
        assert (row.verdict == "not decided") == (n < fewest)


def test_an_interval_that_is_not_shown_is_said_so(model):
    few = ih.TextTask("few", [[1, 2, 3, 4], [5, 6, 7]])
    text = str(ih.compare_scores([late], model=model, task=few, against=["AHON"], percents=[30]))
    assert "(95% interval not shown: fewer than 10 texts) against AHON: not decided" in text
    assert "nan" not in text


def test_answers_between_two_points_differ_by_no_more_than_answers_do():
    """Few answers, and shares that are met by none of the points swept."""
    right, wrong = [1.0] * 16 + [0.0] * 8, [0.0] * 24
    zeroed = {"own": {0.0: 0.0, 10.0: 12.0}, "reference": {0.0: 0.0, 10.0: 11.0}}
    heights = {"own": {0.0: right, 10.0: wrong}, "reference": {0.0: right, 10.0: right}}
    (row,) = lead_over(
        sweep_by_hand("accuracy", heights, zeroed), ["own"], "reference", [10.0]
    ).itertuples()
    assert row.difference == pytest.approx(-100 * 10 / 12 * 4 / 6)
    assert -100 <= row.difference_low < row.difference < row.difference_high <= 100
    # Where both have a point at the share, it is the interval of answers.
    exact = {name: {0.0: 0.0, 10.0: 10.0} for name in heights}
    (row,) = lead_over(
        sweep_by_hand("accuracy", heights, exact), ["own"], "reference", [10.0]
    ).itertuples()
    expected = ih.paired_change(wrong, right)
    assert (row.difference, row.difference_low, row.difference_high) == pytest.approx(
        tuple(100 * end for end in expected)
    )


def curves_of(model, heights, percents=(0, 10, 20)):
    return pd.DataFrame(
        [
            {"model": model, "score": score, "percent_zeroed": percent, "accuracy": accuracy}
            for score, curve in heights.items()
            for percent, accuracy in zip(percents, curve, strict=True)
        ]
    )


def test_where_a_score_would_stand_among_published_ones():
    own = curves_of("here", {"mine": (40, 38, 36), "Random": (40, 20, 10), "B": (40, 39, 38)})
    published = pd.concat(
        [
            curves_of("there", {"Random": (60, 50, 40), "A": (60, 60, 59), "B": (60, 55, 50)}),
            # Cut at the 20% that the others reach: 30% would have sunk it.
            curves_of("far", {"A": (70, 67, 65, 25), "Random": (70, 50, 40, 30)}, (0, 10, 20, 30)),
        ]
    )
    table = standing(own, published).set_index(["published_model", "score"])
    mine, b = table.loc["there", "mine"], table.loc["there", "B"]
    # Gains: mine -2, B here -1; there A (60 + 59.5)/2 - 60 = -0.25, B -5.
    assert (mine["gain"], b["gain"]) == (-2, -1)
    assert (mine["would_rank"], mine["out_of"], mine["best_published"]) == (2, 3, "A")
    assert mine["best_gain"] == pytest.approx(-0.25)
    assert (b["would_rank"], b["out_of"], b["published_rank"]) == (2, 2, 2)
    assert np.isnan(mine["published_rank"])
    far = table.loc["far", "mine"]  # A there: (68.5 + 66)/2 - 70 = -2.75
    assert (far["would_rank"], far["best_gain"], far["up_to"]) == (1, -2.75, 20)


def test_a_comparison_says_where_its_scores_would_stand(model, tmp_path):
    items = [ih.ChoiceItem(str(n), "ids", str(n), (" 1", " 2"), n % 2) for n in range(6)]
    task = ih.ChoiceTask("ids", items, "letter", 0)
    words = ih.Model(
        model.engine, None, model.provenance, lambda text: [int(word) + 3 for word in text.split()]
    )
    path = tmp_path / "published.csv"
    both = [
        curves_of("there", {"A": (60, 60, 60), "B": (100, 0, 0)}, (0, 10, 90)),
        curves_of("far", {"A": (100, 0, 0), "B": (100, 0, 0)}, (0, 10, 90)),
    ]
    pd.concat(both).to_csv(path, index=False)
    found = ih.compare_scores(
        [late], model=words, task=task, against=["AHON"], percents=[30], published=path
    )
    rows = found.standing[found.standing["score"] == "late"]
    assert rows["published_model"].tolist() == ["there", "far"]
    assert rows["out_of"].tolist() == [3, 3]
    gain, ranks = rows["gain"].iloc[0], rows["would_rank"]
    assert ranks.tolist() == [2 if gain < 0 else 1, 1]
    shown = "1 to 2" if gain < 0 else "1"
    assert f"late: a gain of {gain:+.2f} points would rank {shown} of 3, over 2 models" in str(
        found
    )
    assert "no result on those models" in str(found)


def test_the_published_curves_of_the_paper_stand_among_themselves():
    path = SHARED / "paper" / "mmlu_curves.csv"
    if not path.exists():
        pytest.skip(f"no published curves at {path}")
    published = ih.read_curves(path)
    own = published[published["model"] == "Llama-3.1-8B"]
    table = standing(own, published).query("published_model == 'Llama-3.1-8B'")
    named = table[table["score"] != "Random"]
    assert (named["would_rank"] == named["published_rank"]).all()
    assert sorted(named["published_rank"]) == list(range(1, len(named) + 1))


def test_what_cannot_be_compared(model, task, tmp_path):
    with pytest.raises(ih.UserError, match="at least one score"):
        ih.compare_scores([], model=model, task=task)
    path = tmp_path / "published.csv"
    curves_of("there", {"A": (60, 50, 40)}).to_csv(path)
    for asked in (task, None):
        with pytest.raises(ih.UserError, match="published curves are of accuracy"):
            ih.compare_scores([late], model=model, task=asked, published=path)
    with pytest.raises(ih.UserError, match="these curves have no accuracies"):
        standing(ih.sweep(model, task, scores=["Random"], percents=[20]), ih.read_curves(path))
    alone = sweep_by_hand("loss", {"A": {0.0: [1.0], 10.0: [2.0]}}, {"A": {0.0: 0.0, 10.0: 10.0}})
    with pytest.raises(ih.UserError, match="single item"):
        lead_over(alone, ["A"], "A", [10.0])
    with pytest.raises(ih.UserError, match="unknown score 'AHOM'"):
        ih.compare_scores(["AHOM"], model=model, task=task)
