"""The search for a better score: its candidates against plain computations, and that it goes on."""

import damages
import numpy as np
import pandas as pd
import pytest
import relatives
import score_search
import torch
from helpers.closeness import assert_close
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.model import Model

N_HEADS, D_HEAD = 4, 8
TEXTS = [[5, 9, 33, 60, 2, 71, 8, 14, 90, 3], [44, 1, 7, 7, 81, 20, 13, 66, 52, 30]]


@pytest.fixture(scope="module")
def model():
    network = tiny_llama()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in network.named_parameters():
            if "norm" in name:  # gains that are all alike would hide a wrong one
                torch.nn.init.uniform_(parameter, 0.5, 2)
    return Model(FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [])


def loss(network, tokens):
    """Mean loss at the tokens that are read, by a plain run."""
    places = range(0, len(tokens) - 1, damages.STRIDE)
    with torch.no_grad():
        logprobs = network(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return float(np.mean([-logprobs[i, tokens[i + 1]] for i in places]))


class Scaled:
    """One head's output times a factor, in the weights it is written by."""

    def __init__(self, model, layer, head, factor):
        weights = model.engine.network.model.layers[layer].self_attn.o_proj.weight
        self.columns = weights[:, head * D_HEAD : (head + 1) * D_HEAD]
        self.factor = factor

    def __enter__(self):
        self.before = self.columns.clone()
        self.columns.mul_(self.factor)

    def __exit__(self, *error):
        self.columns.copy_(self.before)


def test_later_readers_gains_and_root_mean_square_are_ron(model):
    gains = relatives.Readers(model).gains("later")
    relative = ih.Score("relative", relatives.Relative(gains), "below")
    found = ih.score_heads(model, TEXTS, scores=["RON", relative])
    assert_close(found[1], found[0], rtol=1e-4)


def test_weights_of_the_mlp_weigh_what_is_written_by_them(model):
    lengths = relatives.Readers(model).weights("own mlp")
    found = []
    model.engine.run(
        ih.TokenBatch.of(TEXTS),
        lambda heads: found.append((heads.layer, lengths(heads), heads.result, heads.updated)),
    )
    for layer, values, result, stream in found:
        block = model.engine.network.model.layers[layer]
        read = block.post_attention_layernorm.weight * result
        both = torch.cat([block.mlp.gate_proj(read), block.mlp.up_proj(read)], dim=-1)
        expected = both.norm(dim=-1) / stream.norm(dim=-1, keepdim=True)
        assert_close(values, expected, rtol=1e-4)


def test_a_part_is_orthogonal_to_what_it_is_taken_across(model):
    own, other = torch.randn(2, 5, 3, 16), torch.randn(2, 5, 3, 16)
    q, _ = torch.linalg.qr(torch.stack([other, own], dim=-1))
    expected = (own * q[..., 1]).sum(-1).abs()
    assert_close(relatives._across(own, other), expected, rtol=1e-4)


def test_damage_alone_is_what_a_plain_run_without_the_head_gives(model):
    found = damages.damage_alone(model, TEXTS)
    network = model.engine.network
    for layer, head in ((0, 3), (2, 1)):
        before = [loss(network, tokens) for tokens in TEXTS]
        with Scaled(model, layer, head, 0.0):
            after = [loss(network, tokens) for tokens in TEXTS]
        change = np.mean(after) - np.mean(before)
        assert found[layer, head] == pytest.approx(change, abs=1e-5 * np.mean(before))


def test_first_order_is_the_slope_of_the_loss(model):
    found, step = damages.first_order(model, TEXTS).loss, 0.02
    network = model.engine.network
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        for row, tokens in enumerate(TEXTS):
            ends = []
            for factor in (1 - step, 1 + step):
                with Scaled(model, layer, head, factor):
                    ends.append(loss(network, tokens))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert found[row, layer, head] == pytest.approx(slope, rel=0.02, abs=2e-4)


def test_a_search_tries_everything_and_goes_on_where_it_stopped(model, tmp_path):
    file = tmp_path / "search.csv"
    table = score_search.search(model, TEXTS, TEXTS[::-1], file)
    assert table["score"].is_unique
    assert len(table) == len(list(score_search.candidates(model, TEXTS, TEXTS[::-1])))
    ron = table.set_index("score").loc["RON"]
    assert ron["vs_ron_10"] == 0
    assert np.isfinite(table.filter(like="change")).all(axis=None)
    table.head(5).to_csv(file, index=False)
    again = score_search.search(model, TEXTS, TEXTS[::-1], file)
    columns = [name for name in table if name != "seconds"]
    pd.testing.assert_frame_equal(again[columns], table[columns], rtol=1e-4, atol=1e-6)
