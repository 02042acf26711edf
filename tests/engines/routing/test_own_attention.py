"""Attention that a model computes itself: Falcon's kinds, and layers written by hand."""

from __future__ import annotations

from functools import partial

import einops
import pytest
import torch
from helpers.architecture_checks import YES, check
from helpers.closeness import assert_close
from helpers.tiny_architectures import tiny_architecture
from helpers.tiny_models import SAMPLES, tiny_llama
from torch import nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.models.model import Model

QUIET = {"progress": False}
FALCONS = {
    "one key/value head": ({"multi_query": True, "new_decoder_architecture": False}, 1),
    "a key/value head per head": (
        {"multi_query": False, "new_decoder_architecture": False, "num_kv_heads": 4},
        4,
    ),
    "grouped, repeated": ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
    "one group, repeated": ({"new_decoder_architecture": True, "num_kv_heads": 1}, 1),
    "position bias": ({"alibi": True, "multi_query": True, "new_decoder_architecture": False}, 1),
}


def model_of(network):
    return Model(FlashEngine(network, "mine"), None, {"model": "mine"}, lambda text: [])


# Of a position bias, transformers 5.23 adds it twice in its eager attention: there they differ.
KINDS = [(kind, attention) for kind in FALCONS for attention in ("sdpa", "eager")]
KINDS.remove(("position bias", "sdpa"))


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_every_kind_of_falcon_is_right(kind, attention):
    options, n_kv_heads = FALCONS[kind]

    def build(asked):
        return tiny_architecture("falcon", asked or attention, **options)

    found = check("falcon", "flash", build)
    assert found.status == YES, found.reason
    shape = FlashEngine(build(None), "mine").shape
    assert {shape.of(layer).n_key_value_heads for layer in shape.layers} == {n_kv_heads}


@pytest.mark.parametrize("model_type", ["falcon", "trocr", "git", "bloom", "gptj"])
def test_generated_text_is_hugging_faces(model_type):
    network = tiny_architecture(model_type)
    prompts = [one for one in SAMPLES if len(one) > 1]
    found = ih.generate(model_of(network), prompts, max_new_tokens=4, **QUIET).tokens
    for prompt, tokens in zip(prompts, found, strict=True):
        written = list(prompt)
        for _ in range(4):
            written.append(int(network(torch.tensor([written])).logits[0, -1].argmax()))
        assert tokens == written[len(prompt) :][: len(tokens)]
        assert tokens


class ByHand(nn.Module):
    """A Llama's attention, computed by a function of q, k, v; ``(batch, head, pos, d_head)``."""

    def __init__(self, module, compute):
        super().__init__()
        self.q_proj, self.k_proj = module.q_proj, module.k_proj
        self.v_proj, self.o_proj = module.v_proj, module.o_proj
        self.layer_idx, self.compute = module.layer_idx, compute

    def forward(self, hidden_states, position_embeddings=None, **_):
        parts = self.q_proj(hidden_states), self.k_proj(hidden_states), self.v_proj(hidden_states)
        q, k, v = (one.unflatten(-1, (-1, 8)).transpose(1, 2) for one in parts)
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        z = self.compute(q, *(one.repeat_interleave(2, dim=1) for one in (k, v)))
        return self.o_proj(z.transpose(1, 2).flatten(2)), None


def by_hand(compute):
    network = tiny_llama()
    for layer in network.model.layers:
        layer.self_attn = ByHand(layer.self_attn, compute)
    return network.eval()


def logits_of(q, k):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)


def flat(one):
    return one.flatten(0, 1)


def head_major(one):
    return one.transpose(0, 1).flatten(0, 1)


def by_einsum(q, k, v):
    """Positions first, as in XLNet."""
    weights = torch.einsum("bhqk->bhqk", logits_of(q, k)).softmax(dim=3)
    summed = torch.einsum("bhqk, kbhd -> qbhd", weights, v.permute(2, 0, 1, 3))
    return summed.permute(1, 2, 0, 3)


def by_head_major(q, k, v):
    weights = torch.softmax(head_major(logits_of(q, k)), dim=-1)
    return torch.bmm(weights, head_major(v)).unflatten(0, q.shape[1::-1]).transpose(0, 1)


def with_a_router(q, k, v):
    """A softmax over something else before it and after it."""
    torch.softmax(q.mean(dim=-1), dim=-1)
    z = torch.matmul(F.softmax(logits_of(q, k), dim=-1), v)
    return z * (torch.softmax(z.sum(dim=(1, 2, 3)), dim=-1).sum() + 1) / 2


