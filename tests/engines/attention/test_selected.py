"""Attention to selected blocks of keys (MiniMax M3), at inputs so long that blocks are dropped.

Masks against their definition; a model against its own eager attention.
"""

import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import architecture_checks
from helpers.architecture_checks import YES, check
from helpers.closeness import assert_close
from helpers.projections import plain_run
from helpers.tiny_architectures import tiny_architecture

import inactive_heads as ih
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.attention.selected import (
    SelectedBlocks,
    for_every_head,
    only_selected,
    selected_keys,
)
from inactive_heads.engines.base import Silence
from inactive_heads.engines.decoding import CachedDecoding, can_decode
from inactive_heads.engines.flash import FlashEngine

LENGTHS = (26, 15, 1)
KINDS = {
    "the best of the blocks": {"index_topk_blocks": 3, "index_block_size": 2},
    "two local blocks": {"index_topk_blocks": 3, "index_local_blocks": 2, "index_block_size": 4},
    "no local block": {"index_topk_blocks": 2, "index_local_blocks": 0, "index_block_size": 5},
    "one choice for all heads": {"index_n_heads": 1, "index_topk_blocks": 2},
    "a choice for every head": {"index_n_heads": 4, "index_topk_blocks": 2},
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(kind, attention=None):
    return tiny_architecture("minimax_m3_vl_text", attention, **KINDS[kind])


def tokens_of(*lengths):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 97, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_right_where_blocks_are_dropped(kind, monkeypatch):
    monkeypatch.setattr(architecture_checks, "LENGTHS", LENGTHS)
    pattern = plain_run(model(kind, "eager"), tokens_of(LENGTHS[0])[0], patterns=True).patterns[1]
    dropped = np.tril(pattern == 0).any(axis=(1, 2))
    assert dropped.all(), "the test is of nothing where every block is selected"
    found = check(
        "minimax", "flash", partial(tiny_architecture, "minimax_m3_vl_text", **KINDS[kind])
    )
    assert found.status == YES, found.reason
    assert found.checks["attention"] == YES


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_input_is_scored_the_same_in_every_batch(side):
    made, inputs = FlashEngine(model("the best of the blocks"), "tiny"), tokens_of(29, 45, 3, 17)

    def run(chosen):
        seen = {}
        batch = ih.TokenBatch.of(chosen, side=side)

        def look(heads):
            scores = [heads.z_norm, heads.first_token_weight, heads.entropy]
            seen[heads.layer] = torch.stack([heads.mean_over_tokens(one) for one in scores])
            return Silence(torch.tensor([[False, True, False, True]]))

        return made.run(batch, look), torch.stack(list(seen.values()))

    logits, scores = run(inputs)
    for row, tokens in enumerate(inputs):
        alone, of_alone = run([tokens])
        assert_close(logits[row], alone[0], rtol=1e-4)
        assert_close(scores[:, :, row], of_alone[:, :, 0], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_without_padding_gives_what_whole_inputs_give(kind):
    made, inputs = FlashEngine(model(kind), "tiny"), [list(one) for one in tokens_of(18, 18)]
    silence = Silence(torch.tensor([[False, True, False, False]]))
    decoding = CachedDecoding(made, ih.TokenBatch.of(inputs), lambda layer: silence)
    logits = decoding.start()
    for step in range(5):
        expected = made.run(ih.TokenBatch.of(inputs), lambda heads: silence)
        assert_close(logits, expected, rtol=1e-4)
        for one in inputs:
            one.append(40 + step)
        logits = decoding.step(torch.tensor([40 + step] * 2))


@pytest.mark.parametrize("block_size", [4, 128])
def test_padding_on_the_left_shifts_blocks_and_is_not_decoded(block_size):
    """With the real model's blocks of 128, a test on a few tokens would see no difference."""
    made = FlashEngine(tiny_architecture("minimax_m3_vl_text", index_block_size=block_size), "tiny")
    batch = ih.TokenBatch.of(tokens_of(6, 9), side="left")
    with pytest.raises(ih.UserError, match=rf"blocks of {block_size} keys by their place"):
        CachedDecoding(made, batch, lambda layer: None).start()
    with pytest.warns(ih.Notice, match="cannot use a cache"):
        assert not can_decode(made)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 3, 4, 1), torch.long),
        ((1, 8, 4, 1), torch.int32),
        ((1, 4, 1), torch.long),
        ((1, 2, 4, 4), torch.bool),
        ((1, 2, 4, 1), torch.float32),
    ],
)
def test_blocks_of_another_layout_are_refused(shape, dtype):
    network = model("the best of the blocks")
    blocks = torch.zeros(shape, dtype=dtype)
    network.model.layers[1].self_attn.indexer.forward = lambda *args: blocks
    with pytest.raises(
        ih.UserError, match=re.escape(f"gives 4 heads block_indices of shape {shape}")
    ):
        FlashEngine(network, "tiny")


