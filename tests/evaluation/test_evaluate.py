import copy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.closeness import assert_close
from helpers.tiny_models import tiny_gpt2, tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ChoiceItem
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.text_task import TextTask

NETWORK = tiny_llama()


def encode(text):
    return [ord(character) % 97 for character in text]


MODEL = Model(
    LensEngine(bridge_of(copy.deepcopy(NETWORK), "tiny")), None, {"model": "tiny"}, encode
)

ITEMS = [
    ChoiceItem("q0", "s", "Question: x\nAnswer:", (" yes", " no", " maybe so", " n"), 1),
    ChoiceItem("q1", "s", "A longer question\nAnswer:", (" red", " green", " blue", " up"), 3),
    ChoiceItem("q2", "t", "Short:", ("A", "B", "C", "D"), 2),
]


def log_prob(context, continuation):
    """The plain way: the whole sequence alone, log-softmax in float64, summed over targets."""
    tokens = encode(context + continuation)
    logits = copy.deepcopy(NETWORK).double()(torch.tensor([tokens])).logits[0]
    logs = torch.log_softmax(logits, dim=-1)
    start = len(encode(context))
    return sum(float(logs[at - 1, tokens[at]]) for at in range(start, len(tokens)))


@pytest.mark.parametrize("scoring", ["letter", "cloze"])
def test_choices_are_log_probabilities_of_what_follows(scoring):
    result = ih.evaluate(MODEL, ChoiceTask("t", ITEMS, scoring, 0))
    expected = [[log_prob(item.context, c) for c in item.continuations] for item in ITEMS]
    for found, values, item in zip(result.items.itertuples(), expected, ITEMS, strict=True):
        assert_close(found.choice_logprobs, values, rtol=1e-5)
        assert found.answer_logprob == found.choice_logprobs[item.answer]
        lengths = [len(c.strip()) if scoring == "cloze" else 1 for c in item.continuations]
        assert found.correct == (np.argmax(np.array(values) / lengths) == item.answer)
    assert result.zeroed.sizes["sample"] == 4 + 4 + 1  # one-token choices share one input


def test_batches_do_not_change_an_evaluation():
    task = ChoiceTask("t", ITEMS, "cloze", 0)
    ablation = ih.PerInput("AHON (LN)", 0.9)
    one = ih.evaluate(MODEL, task, ablation, batch_size=1)
    all_of_them = ih.evaluate(MODEL, task, ablation, batch_size=9)
    assert one.zeroed.equals(all_of_them.zeroed)
    for a, b in zip(one.items.choice_logprobs, all_of_them.items.choice_logprobs, strict=True):
        assert_close(a, b, rtol=1e-4)


def test_loss_is_cross_entropy_in_nats_per_token():
    samples = [[5, 6, 7, 8, 9], [50, 40], list(range(30))]
    result = ih.evaluate(MODEL, TextTask("text-loss", samples))
    sums = []
    for sample, row in zip(samples, result.items.itertuples(), strict=True):
        logits = NETWORK(torch.tensor([sample])).logits[0, :-1].double()
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(sample[1:]))
        np.testing.assert_allclose(row.loss, float(loss), rtol=1e-5)
        assert row.n_tokens == len(sample) - 1
        sums.append(float(loss) * row.n_tokens)
    summary = result.summary()
    np.testing.assert_allclose(summary["loss"], sum(sums) / (4 + 1 + 29), rtol=1e-5)
    with pytest.raises(ih.UserError, match="text 1 has 1 token"):
        ih.evaluate(MODEL, TextTask("text-loss", [[1, 2], [3]]))


def test_accuracy_has_wilsons_interval():
    items = pd.DataFrame({"correct": [True] * 28 + [False] * 12, "answer_logprob": -1.0})
    summary = ih.Outcomes(items, "accuracy", 25.0).summary()
    # By hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = 0.7, n = 40, z = 1.959964.
    assert summary["accuracy"] == pytest.approx(70)
    assert summary["ci_low"] == pytest.approx(54.570, abs=1e-3)
    assert summary["ci_high"] == pytest.approx(81.925, abs=1e-3)


def test_the_share_zeroed_is_that_of_the_masks():
    task = ChoiceTask("t", ITEMS, "cloze", 0)
    result = ih.evaluate(MODEL, task, ih.Random(0.4, seed=5))
    assert result.summary()["percent_zeroed"] == pytest.approx(100 * float(result.zeroed.mean()))
    first_question = 100 * float(result.zeroed[:4].mean())
    assert result.items.percent_zeroed[0] == pytest.approx(first_question)


def test_prompts_longer_than_the_context_are_refused_by_name():
    item = ChoiceItem("the-long-one", "s", "x" * 70, (" a", " b", " c", " d"), 0)
    with pytest.raises(
        ih.UserError, match="question 'the-long-one' has .* the model's context is 64"
    ):
        ih.evaluate(MODEL, ChoiceTask("t", [item], "cloze", 0))


