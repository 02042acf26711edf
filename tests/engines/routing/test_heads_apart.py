"""What may stand between attention and W_O, and what is refused: heads must stay apart."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.tiny_families import D_HEAD, N_HEADS, samples, tiny
from torch import nn

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.base import Silence
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.routing.heads_apart import heads_of_inputs

WIDTH = N_HEADS * D_HEAD
INPUTS = samples((6, 4, 5))


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 5, 8, 12, 31, 32, 33, 128])
def test_every_head_is_known_from_every_other_by_the_inputs(n_heads):
    masks = heads_of_inputs(n_heads)
    assert masks.shape[1] == n_heads
    assert len(masks) <= 2 * max(1, n_heads).bit_length()
    for one in range(n_heads):
        for other in range(n_heads):
            if one != other:  # each is zeroed where the other is not
                assert bool((masks[:, one] & ~masks[:, other]).any())
    if n_heads > 1:
        assert not bool(masks.all(dim=1).any())


def by_head(z):
    return z.unflatten(-1, (N_HEADS, D_HEAD))


class PerHead(nn.RMSNorm):
    def forward(self, z):
        return super().forward(by_head(z)).flatten(-2)


class Mixed(nn.Module):
    """Heads mixed among each other, nearly the identity."""

    def forward(self, z):
        mix = torch.eye(N_HEADS) + 0.01 * torch.ones(N_HEADS, N_HEADS)
        return torch.einsum("...hd,hg->...gd", by_head(z), mix).flatten(-2)


def norm(module):
    torch.manual_seed(0)
    with torch.no_grad():
        module.weight.uniform_(0.5, 2)
    return module


KEPT = {
    "scale": lambda z: z * 1.001,
    "gate": lambda z: z * torch.sigmoid(z),
    "one token": lambda z: torch.cat([z[:, :1] * 2, z[:, 1:]], dim=1),
    "gate per head": lambda z: (by_head(z) * torch.tensor([0.1, 2, 0.3, -1])[:, None]).flatten(-2),
    "norm of all heads": norm(nn.RMSNorm(WIDTH, eps=1e-6)),
    "norm of each head": norm(PerHead(D_HEAD, eps=1e-6)),
    "a closed gate": lambda z: (by_head(z) * torch.tensor([1, 0, 1, 1])[:, None]).flatten(-2),
    "order within heads": lambda z: by_head(z).flip(-1).flatten(-2),
}
REFUSED = {
    "heads in another order": lambda z: by_head(z).flip(-2).flatten(-2),
    "two heads exchanged": lambda z: by_head(z)[..., [0, 2, 1, 3], :].flatten(-2),
    "head-minor": lambda z: by_head(z).transpose(-1, -2).flatten(-2),
    "shifted by a coordinate": lambda z: z.roll(1, dims=-1),
    "mixed heads": Mixed(),
    "centred norm": norm(nn.LayerNorm(WIDTH, bias=False)),
    "bias": lambda z: z + 0.1,
    "difference of halves": lambda z: torch.cat(
        [z[..., : WIDTH // 2] - z[..., WIDTH // 2 :]] * 2, dim=-1
    ),
    "one head for two": lambda z: by_head(z)[..., [0, 0, 2, 3], :].flatten(-2),
    "product of two": lambda z: z * z.roll(D_HEAD, dims=-1),
    "all closed": lambda z: z * 0,
}


def changed(change, layer=1):
    network = tiny("llama")
    projection = network.model.layers[layer].self_attn.o_proj
    projection.register_forward_pre_hook(lambda module, args: (change(args[0]),))
    return network


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("change", KEPT)
@torch.no_grad()
def test_what_keeps_heads_apart_is_z_and_silenced_there(change, layer):
    network = changed(KEPT[change], layer)
    engine, seen = FlashEngine(network, "mine"), {}
    entered = []
    network.model.layers[layer].self_attn.o_proj.register_forward_hook(
        lambda module, args, output: entered.append(args[0].clone())
    )

    def silence(heads):
        seen[heads.layer] = heads.outputs.clone()
        mask = torch.zeros(len(INPUTS), N_HEADS, dtype=torch.bool)
        mask[0, 1] = mask[1, 3] = True
        return Silence(mask)

    batch = TokenBatch.of(INPUTS)
    engine.run(batch, silence)
    z = seen[layer]
    kept = by_head(entered[-1])
    for row, head in ((0, 1), (1, 3)):
        assert not bool(kept[row, :, head].any())
        z[row, :, head] = 0
    assert torch.equal(z, kept)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("change", REFUSED)
@torch.no_grad()
def test_what_does_not_is_refused_by_its_layer(change, layer):
    reason = f"mixes heads, or adds to them, between .* output projection of layer {layer}"
    with pytest.raises(ih.UserError, match=reason) as error:
        FlashEngine(changed(REFUSED[change], layer), "mine")
    assert "LlamaForCausalLM of 'mine'" in str(error.value)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [None, "gate", "norm of each head"])
@torch.no_grad()
def test_tokens_may_be_flattened_before_the_projection(change):
    def flattened(network):
        for layer in network.model.layers:
            projection, sizes = layer.self_attn.o_proj, []

            def flatten(module, args, sizes=sizes):
                sizes[:] = args[0].shape[:2]
                return (args[0].flatten(0, 1),)

            projection.register_forward_pre_hook(flatten)
            projection.register_forward_hook(
                lambda module, args, output, sizes=sizes: output.unflatten(0, sizes)
            )
        return network

    def made():
        return tiny("llama") if change is None else changed(KEPT[change])

    found, batch = [], TokenBatch.of(INPUTS, side="left")
    for network in (made(), flattened(made())):
        seen = {}

        def silence(heads, seen=seen):
            seen[heads.layer] = heads.z
            return Silence(heads.mean_over_tokens(heads.z_norm) < heads.z_norm.mean())

        logits = FlashEngine(network, "mine").run(batch, silence)
        found.append([logits, *seen.values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def run_twice(network):
    layer = network.model.layers[1]
    layer.mlp.register_forward_pre_hook(lambda module, args: (layer.self_attn.o_proj(args[0]),))


def attend_twice(network):
    attention = network.model.layers[1].self_attn
    forward = attention.forward
    attention.forward = lambda *args, **kwargs: (
        forward(*args, **kwargs),
        forward(*args, **kwargs),
    )[1]


def first_tokens_only(network):
    projection = network.model.layers[1].self_attn.o_proj
    projection.register_forward_pre_hook(lambda module, args: (args[0][:, :1],))


def tokens_first(network):
    projection = network.model.layers[1].self_attn.o_proj
    projection.register_forward_pre_hook(lambda module, args: (2 * args[0].transpose(0, 1),))
    projection.register_forward_hook(lambda module, args, output: output.transpose(0, 1))


class HalfOfThem(nn.Linear):
    def forward(self, z):
        return super().forward(z[..., : self.in_features])


def other_width(network):
    network.model.layers[1].self_attn.o_proj = HalfOfThem(WIDTH // 2, WIDTH)


def not_run(network):
    projection = network.model.layers[1].self_attn.o_proj
    projection.forward = lambda z: z
    network.model.layers[1].self_attn.o_proj = nn.Identity()
    network.model.layers[1].self_attn.dense = projection


STRANGE = {
    run_twice: "runs the output projection of layer 1 more than once",
    attend_twice: "computes attention several times in one call of layer 1",
    first_tokens_only: r"LlamaForCausalLM of 'mine' is not laid out by heads: layer 1 .* \(4, 1, 32\), where",
    tokens_first: "mixes heads",
    other_width: "in the attention of layer 1, and no other takes in the heads' outputs",
    not_run: "does not run the output projection of layer 1",
}


@pytest.mark.parametrize("change", STRANGE)
def test_a_projection_that_is_used_otherwise_is_refused_by_name(change):
    network = tiny("llama")
    change(network)
    with pytest.raises(ih.UserError, match=STRANGE[change]) as error:
        FlashEngine(network, "mine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("change", ["gate", "norm of all heads", "norm of each head"])
@torch.no_grad()
def test_half_precision_changes_no_decision(change, dtype):
    kept = copy.deepcopy(KEPT[change])
    kept = kept.to(dtype) if isinstance(kept, nn.Module) else kept
    FlashEngine(changed(kept).to(dtype), "mine")
    with pytest.raises(ih.UserError, match="mixes heads"):
        FlashEngine(changed(REFUSED["two heads exchanged"]).to(dtype), "mine")