RIGHT = {
    "operator": lambda q, k, v: logits_of(q, k).softmax(-1) @ v,
    "module": lambda q, k, v: torch.matmul(nn.Softmax(dim=-1)(logits_of(q, k)), v),
    "bmm": lambda q, k, v: torch.bmm(
        torch.softmax(flat(logits_of(q, k)), dim=-1), flat(v)
    ).unflatten(0, q.shape[:2]),
    "dropout and dtypes": lambda q, k, v: torch.matmul(
        F.dropout(logits_of(q, k).double().softmax(-1).to(q), training=False), v
    ),
    "einsum": by_einsum,
    "einsum of a list": lambda q, k, v: torch.einsum(
        "bhqk,bhkd->bhqd", [logits_of(q, k).softmax(-1), v]
    ),
    "einsum, the rest": lambda q, k, v: torch.einsum(
        "...qk, ...kd -> ...qd", logits_of(q, k).softmax(-1), v
    ),
    "einops": lambda q, k, v: einops.einsum(
        logits_of(q, k).softmax(-1), v, "b head q k, b head k d -> b head q d"
    ),
    "keywords": lambda q, k, v: torch.matmul(
        input=torch.softmax(input=logits_of(q, k), dim=-1), other=v
    ),
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "fused, a mask": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.ones(q.shape[2], k.shape[2]).tril().bool()
    ),
    "fused, a scale and numbers": lambda q, k, v: F.scaled_dot_product_attention(
        2 * q, k, v, logits_of(0 * q, k), scale=q.shape[-1] ** -0.5 / 2
    ),
    "fused, grouped": lambda q, k, v: F.scaled_dot_product_attention(
        q, k[:, ::2], v[:, ::2], is_causal=True, enable_gqa=True
    ),
    "a router": with_a_router,
}


@pytest.mark.parametrize("way", RIGHT)
def test_a_layer_by_hand_gives_the_numbers_of_the_same_weights(way):
    own, plain = model_of(by_hand(RIGHT[way])), model_of(tiny_llama())
    assert own.shape == plain.shape
    scores = [*ih.PAPER_SCORES, "RON"]
    found, expected = (ih.score_heads(one, SAMPLES, scores=scores, **QUIET) for one in (own, plain))
    for name in scores:
        assert_close(found.sel(score=name).values, expected.sel(score=name).values, rtol=1e-5)
    cut = float(expected.sel(score="AHON (LN)").median()) * 1.0001
    runs = [ih.ablate(one, SAMPLES, ih.PerInput("AHON (LN)", cut), **QUIET) for one in (own, plain)]
    assert runs[0].zeroed.equals(runs[1].zeroed)
    assert_close(runs[0].logits, runs[1].logits, rtol=1e-5)


@pytest.mark.parametrize("way", ["operator", "bmm", "einsum", "fused"])
@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_attention_that_only_some_layers_compute_themselves_is_not_left_out(way, layers):
    network = tiny_llama()
    for layer in layers:
        block = network.model.layers[layer]
        block.self_attn = ByHand(block.self_attn, RIGHT[way])
    place = f"in model.layers.{layers[0]}.self_attn otherwise than in other layers"
    with pytest.raises(ih.UserError, match=place):
        FlashEngine(network.eval(), "mine")


def on_longer(change):
    """Attention whose weights are changed in inputs of more than six tokens."""

    def compute(q, k, v):
        weights = logits_of(q, k).softmax(-1)
        return weights @ v if q.shape[2] <= 6 else change(weights, v)

    return compute


CHANGES = {
    "a sum of products": (
        lambda weights, v: (weights[..., None] * v[:, :, None]).sum(dim=3),
        "layer 0 shows its attention on four tokens, but not on these inputs",
    ),
    "scaled": (lambda weights, v: (0.5 * weights) @ v, "scales attention weights"),
    "a token's heads dropped": (
        lambda weights, v: weights.index_fill(2, torch.tensor([5]), 0.0) @ v,
        "scales attention weights",
    ),
    "small weights dropped": (
        lambda weights, v: (weights * (weights > 0.2)) @ v,
        "scales attention weights",
    ),
}


