"""NaN and infinity end a run with an error that names the input and where it began."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.finite import check_logits
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.errors import NotFinite
from inactive_heads.models.model import Model

BAD = 90
"""The one token whose embedding is damaged."""
GOOD = [[token for token in one if token != BAD] for one in samples((9, 7, 8, 7))]
INPUTS = [GOOD[0], GOOD[1], [*GOOD[2], BAD, 5], GOOD[3]]
"""The third is the first in which something is not finite."""
SHARED = [[*GOOD[0], token, 7] for token in (3, 4, 5, BAD, 6)]
QUIET = {"progress": False}


def damage_embedding(network):
    network.model.embed_tokens.weight.data[BAD, 3] = torch.nan


def damage(path, value=torch.nan):
    def change(network):
        module = network.get_submodule(path)
        module.weight.data.view(-1)[5] = value

    return change


PLACES = {
    "v": (damage("model.layers.1.self_attn.v_proj"), "in layer 1, in the heads' value vectors"),
    "q": (damage("model.layers.1.self_attn.q_proj"), "in layer 1, in the heads' outputs"),
    "k": (damage("model.layers.2.self_attn.k_proj"), "in layer 2, in the heads' outputs"),
    "infinite k": (damage("model.layers.2.self_attn.k_proj", torch.inf), "in layer 2, in the"),
    "W_O": (damage("model.layers.0.self_attn.o_proj"), "in layer 0, after its heads"),
    "MLP": (damage("model.layers.1.mlp.down_proj"), "in layer 1, after its heads"),
    "last MLP": (damage("model.layers.2.mlp.up_proj"), "after the heads of layer 2"),
    "norm": (damage("model.norm"), "after the heads of layer 2"),
    "logits": (damage("lm_head"), "after the heads of layer 2"),
}


def model_of(engine, change):
    """A tiny model, damaged after it was loaded, so that the first look has not seen it."""
    network = tiny("llama")
    if engine == "flash":
        made = FlashEngine(network, "tiny")
    else:
        network.set_attn_implementation("eager")
        made = LensEngine(bridge_of(network, "tiny"))
    change(network)
    return Model(made, None, {"model": "tiny"}, lambda text: [])


def items(tokens):
    return ih.TextTask("texts", tokens)


CALLS = {
    "score_heads": lambda model, inputs: ih.score_heads(model, inputs, **QUIET),
    "plain": lambda model, inputs: ih.ablate(model, inputs, None, **QUIET),
    "per input": lambda model, inputs: ih.ablate(
        model, inputs, ih.PerInput("AHON (LN)", 0.9), **QUIET
    ),
    "fixed": lambda model, inputs: ih.ablate(model, inputs, ih.Fixed([(0, 1)]), **QUIET),
    "random": lambda model, inputs: ih.ablate(model, inputs, ih.Random(0.2), **QUIET),
    "generate": lambda model, inputs: ih.generate(model, inputs, max_new_tokens=2, **QUIET),
    "generate, prompt": lambda model, inputs: ih.generate(
        model, inputs, ih.Fixed([(0, 1)]), decide="prompt", max_new_tokens=2, **QUIET
    ),
    "generate, every step": lambda model, inputs: ih.generate(
        model, inputs, ih.PerInput("AHON", 0.1), max_new_tokens=2, **QUIET
    ),
    "losses": lambda model, inputs: ih.evaluate(model, items(inputs), **QUIET),
    "losses, ablated": lambda model, inputs: ih.evaluate(
        model, items(inputs), ih.PerInput("AWFT", 0.5), **QUIET
    ),
    "mean outputs": lambda model, inputs: ih.mean_head_outputs(model, inputs, **QUIET),
    "head view": lambda model, inputs: ih.head_view(model, inputs[2], 0, 0),
}


@pytest.mark.parametrize("engine", ["flash", "lens"])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_names_the_input_and_where_it_began(call, engine):
    with pytest.raises(ih.UserError) as error:
        CALLS[call](model_of(engine, damage_embedding), INPUTS)
    message = str(error.value)
    name = "texts, item text-2" if "losses" in call else "input 2"
    name = "input 0" if call == "head view" else name
    assert message.startswith(f"{name}: ")
    assert "began at the embedding" in message
    assert re.search(r"the weight \S*embed\S* is damaged, or too large for dtype float32", message)
    assert 'load them with dtype="float64"' in message
    assert "\n" not in message


@pytest.mark.parametrize("engine", ["flash", "lens"])
@pytest.mark.parametrize("place", PLACES)
def test_the_place_is_where_the_weight_is(place, engine):
    change, where = PLACES[place]
    if engine == "lens" and place == "infinite k":
        pytest.skip("eager attention gives a weight of 1 or 0, which is finite, where q is large")
    model = model_of(engine, change)
    for call in ("plain", "score_heads", "generate"):
        with pytest.raises(ih.UserError, match=f"^input .* which began {where}"):
            CALLS[call](model, GOOD)


def test_a_weight_without_numbers_hides_no_damaged_one():
    def change(network):
        network.model.embed_tokens.register_parameter("absent", torch.nn.Parameter(torch.empty(0)))
        damage("lm_head")(network)

    with pytest.raises(ih.UserError, match=r"the weight lm_head\.weight is damaged"):
        CALLS["plain"](model_of("flash", change), GOOD)


@pytest.mark.parametrize("ablation", [None, ih.Fixed([(0, 1)])], ids=["plain", "fixed"])
def test_inputs_with_a_shared_beginning_are_told_apart(ablation):
    model = model_of("flash", damage_embedding)
    assert model.engine.shares_prefixes()
    with pytest.raises(ih.UserError, match="^texts, item text-3: .* began at the embedding"):
        ih.evaluate(model, items(SHARED), ablation, **QUIET)
    healthy = [tokens for tokens in SHARED if BAD not in tokens]
    assert np.isfinite(ih.evaluate(model, items(healthy), ablation, **QUIET).items["loss"]).all()


def test_choices_are_named_by_their_question():
    network = tiny("llama")
    model = Model(
        FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [int(text.strip())]
    )
    damage_embedding(network)
    asked = [
        ih.ChoiceItem(f"q{context}", "s", str(context), (" 5", " 6"), answer=0)
        for context in (10, BAD, 12)
    ]
    with pytest.raises(ih.UserError, match="^sums, item q90: .* began at the embedding"):
        run_choices(model, asked)


def run_choices(model, asked):
    """Questions whose context and answers are token ids."""
    from inactive_heads.evaluation.evaluate import evaluate
    from inactive_heads.evaluation.prepared_task import PreparedTask
    from inactive_heads.tasks.base import ScoredInput

    inputs = [
        ScoredInput([int(item.context)], [0, 0], [int(one) for one in item.continuations])
        for item in asked
    ]
    task = ih.ChoiceTask("sums", asked, scoring="letter", num_fewshot=0)
    prepared = PreparedTask(task, inputs, list(range(len(asked))))
    return evaluate(model, prepared, **QUIET)


def test_a_choice_that_the_model_masks_has_no_log_probability():
    network = tiny("llama")
    network.lm_head.bias = torch.nn.Parameter(torch.zeros(97))
    model = Model(FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [])
    network.lm_head.bias.data[6] = -torch.inf
    masked = ih.ChoiceItem("masked", "s", "10", (" 5", " 6"), answer=0)
    open_ = ih.ChoiceItem("open", "s", "10", (" 5", " 7"), answer=0)
    with pytest.raises(ih.UserError, match="item masked: the log-probability of token 6 is -inf"):
        run_choices(model, [open_, masked])
    # Other tokens keep their probabilities, and no generated token is the masked one.
    assert np.isfinite(run_choices(model, [open_]).items["answer_logprob"]).all()
    assert 6 not in ih.generate(model, [[10]], max_new_tokens=5, **QUIET).tokens[0]


@pytest.mark.parametrize("engine", ["flash", "lens"])
def test_the_models_fault_is_not_the_scores(engine):
    model = model_of(engine, damage("model.layers.1.self_attn.v_proj"))
    with pytest.raises(ih.UserError, match="score 'AHON' is nan at L1H.*as the model's heads are"):
        ih.score_heads(model, GOOD, scores=["AHON"], **QUIET)

    def mine(heads):
        return heads.mean_over_tokens(heads.z_norm) * torch.nan

    healthy = model_of(engine, lambda network: None)
    with pytest.raises(ih.UserError, match="score 'mine' returned nan .*a score must be finite"):
        ih.score_heads(healthy, GOOD, scores=[mine], **QUIET)


@pytest.mark.parametrize("hook", ["hook_z", "hook_v"])
def test_a_cache_with_nan_is_refused(hook):
    network = tiny("llama")
    network.set_attn_implementation("eager")
    bridge = bridge_of(network, "tiny")
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([GOOD[0], GOOD[0]]))
    cache[f"blocks.1.attn.{hook}"][1, 2] = torch.nan
    with pytest.raises(ih.UserError, match="^input 1: score .* is nan at L1H0, as the model's"):
        ih.score_cache(cache)


def test_float16_overflow_is_said_to_be_one():
    network = tiny("llama")
    engine = FlashEngine(network.half(), "tiny")
    network.model.layers[1].mlp.down_proj.weight.data.mul_(60000)
    model = Model(engine, None, {"model": "tiny"}, lambda text: [])
    with pytest.raises(
        ih.UserError, match="began in layer 1, after its heads; no weight is NaN"
    ) as error:
        ih.ablate(model, GOOD, None, **QUIET)
    assert "dtype float16" in str(error.value)
    assert 'dtype="float32"' in str(error.value)


@pytest.mark.parametrize(
    ("logits", "row"),
    [
        ([[0.0, 1.0], [torch.nan, 0.0]], 1),
        ([[torch.inf, 1.0], [0.0, 0.0]], 0),
        ([[0.0, 1.0], [-torch.inf, -torch.inf]], 1),
        ([[-torch.inf, 0.0], [0.0, -torch.inf]], None),
        ([[-torch.inf, 0.0], [0.5, 0.5]], 1),
        ([[1.0, 1.0 + 1e-6], [0.5, 0.5]], 1),
        ([[1.0, 1.0 + 1e-6], [0.5, -0.5]], None),
    ],
)
def test_which_logits_are_refused(logits, row):
    given = torch.tensor(logits)
    if row is None:
        assert check_logits(given, lambda kept: kept) is given
        return
    with pytest.raises(NotFinite) as error:
        check_logits(given, lambda kept: kept)
    assert error.value.row == row


@pytest.mark.parametrize("engine", ["flash", "lens"])
@pytest.mark.parametrize("where", ["model.embed_tokens", "model.layers.2.mlp.down_proj"])
def test_a_stream_whose_square_overflows_is_no_answer(engine, where):
    """RMSNorm makes 0 of it, and so all logits are 0: finite, and without meaning."""

    def enlarge(network):
        network.get_submodule(where).weight.data.mul_(1e25)

    with pytest.raises(NotFinite, match=r"the model's logits are all -?0\.0"):
        ih.ablate(model_of(engine, enlarge), GOOD, None, **QUIET)


def test_the_error_crosses_processes_whole():
    fault = NotFinite(3, "the logits are nan", "get the weights again").about("quiz, item q3")
    again = pickle.loads(pickle.dumps(fault))  # noqa: S301
    assert str(again) == str(fault) == "quiz, item q3: the logits are nan; get the weights again"
    assert (again.row, again.problem, again.name) == (3, "the logits are nan", "quiz, item q3")


def test_a_runs_zeroed_heads_are_zeroed_where_the_fault_is_looked_for():
    """A fault that only an ablation causes is found under the same ablation."""
    model = model_of("flash", lambda network: None)
    asked = []

    def visitor(heads):
        asked.append(heads.layer)
        if heads.layer == 1:
            value = torch.full((4, 8), 3e38)
            return ih.Silence(torch.ones(1, 4, dtype=torch.bool), value)
        return None

    with pytest.raises(ih.UserError, match="which began in layer 1, after its heads"):
        model.engine.run(TokenBatch.of(GOOD), visitor)
    assert asked == [0, 1, 2]
