"""What the first look proves or refuses: z is what enters W_O, whatever the architecture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers.tiny_families import tiny

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

SMALL = {"num_key_value_heads": 2, "head_dim": 8}


def entering(network):
    """What enters the output projection of every attention layer, by plain hooks."""
    found = {}

    def keep(layer):
        return lambda module, args: found.__setitem__(layer, args[0].detach().clone())

    handles = [
        module.o_proj.register_forward_pre_hook(keep(module.layer_idx))
        for module in network.modules()
        if hasattr(module, "o_proj") and isinstance(getattr(module, "layer_idx", None), int)
    ]
    return found, handles


@pytest.mark.parametrize("family", ["bitnet", "afmoe"])
def test_what_lens_shows_of_them_is_what_enters_the_projection(family):
    network = tiny(family)
    network.set_attn_implementation("eager")
    found, _ = entering(network)
    batch, tokens = TokenBatch.of([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        network(tokens, use_cache=False)
    expected = dict(found)
    seen = {}
    engine = LensEngine(bridge_of(copy.deepcopy(network), "mine"))
    engine.run(batch, lambda heads: seen.__setitem__(heads.layer, heads.outputs.clone()))
    assert sorted(seen) == sorted(expected)
    for layer, z in seen.items():
        torch.testing.assert_close(z.flatten(2), expected[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "phi3", "lfm2", "cohere", "olmo2"])
def test_what_flash_shows_is_what_enters_the_projection(family):
    network = tiny(family)
    engine, seen = FlashEngine(network, "mine"), {}
    names = ("o_proj", "out_proj")
    found = {}
    for module in network.modules():
        projection = next((getattr(module, name) for name in names if hasattr(module, name)), None)
        if projection is not None and getattr(module, "layer_idx", None) in engine.shape.layers:
            layer = module.layer_idx
            projection.register_forward_pre_hook(
                lambda module, args, layer=layer: found.__setitem__(layer, args[0].clone())
            )
    batch = TokenBatch.of([[5, 6, 7, 8, 9, 10]])
    engine.run(batch, lambda heads: seen.__setitem__(heads.layer, heads.outputs.clone()))
    assert sorted(seen) == list(engine.shape.layers)
    for layer, z in seen.items():
        assert torch.equal(z.flatten(2), found[layer])


CRASHES = {
    "diffllama": {"num_key_value_heads": 2},
    "mamba": {"state_size": 4},
    "bert": {"is_decoder": False},
}


TRUE_REASONS = {
    "mamba": "computes attention neither by transformers' attention interface nor",
    "diffllama": "computes attention several times in one call of layer 0",
    "bert": "lets tokens see later ones",
}


@pytest.mark.parametrize("family", CRASHES)
def test_what_flash_cannot_run_is_refused_in_one_line_that_is_true(family):
    network = tiny(family, **CRASHES[family])
    with pytest.raises(ih.UserError) as error:
        FlashEngine(network, "mine")
    message = str(error.value)
    assert type(network).__name__ in message or "BertSelfAttention" in message
    assert TRUE_REASONS.get(family, "") in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("kv", [3, 8, 32])
def test_key_value_heads_that_do_not_divide_the_heads_are_refused(kv):
    """PyTorch's kernel for the CPU ends the process with a division by zero."""
    network = tiny("llama")
    config = copy.deepcopy(network.config)
    config.num_key_value_heads = kv
    with pytest.raises(ih.UserError, match=f"4 heads and {kv} key/value heads"):
        FlashEngine(type(network)(config).eval(), "mine")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("engine", ["flash", "lens"])
def test_weights_that_are_not_finite_are_refused_at_the_door(family, engine):
    network = tiny(family)
    name, weight = next(
        (name, one) for name, one in network.named_parameters() if ".1." in name and one.ndim == 2
    )
    weight.data[0, 0] = torch.nan
    with pytest.raises(ih.UserError, match="on four tokens.* in layer 1") as error:
        FlashEngine(network, "mine") if engine == "flash" else LensEngine(
            bridge_of(network, "mine")
        )
    if engine == "flash":  # a bridge has names of its own
        assert f"the weight {name} is damaged" in str(error.value)
    assert "damaged" in str(error.value)


def test_a_bridge_is_looked_at_once():
    network = tiny("llama")
    network.set_attn_implementation("eager")
    bridge, runs = bridge_of(network, "mine"), []
    network.model.layers[0].register_forward_pre_hook(lambda module, args: runs.append(1))
    LensEngine(bridge)
    first = len(runs)
    LensEngine(bridge)
    assert first == len(runs) == 1


class Named(torch.nn.Module):
    """An output projection under a name that nobody knows."""

    def __init__(self, projection, other=None):
        super().__init__()
        self.mine, self.other = projection, other

    def forward(self, z):
        return self.mine(z) if self.other is None else self.mine(z) * self.other(z).sigmoid()


def wrapped(other=lambda projection: None):
    """A tiny Llama whose output projections are wrapped, and the same without."""
    network = tiny("llama").eval()
    changed = copy.deepcopy(network)
    for layer in changed.model.layers:
        own = layer.self_attn.o_proj
        layer.self_attn.o_proj = Named(own, other(own))
    return network, changed


def test_the_projection_is_the_linear_layer_that_takes_in_z_whatever_its_name():
    plain, changed = wrapped()
    inputs = [[5, 6, 7, 8], [9, 3]]
    found, expected = (
        ih.score_heads(
            Model(FlashEngine(one, "mine"), None, {"model": "x"}, lambda text: []),
            inputs,
            scores=["AHRN", "RON"],
            progress=False,
        )
        for one in (changed, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_several_linear_layers_that_take_in_z_are_refused():
    _, changed = wrapped(copy.deepcopy)
    with pytest.raises(ih.UserError, match="outputs of layer 0 to several linear layers"):
        FlashEngine(changed, "mine")


def test_no_linear_layer_that_takes_in_z_is_refused():
    _, changed = wrapped()
    for layer in changed.model.layers:
        layer.self_attn.o_proj.forward = torch.zeros_like
    with pytest.raises(ih.UserError, match="in the attention of layer 0, and no other takes in"):
        FlashEngine(changed, "mine")
