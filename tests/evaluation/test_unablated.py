"""How far the next tokens' probabilities are from the unablated model's, against float64."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import reference
from helpers.closeness import assert_close
from helpers.tiny_families import tiny
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.evaluation import evaluate, log_likelihood, unablated
from inactive_heads.evaluation.unablated import Unablated, _Before, _compared
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ScoredInput

SAMPLES = [[7, 9], [11, 3, 96, 4, 8], list(range(1, 20)), [2, 2, 2, 50, 60, 70, 80, 90], [5, 4, 3]]
ALIKE = [[*range(20, 40), *end] for end in ([1, 2], [1, 3, 4], [5], [1, 3, 4, 6, 7])]
TASK = ih.TextTask("texts", SAMPLES)
NETWORK = tiny_llama()
CUT = 0.95


class OnlyRuns:
    """An engine that can do no more than an engine must."""

    def __init__(self, engine):
        self._engine = engine
        self.name, self.shape = "only-runs", engine.shape
        self.device, self.dtype = engine.device, engine.dtype

    def bytes_per_token(self, longest):
        return self._engine.bytes_per_token(longest)

    def run(self, batch, visitor=None, keep=None):
        return self._engine.run(batch, visitor, keep)


def model_of(engine):
    return Model(engine, None, {"model": "tiny", "dtype": "float32"}, list)


def flash(network=NETWORK):
    return model_of(FlashEngine(copy.deepcopy(network), "tiny"))


MODELS = {
    "flash": flash,
    "lens": lambda network=NETWORK: model_of(LensEngine(bridge_of(copy.deepcopy(network), "tiny"))),
    "an engine that only runs": lambda network=NETWORK: model_of(OnlyRuns(flash(network).engine)),
}


def divergence(before, after):
    """KL(before || after) and whether the first choice is the same, token by token, in float64."""
    log_p, log_q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (before, after))
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return kl, before.argmax(axis=1) == after.argmax(axis=1)


def expected_of(network, samples, logits_of):
    rows = []
    for sample in samples:
        before, _ = reference.run(network, sample, None)
        kl, same = divergence(before[:-1], logits_of(sample)[:-1])
        rows.append((kl.mean(), 100 * same.mean()))
    return np.array(rows)


def compared(model, task, ablation, **options):
    """The items of an ablated model compared with the unablated one."""
    options = {"progress": False} | options
    baseline = ih.evaluate(model, task, **options)
    return ih.evaluate(model, task, ablation, baseline=baseline, **options).items


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("batch_size", ["auto", 1])
@pytest.mark.parametrize("logits_held", [0, 10**6])
def test_they_are_those_of_the_definition(network, kind, batch_size, logits_held, monkeypatch):
    monkeypatch.setattr(unablated, "LOGITS_HELD", logits_held)
    items = compared(
        MODELS[kind](network), TASK, ih.PerInput("AHON (LN)", CUT), batch_size=batch_size
    )
    expected = expected_of(
        network, SAMPLES, lambda one: reference.per_input(network, one, "AHON (LN)", CUT)[0]
    )
    assert 0 < expected[:, 1].mean() < 100
    assert (expected[:, 0] > 0.01).all()
    assert_close(items["kl"], expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(items["top1_agreement"], expected[:, 1], rtol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_they_are_the_same_where_prefixes_are_run_once(kind, monkeypatch):
    model, task, rows = MODELS[kind](), ih.TextTask("alike", ALIKE), []
    heads = ih.Fixed([(0, 1), (1, 2), (2, 0)])
    if kind == "flash":
        inside = FlashEngine.run_row

        def counted(self, row, *rest):
            rows.append(len(row.tokens))
            return inside(self, row, *rest)

        assert model.engine.shares_prefixes()
        monkeypatch.setattr(FlashEngine, "run_row", counted)
    items = compared(model, task, heads)
    if kind == "flash":
        assert sum(rows) == 2 * 27  # 20 in common, 1 and 3 4 too: not 91 tokens
    alone = [compared(flash(), ih.TextTask("one", [one]), heads) for one in ALIKE]
    for name in ("loss", "kl", "top1_agreement"):
        assert_close(items[name], [float(one[name][0]) for one in alone], rtol=1e-4)


@pytest.mark.parametrize("held", [1, 97, 300, 10**6])
def test_limits_on_memory_change_no_number(held, monkeypatch):
    ablation, seen = ih.PerInput("AHON (LN)", CUT), []
    whole = compared(flash(), TASK, ablation)
    inside = FlashEngine.unembed

    def counted(self, states):
        seen.append(len(states))
        return inside(self, states)

    monkeypatch.setattr(FlashEngine, "unembed", counted)
    monkeypatch.setattr(unablated, "LOGITS_HELD", 0)
    monkeypatch.setattr(unablated, "UNEMBEDDED_AT_ONCE", held)
    monkeypatch.setattr(unablated, "COMPARED_AT_ONCE", held // 2)
    monkeypatch.setattr(log_likelihood, "MAX_LOGITS", 8 * held)
    parts = compared(flash(), TASK, ablation)
    pd.testing.assert_frame_equal(parts, whole, rtol=1e-4)
    n_predicted = sum(map(len, SAMPLES)) - len(SAMPLES)
    assert sum(seen[1:]) == n_predicted  # the first is the proof
    assert max(seen[1:]) <= max(1, held // 97)


@pytest.mark.parametrize("why", ["no room", "another unembedding", "another shape"])
def test_without_states_the_unablated_model_runs_beside(why, monkeypatch):
    ablation = ih.PerInput("AHON (LN)", CUT)
    expected = compared(flash(), TASK, ablation)
    monkeypatch.setattr(unablated, "LOGITS_HELD", 0)
    if why == "no room":
        monkeypatch.setattr(evaluate, "MAX_STATES", 100)
    else:
        inside = FlashEngine.unembed
        change = (lambda x: 2 * x) if why == "another unembedding" else (lambda x: x[:, :50])
        monkeypatch.setattr(FlashEngine, "unembed", lambda self, one: change(inside(self, one)))
    model = flash()
    baseline = ih.evaluate(model, TASK, progress=False)
    assert not baseline.unablated.holds
    assert baseline.unablated.n_bytes == 0
    runs, run = [], FlashEngine.run

    def counted(self, *rest, **named):
        runs.append(rest)
        return run(self, *rest, **named)

    monkeypatch.setattr(FlashEngine, "run", counted)
    found = ih.evaluate(model, TASK, ablation, baseline=baseline, progress=False).items
    assert len(runs) == 2  # one batch, ablated and not
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    alike = ih.TextTask("alike", ALIKE)
    heads = ih.Fixed([(0, 1), (1, 2)])
    pd.testing.assert_frame_equal(
        compared(flash(), alike, heads), compared(MODELS["lens"](), alike, heads), rtol=1e-4
    )


def test_logits_of_a_few_texts_are_held_and_unembedded_once(monkeypatch):
    n_predicted = sum(map(len, SAMPLES)) - len(SAMPLES)
    for logits_held, again in ((97 * n_predicted, 0), (97 * n_predicted - 1, n_predicted)):
        monkeypatch.setattr(unablated, "LOGITS_HELD", logits_held)
        model, seen = flash(), []
        baseline = ih.evaluate(model, TASK, progress=False)
        inside = model.engine.unembed
        model.engine.unembed = lambda states, inside=inside, seen=seen: (
            seen.append(len(states)) or inside(states)
        )
        ablation = ih.PerInput("AHON (LN)", CUT)
        ih.evaluate(model, TASK, ablation, baseline=baseline, progress=False)
        assert sum(seen) == again


def test_states_take_d_model_numbers_for_each_predicted_token():
    baseline = ih.evaluate(flash(), TASK, progress=False)
    n_predicted = sum(map(len, SAMPLES)) - len(SAMPLES)
    assert baseline.unablated.n_bytes == 4 * 32 * n_predicted


SCALED = {
    "gemma2": {"final_logit_softcapping": 1.5},
    "granite": {"logits_scaling": 7.0},
    "cohere": {"logit_scale": 0.3, "num_key_value_heads": 2},
    "opt": {"word_embed_proj_dim": 16, "ffn_dim": 64, "do_layer_norm_before": True},
}
"""Models that do more with their logits, or less with their stream, than multiply by W_U."""


@pytest.mark.parametrize("kind", SCALED)
def test_states_become_the_models_own_logits(kind):
    model = flash(tiny(kind, **SCALED[kind]))
    baseline = ih.evaluate(model, TASK, progress=False)
    assert baseline.unablated.holds
    assert baseline.unablated.n_bytes > 0
    batch = ih.TokenBatch.of(SAMPLES)
    with model.engine.final_states() as states:
        logits = model.engine.run(batch, None, batch.mask)
    (kept,) = states
    assert_close(model.engine.unembed(kept), logits, rtol=1e-5)
    with torch.no_grad():
        own = model.engine.network(batch.tokens[2:3]).logits[0]
    assert_close(logits[7:26], own, rtol=1e-4)
    # Nothing of it stays on the model.
    assert not model.engine.network.get_output_embeddings()._forward_hooks
    assert not model.engine.network.get_output_embeddings()._forward_pre_hooks


def test_an_empty_set_of_heads_changes_nothing():
    for samples in (SAMPLES, ALIKE):
        items = compared(flash(), ih.TextTask("texts", samples), ih.Fixed([]))
        assert (items["kl"] < 1e-6).all()
        assert (items["kl"] >= 0).all()
        assert (items["top1_agreement"] == 100).all()


def test_masked_tokens_and_ties():
    inf = float("inf")
    before = torch.tensor([[1.0, 1.0, 0.0, -inf], [0.0, 2.0, 1.0, -inf], [3.0, 3.0, 3.0, -inf]])
    after = torch.tensor([[0.0, 2.0, 1.0, -inf], [2.0, 0.0, 0.0, -inf], [0.0, 5.0, 5.0, -inf]])
    total, kl, same = _compared(after, _Before(0, before))
    expected, _ = divergence(before[:, :3].double().numpy(), after[:, :3].double().numpy())
    np.testing.assert_allclose(kl, expected, rtol=1e-5)
    np.testing.assert_allclose(total, np.logaddexp.reduce(after[:, :3].numpy(), axis=1), rtol=1e-5)
    assert same.tolist() == [1, 0, 1]  # two tie, one of them is first: in common
    _, kl, same = _compared(before, _Before(0, before))
    assert kl.tolist() == [0, 0, 0]
    assert same.tolist() == [1, 1, 1]
    # What only the ablated model masks has no finite divergence, and is no number to go on with.
    only = torch.tensor([[1.0, -inf, 0.0, -inf]])
    assert _compared(only, _Before(0, before[:1]))[1].tolist() == [inf]


def test_a_divergence_that_is_not_finite_is_refused(monkeypatch):
    inside = unablated._compared

    def damaged(logits, before):
        total, kl, same = inside(logits, before)
        return total, kl * float("inf"), same

    monkeypatch.setattr(unablated, "_compared", damaged)
    with pytest.raises(ih.UserError, match=r"texts, item text-2: KL.* is inf;"):
        compared(flash(), TASK, ih.PerInput("AHON (LN)", CUT))


def test_a_baseline_of_something_else_is_refused():
    model, ablation = flash(), ih.Random(0.3)
    baseline = ih.evaluate(model, TASK, progress=False)
    ablated = ih.evaluate(model, TASK, ablation, baseline=baseline, progress=False)
    other = ih.TextTask("texts", SAMPLES[::-1])
    elsewhere = Model(model.engine, None, {"model": "other", "dtype": "float32"}, list)
    for subject, task, wrong, message in (
        (model, TASK, ablated, "not an evaluation of the unablated model on texts"),
        (model, other, baseline, "of 5 other texts than these 5, or of the same in another order"),
        (elsewhere, TASK, baseline, "of another model .model 'tiny' and 'other'.: evaluate this"),
    ):
        with pytest.raises(ih.UserError, match=message):
            ih.evaluate(subject, task, ablation, baseline=wrong, progress=False)


def test_the_unablated_model_is_at_no_distance_from_itself():
    baseline = ih.evaluate(flash(), TASK, progress=False)
    assert (baseline.items["kl"] == 0).all()
    assert (baseline.items["top1_agreement"] == 100).all()
    effect = baseline.effect(baseline)
    assert [effect[f"kl{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert [effect[f"top1_agreement{end}"] for end in ("", "_low", "_high")] == [100, 100, 100]
    alone = ih.evaluate(flash(), TASK, ih.Random(0.3), progress=False)
    assert not {"kl", "top1_agreement"} & {*alone.items}
    assert not {"kl", "top1_agreement"} & {*alone.effect(baseline)}


def test_means_are_over_all_predicted_tokens_with_paired_intervals():
    rng = np.random.default_rng(0)
    n_tokens, kl = rng.integers(1, 50, 30), rng.exponential(size=30)
    agreement = 100 * rng.binomial(n_tokens, 0.8) / n_tokens
    before = pd.DataFrame({"loss": rng.exponential(size=30), "n_tokens": n_tokens})
    after = before.assign(loss=before["loss"] + kl, kl=kl, top1_agreement=agreement)
    effect = ih.Outcomes(after, "loss", 10.0).effect(ih.Outcomes(before, "loss", 0.0))
    for name, values in (("kl", kl), ("top1_agreement", agreement)):
        assert effect[name] == pytest.approx((n_tokens * values).sum() / n_tokens.sum())
        found = [effect[f"{name}{end}"] for end in ("", "_low", "_high")]
        expected = ih.paired_change(values, np.zeros(30), n_tokens)
        np.testing.assert_allclose(found, np.minimum(expected, 100), rtol=1e-9)
    nearly = after.assign(top1_agreement=[*[100.0] * 28, 99.0, 90.0])
    effect = ih.Outcomes(nearly, "loss", 10.0).effect(ih.Outcomes(before, "loss", 0.0))
    assert effect["top1_agreement_low"] < effect["top1_agreement"] <= 100
    assert effect["top1_agreement_high"] <= 100
    single = ih.Outcomes(after.iloc[:1], "loss", 10.0).effect(
        ih.Outcomes(before.iloc[:1], "loss", 0.0)
    )
    assert single["kl"] == pytest.approx(kl[0])
    assert single["top1_agreement"] == pytest.approx(agreement[0])
    ends = [single[f"{name}_{end}"] for name in ("kl", "top1_agreement") for end in ("low", "high")]
    assert np.isnan(ends).all()


def test_targets_in_any_order_and_twice_are_held_in_theirs():
    inputs = [ScoredInput([5, 6, 7, 8], [2, 0, 2], [1, 2, 3]), ScoredInput([9, 9], [1], [4])]
    model = flash()
    made = Unablated(model, inputs, room=10**6)
    log_likelihood.log_likelihoods(model, inputs, advance=lambda n: None, measure=made.hold)
    found = log_likelihood.log_likelihoods(
        model,
        inputs,
        lambda heads: ih.Silence(torch.tensor([[True, False, False, True]])),
        advance=lambda n: None,
        measure=made.compare,
    )
    masks = [[True, False, False, True]] * 3
    for one, values in zip(inputs, found, strict=True):
        before, after = (reference.run(NETWORK, one.tokens, m)[0] for m in (None, masks))
        kl, same = divergence(before[one.positions], after[one.positions])
        own = after - np.logaddexp.reduce(after, axis=1, keepdims=True)
        assert_close(values[0], own[one.positions, one.targets], rtol=1e-5)
        assert_close(values[1], kl, rtol=1e-4)
        assert values[2].tolist() == same.astype(float).tolist()
