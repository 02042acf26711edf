"""Intervals of an effect: against itself, against another run, and of one question or text."""

import numpy as np
import pandas as pd
import pytest

import inactive_heads as ih

Z2 = 1.959963984540054**2
ENDS = ("low", "high")


def questions(correct, logprob=-1.0):
    rows = [[logprob, -2.0]] * len(correct)
    items = {"correct": correct, "choice_logprobs": rows, "answer_logprob": logprob}
    return ih.Outcomes(pd.DataFrame(items), "accuracy", 0.0)


@pytest.mark.parametrize("n", [20, 100])
def test_only_the_baseline_itself_has_no_uncertainty(n):
    baseline = questions([True, False] * (n // 2))
    own = baseline.effect(baseline)
    assert (own["change"], own["change_low"], own["change_high"]) == (0, 0, 0)
    # Another run with the same answers: no answer changed, in n questions (Tango).
    same = questions([True, False] * (n // 2)).effect(baseline)
    reach = 100 * Z2 / (n + Z2)
    assert same["change"] == 0
    assert same["change_high"] == pytest.approx(reach, rel=1e-6)
    assert same["change_low"] == pytest.approx(-reach, rel=1e-6)
    assert same["p_mcnemar"] == own["p_mcnemar"] == 1


def test_changes_have_the_sign_of_the_ablated_model_less_the_baseline():
    before, after = questions([True] * 24), questions([False] * 18 + [True] * 6, logprob=-3.0)
    effect, back = after.effect(before), before.effect(after)
    assert effect["change"] == pytest.approx(-75)
    assert back["change"] == pytest.approx(75)
    assert effect["change_low"] == pytest.approx(-back["change_high"])
    assert effect["answer_logprob_change"] == pytest.approx(-2)
    assert effect["p_mcnemar"] == pytest.approx(2 / 2**18)
    # KL(baseline || own) of (-1, -2) and (-3, -2): both (σ(1), σ(-1)) turned round.
    p = 1 / (1 + np.exp(-1))
    assert effect["kl"] == pytest.approx(p * 1 + (1 - p) * -1)


@pytest.mark.parametrize("n", [9, 10, 19, 20])
def test_few_questions_have_no_interval_of_accuracy_and_very_few_none_at_all(n):
    before, after = questions([True] * n), questions([False] * n, logprob=-2.0)
    summary, effect = after.summary(), after.effect(before)
    assert (summary["accuracy"], effect["change"]) == (0, pytest.approx(-100))
    of_answers = [
        summary["ci_low"],
        summary["ci_high"],
        effect["change_low"],
        effect["change_high"],
    ]
    assert np.isnan(of_answers).all() == (n < 20)
    of_values = [
        effect[f"{name}_{end}"] for name in ("kl", "answer_logprob_change") for end in ENDS
    ]
    assert np.isnan(of_values).all() == (n < 10)
    assert effect["p_mcnemar"] == pytest.approx(2 / 2**n)  # exact for any number


def test_no_mean_of_what_is_0_or_more_reaches_below_0():
    """One text, or question, of ten has all of the loss: the data bound it nowhere."""
    losses = pd.DataFrame({"loss": [9.0] + [0.0] * 9, "n_tokens": 5})
    summary = ih.Outcomes(losses, "loss", 0.0).summary()
    assert summary["loss_low"] == 0 < summary["loss"] < summary["loss_high"]
    before, after = questions([True] * 10), questions([True] * 10)
    after.items["choice_logprobs"] = [[-9.0, -1.0]] + [[-1.0, -2.0]] * 9
    effect = after.effect(before)
    assert effect["kl_low"] == 0 < effect["kl"] < effect["kl_high"]
    same = questions([True] * 10).effect(before)  # every KL is exactly 0
    assert (same["kl"], same["kl_low"], same["kl_high"]) == (0, 0, 0)
    # The change of a loss may be negative, and so may its interval.
    zeros = ih.Outcomes(losses.assign(loss=0.0), "loss", 0.0)
    assert ih.Outcomes(losses, "loss", 0.0).effect(zeros)["change_low"] < 0


def test_a_single_item_has_no_interval():
    one = questions([True]).effect(questions([False]))
    assert one["change"] == 100
    assert np.isnan([one["change_low"], one["change_high"], one["p_mcnemar"], one["kl_low"]]).all()
    text = ih.Outcomes(pd.DataFrame({"loss": [3.0], "n_tokens": [5]}), "loss", 12.5)
    summary = text.summary()
    assert (summary["loss"], summary["n"], summary["percent_zeroed"]) == (3.0, 1, 12.5)
    assert np.isnan([summary["loss_low"], summary["loss_high"]]).all()


def test_the_interval_of_a_loss_is_the_bootstrap_ts_of_95_percent():
    rng = np.random.default_rng(0)
    items = {"loss": rng.exponential(size=40), "n_tokens": rng.integers(1, 50, 40)}
    summary = ih.Outcomes(pd.DataFrame(items), "loss", 0.0).summary()
    expected = ih.paired_change(items["loss"], np.zeros(40), items["n_tokens"], confidence=0.95)
    found = [summary[name] for name in ("loss", "loss_low", "loss_high")]
    assert found == pytest.approx(list(expected))
    assert found[0] == pytest.approx(np.average(items["loss"], weights=items["n_tokens"]))
