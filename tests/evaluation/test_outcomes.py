"""Intervals of an effect: against itself, against another run, and of one question or text."""

import numpy as np
import pandas as pd
import pytest

import inactive_heads as ih

Z2 = 1.959963984540054**2


def questions(correct, logprob=-1.0):
    rows = [[logprob, -2.0]] * len(correct)
    items = {"correct": correct, "choice_logprobs": rows, "answer_logprob": logprob}
    return ih.Outcomes(pd.DataFrame(items), "accuracy", 0.0)


@pytest.mark.parametrize("n", [2, 10, 100])
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
    before, after = questions([True] * 8), questions([False] * 6 + [True] * 2, logprob=-3.0)
    effect, back = after.effect(before), before.effect(after)
    assert effect["change"] == -75
    assert back["change"] == 75
    assert effect["change_low"] == pytest.approx(-back["change_high"])
    assert effect["answer_logprob_change"] == pytest.approx(-2)
    assert effect["p_mcnemar"] == pytest.approx(2 / 2**6)
    # KL(baseline || own) of (-1, -2) and (-3, -2): both (σ(1), σ(-1)) turned round.
    p = 1 / (1 + np.exp(-1))
    assert effect["kl"] == pytest.approx(p * 1 + (1 - p) * -1)


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