@pytest.mark.parametrize(
    "indices", [torch.ones(1, 4, 4).bool(), torch.zeros(1, 4, 4), torch.zeros(1, 1, 4, 4).long()]
)
def test_selected_keys_of_another_layout_are_refused(indices):
    network = tiny_architecture("llama")
    attention = network.model.layers[1].self_attn
    attention.forward = partial(attention.forward, indices=indices)
    with pytest.raises(ih.UserError, match="gives its attention indices of shape"):
        FlashEngine(network, "tiny")


def test_blocks_of_unknown_size_are_refused():
    network = tiny_architecture("llama")
    attention = network.model.layers[1].self_attn
    attention.forward = partial(attention.forward, block_indices=torch.zeros(1, 2, 4, 1).long())
    with pytest.raises(
        ih.UserError, match="gives its attention block_indices without a block_size"
    ):
        FlashEngine(network, "tiny")


@pytest.mark.parametrize("n_keys", [5, 8, 13])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_key_is_selected_if_its_block_is(n_keys, size):
    n_blocks = -(-n_keys // size)
    blocks = draw(2, 3, 7, n_blocks).argsort(dim=-1)[..., :3]
    blocks[:, :, ::2, -1] = -1
    found = SelectedBlocks(blocks, SimpleNamespace(block_size=size)).keys(n_keys)
    assert found.shape == (2, 3, 7, n_keys)
    for place in np.ndindex(*found.shape):
        assert found[place] == (place[3] // size in blocks[place[:3]].tolist())


@pytest.mark.parametrize("n_before", [0, 4])
def test_a_selection_of_a_plain_causal_mask_is_causal(n_before):
    indices = draw(2, 5, 5 + n_before).argsort(dim=-1)[..., :3]
    found = only_selected(None, selected_keys(indices, 5 + n_before))
    for row, _, query, key in np.ndindex(*found.shape):
        expected = key in indices[row, query].tolist() and key <= query + n_before
        assert found[row, 0, query, key] == expected


@pytest.mark.parametrize("kept", [1, 2, 4])
@pytest.mark.parametrize("added", [False, True], ids=["true or false", "numbers to add"])
def test_adjacent_heads_share_a_mask(kept, added):
    causal = torch.ones(9, 9).tril().bool()
    mask = (draw(2, kept, 9, 9) > 0) & causal | torch.eye(9).bool()
    if added:
        mask = only_selected(torch.zeros(2, 1, 9, 9), mask)
    shared = AttentionInputs(
        *(draw(2, heads, 9, 8, seed=heads) for heads in (4, 2, 2)), 0.3, torch.zeros(2).long(), mask
    )
    z, statistics = attend(shared)
    whole = for_every_head(mask, 4).expand(2, 4, 9, 9)
    logits = 0.3 * shared.query.double() @ shared.key.double().repeat_interleave(2, dim=1).mT
    visible = whole == 0 if added else whole
    pattern = logits.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    assert_close(statistics.pattern(), pattern, rtol=1e-5)
    for head in range(4):
        assert torch.equal(whole[:, head], mask.expand(2, kept, 9, 9)[:, head * kept // 4])
        assert_close(statistics.pattern_of(head), pattern[:, head], rtol=1e-5)
    value = shared.value.double().repeat_interleave(2, dim=1)
    assert_close(z, (pattern @ value).transpose(1, 2), rtol=1e-5)