REFUSED = {
    "heads of all inputs, by head": (by_head_major, "by heads|mixes heads"),
    "twice": (
        lambda q, k, v: logits_of(q, k).softmax(-1) @ v / 2 + logits_of(q, k).softmax(-1) @ v / 2,
        "several times in one call of layer 0",
    ),
    "scaled weights": (lambda q, k, v: logits_of(q, k).softmax(-1) * 0.5 @ v, "scales attention"),
    "squared weights": (lambda q, k, v: logits_of(q, k).softmax(-1) ** 2 @ v, "scales attention"),
    "another order of weights": (
        lambda q, k, v: logits_of(q, k).softmax(-1).flip(-1) @ v,
        "see later ones in layer 0",
    ),
    "mixed heads' weights": (
        lambda q, k, v: (
            torch.einsum("bhqk,hg->bgqk", logits_of(q, k).softmax(-1), torch.eye(4).roll(1, 0)) @ v
        ),
        "weighs values by einsum 'bhqk,hg->bgqk'",
    ),
    "dropout": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1),
        "drops attention weights at random",
    ),
    "one head of keys": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v, is_causal=True),
        "1 heads of keys and 4 of values",
    ),
    "PyTorch's whole attention": (
        lambda q, k, v: (
            F.multi_head_attention_forward(
                *(one.transpose(1, 2).flatten(2).transpose(0, 1) for one in (q, k, v)),
                32,
                4,
                torch.eye(32).repeat(3, 1),
                None,
                None,
                None,
                False,
                0.0,
                torch.eye(32),
                None,
                training=False,
                need_weights=False,
                attn_mask=torch.ones(q.shape[2], q.shape[2]).triu(1).bool(),
            )[0]
            .transpose(0, 1)
            .unflatten(-1, (4, 8))
            .transpose(1, 2)
        ),
        "neither by",
    ),
    "a sum of products": (
        lambda q, k, v: (logits_of(q, k).softmax(-1)[..., None] * v[:, :, None]).sum(dim=3),
        "neither by",
    ),
    "no softmax": (lambda q, k, v: logits_of(q, k).exp() @ v, "neither by"),
    "a sink": (
        lambda q, k, v: F.pad(logits_of(q, k), (1, 0)).softmax(-1)[..., 1:] @ v,
        "neither by",
    ),
    "no mask": (
        lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(-1) @ v,
        "see later ones in layer 0",
    ),
    "fused, no mask": (F.scaled_dot_product_attention, "see later ones in layer 0"),
    "head outputs reordered": (
        lambda q, k, v: (logits_of(q, k).softmax(-1) @ v)[:, [1, 0, 3, 2]],
        "mixes heads",
    ),
}


@pytest.mark.parametrize("way", REFUSED)
def test_a_layer_that_cannot_be_shown_is_refused(way):
    compute, reason = REFUSED[way]
    with pytest.raises(ih.UserError, match=reason) as error:
        FlashEngine(by_hand(compute), "mine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_attends_otherwise_on_longer_inputs_is_refused_there(change):
    compute, reason = CHANGES[change]
    model = model_of(by_hand(on_longer(compute)))
    ih.score_heads(model, SAMPLES[:3], **QUIET)
    with pytest.raises(ih.UserError, match=reason):
        ih.score_heads(model, SAMPLES, **QUIET)


def test_heads_whose_values_are_zero_are_not_taken_for_copies():
    network = by_hand(RIGHT["operator"])
    with torch.no_grad():
        network.model.layers[0].self_attn.v_proj.weight[:8] = 0
    shape = FlashEngine(network, "mine").shape
    assert [shape.of(layer).n_key_value_heads for layer in shape.layers] == [4, 2, 2]


def test_pytorchs_kernel_hides_no_fault_of_a_run_without_a_visitor():
    network = tiny_architecture("falcon", tie_word_embeddings=False)
    engine = FlashEngine(network, "mine")
    with torch.no_grad():
        network.get_input_embeddings().weight[7] = torch.nan
    fine = TokenBatch.of([[5, 6, 8]])
    assert engine.run(fine).isfinite().all()
    with pytest.raises(ih.UserError, match="^input 1: queries or keys of an attention layer"):
        engine.run(TokenBatch.of([[5, 6, 8], [5, 7, 8]]))


def test_hooks_and_modes_are_gone_after_a_run():
    network = tiny_architecture("falcon")
    engine = FlashEngine(network, "mine")
    engine.run(TokenBatch.of([[5, 6, 8]]), lambda heads: None)
    assert not any(one._forward_pre_hooks or one._forward_hooks for one in network.modules())


@pytest.mark.parametrize("model_type", ["trocr", "mvp", "git", "gpt_neox_japanese", "bloom"])
def test_transformers_models_with_attention_of_their_own_are_right(model_type):
    found = check(model_type, "flash", partial(tiny_architecture, model_type))
    assert found.status == YES, found.reason
