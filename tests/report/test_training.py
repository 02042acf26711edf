"""A tiny model trained with saved checkpoints: the page shows the transitions it was made to have."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny

import inactive_heads as ih
from inactive_heads.analysis import inactive_states, transition_counts, turning_heads
from inactive_heads.report.page import render as page
from inactive_heads.report.page.model_results import ModelResults

LAYER, HEAD, WIDTH = 1, 2, 8
STEPS = (0, 60, 120, 180, 240)


def train(network, save) -> None:
    """240 steps on repeated patterns; one head is pulled to nothing first, then pulled back.

    Its value vectors' weights are drawn to zero up to step 120, and after that to more than they
    were, so that the head is inactive at 60 and 120, and active at 0, 180 and 240.
    """
    torch.manual_seed(0)
    network.train().requires_grad_(True)
    values = network.model.layers[LAYER].self_attn.v_proj.weight
    own = slice(HEAD * WIDTH, (HEAD + 1) * WIDTH)
    start = values[own].detach().clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    save(0)
    for step in range(1, STEPS[-1] + 1):
        pattern = torch.randint(2, len(WORDS), (8, 6))
        tokens = pattern.repeat(1, 3)
        loss = network(tokens, labels=tokens).loss
        wanted = 0 * start if step <= 120 else 2 * start
        loss = loss + 20 * (values[own] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in STEPS:
            save(step)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> list[ModelResults]:
    """The scores of every saved checkpoint."""
    place = tmp_path_factory.mktemp("run")
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )
    network = tiny(config)
    train(network, lambda step: save_folder(place / f"step-{step}", network, word_tokenizer()))
    texts = [torch.randint(2, len(WORDS), (n,)).tolist() * 2 for n in (5, 8, 12, 20)]
    results = []
    for step in STEPS:
        model = ih.load_model(place / f"step-{step}", dtype="float32")
        scores = ih.score_heads(model, texts, scores=["AHON (LN)", "AWFT"])
        cuts = ih.choose_thresholds(scores, [0, 25])
        results.append(ModelResults("tiny", f"step-{step}", scores, cuts))
    return results


def test_the_head_turns_inactive_and_back(checkpoints):
    course = [(one.revision, one.scores) for one in checkpoints]
    states = inactive_states(course, checkpoints[-1].thresholds, 25)
    own = states.sel(score="AHON (LN)", layer=LAYER, head=HEAD).to_numpy().tolist()
    assert own == [False, True, True, False, False]
    turning = turning_heads(states).set_index(["score", "layer", "head"])
    row = turning.loc[("AHON (LN)", LAYER, HEAD)]
    assert row["back"]
    assert row["path"] == "step-0: active, step-60: inactive, step-180: active"
    steps = transition_counts(states).set_index(["score", "after"])
    assert steps.loc[("AHON (LN)", "step-60"), "turned_inactive"] >= 1
    assert steps.loc[("AHON (LN)", "step-180"), "turned_active"] >= 1


def test_the_page_shows_it(checkpoints):
    html = page.render(checkpoints, percent=25)
    assert re.search(r"<h2>Over training</h2>", html)
    assert "tiny, AHON (LN): heads that turn" in html
    assert "step-0: active, step-60: inactive, step-180: active" in html
    assert f"L{LAYER}H{HEAD}" in html
    assert "tiny@step-120" in html, "each checkpoint can be chosen"