class TestSweep:
    task = TextTask("text-loss", [list(range(3 + n, 15 + n)) for n in range(6)])

    def test_every_point_of_the_grid_is_there(self, tmp_path):
        curves = ih.sweep(
            MODEL,
            self.task,
            scores=["AHON (LN)", "AWFT", "Random"],
            percents=[10, 30],
            out=tmp_path,
        )
        assert list(curves.groupby("score", sort=False).size()) == [3, 3, 3]
        assert list(curves.columns)[:6] == [
            "model",
            "task",
            "score",
            "mode",
            "percent",
            "threshold",
        ]
        assert curves.accuracy.isna().all()
        baseline = curves[curves.percent == 0]
        assert baseline.loss.nunique() == 1
        assert (baseline.percent_zeroed == 0).all()
        saved = pd.read_csv(tmp_path / "curves.csv")
        pd.testing.assert_frame_equal(saved, curves, check_dtype=False)

    def test_a_point_is_the_ablation_at_its_threshold(self):
        curves = ih.sweep(MODEL, self.task, scores=["AHON (LN)"], percents=[20])
        scores = ih.score_heads(MODEL, self.task.samples, scores=["AHON (LN)"])
        cut = float(ih.choose_thresholds(scores, [20]).squeeze())
        row = curves.iloc[-1]
        assert row.threshold == pytest.approx(cut, rel=1e-5)
        expected = ih.evaluate(MODEL, self.task, ih.PerInput("AHON (LN)", cut)).summary()
        assert row.loss == pytest.approx(expected["loss"], rel=1e-5)
        assert row.percent_zeroed == pytest.approx(expected["percent_zeroed"])

    def test_fixed_sets_are_the_same_for_every_input(self):
        curves = ih.sweep(MODEL, self.task, scores=["AHON", "Random"], percents=[25], mode="fixed")
        scores = ih.score_heads(MODEL, self.task.samples, scores=["AHON"])
        heads = ih.select_heads(scores, "AHON", 25)
        row = curves[(curves.score == "AHON") & (curves.percent == 25)].iloc[0]
        assert row.percent_zeroed == pytest.approx(100 * float(heads.mean()))
        loss = ih.evaluate(MODEL, self.task, ih.Fixed(heads)).summary()["loss"]
        assert row.loss == pytest.approx(loss, rel=1e-5)

    def test_a_users_function_and_thresholds_from_elsewhere(self):
        def mine(heads):
            return heads.mean_over_tokens(heads.z_norm)

        cuts = ih.choose_thresholds(ih.score_heads(MODEL, [[1, 2, 3]], scores=[mine]), [20])
        curves = ih.sweep(MODEL, self.task, scores=[mine], percents=[20], thresholds=cuts)
        assert curves.threshold.iloc[-1] == pytest.approx(float(cuts.squeeze()))

    def test_refusals(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ih.UserError, match="cannot write to the folder .*file"):
            ih.sweep(MODEL, self.task, scores=["AHON"], out=tmp_path / "file")
        with pytest.raises(ih.UserError, match="unknown score 'AHOM'; did you mean 'AHO"):
            ih.sweep(MODEL, self.task, scores=["AHOM"])


def test_conv1d_models_are_evaluated_too():
    network = tiny_gpt2()
    model = ih.as_model(bridge_of(copy.deepcopy(network), "tiny"))
    loss = ih.evaluate(model, TextTask("text-loss", [[1, 2, 3]])).summary()["loss"]
    logits = network(torch.tensor([[1, 2, 3]])).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 3]))
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_change_is_paired_item_by_item():
    def losses(values):
        items = pd.DataFrame({"loss": 3 * values, "n_tokens": 3 * [1, 1, 2, 4]})
        return ih.Outcomes(items, "loss", 0.0)

    # Texts differ by far more than the ablation changes any: only pairing shows the change.
    before, after = losses([1.0, 9.0, 5.0, 2.0]), losses([1.25, 9.25, 5.25, 2.25])
    effect = after.effect(before)
    np.testing.assert_allclose(list(effect.values()), [0.25, 0.25, 0.25], rtol=1e-12)
    assert list(effect) == ["change", "change_low", "change_high"]
    weighted = losses([1.0, 9.0, 5.0, 4.0]).effect(before)
    assert weighted["change"] == pytest.approx(2 * 4 / 8)
    single = ih.Outcomes(pd.DataFrame({"loss": [3.0], "n_tokens": [5]}), "loss", 0.0)
    assert single.effect(single)["change"] == 0
    assert np.isnan(single.effect(single)["change_low"])


def test_the_effect_on_questions():
    def answers(correct, logprobs):
        items = {"correct": correct, "choice_logprobs": logprobs}
        items["answer_logprob"] = [row[0] for row in logprobs]
        return ih.Outcomes(pd.DataFrame(items), "accuracy", 0.0)

    before = answers([True] * 4, [[-1.0, -1.0]] * 4)
    after = answers([True, False, True, False], [[-1.0, -1.0 + np.log(3)], *[[-2.0, -2.0]] * 3])
    effect = after.effect(before)
    assert effect["change"] == -50
    assert effect["p_mcnemar"] == 0.5  # 0 of 2 that changed: 2 × (1/2)²
    assert effect["answer_logprob_change"] == pytest.approx(-0.75)
    # KL((1/2, 1/2) || (1/4, 3/4)) = ½ ln 2 + ½ ln ⅔, for one question of four.
    assert effect["kl"] == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 4)
    assert after.summary()["answer_logprob"] == pytest.approx(-1.75)
