"""A preset's sizes are those of the network that its model's configuration describes."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.closeness import assert_close
from helpers.preset_configs import CONFIGS
from helpers.preset_networks import PLAIN, projections, tiny, whole

import inactive_heads as ih
from inactive_heads.cli.preset_table import find_presets, preset_table
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.errors import UserError
from inactive_heads.models.model import Model
from inactive_heads.models.preset_sizes import parse_sizes

PRESETS = find_presets()
SIZES = asdict(PRESETS["gpt2"].sizes)
INPUTS = [[5, 9, 7, 3, 11, 2, 40, 8, 96, 4, 6, 1], [12, 30]]


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_those_of_the_configuration(name):
    network, sizes = whole(name), PRESETS[name].sizes
    config = network.config.get_text_config()
    weights = set(network.parameters())
    assert sizes.parameters == float(f"{sum(weight.numel() for weight in weights):.3g}")
    assert sizes.architecture == config.model_type
    assert (sizes.n_layers, sizes.d_model) == (config.num_hidden_layers, config.hidden_size)
    assert (sizes.n_ctx, sizes.d_vocab) == (config.max_position_embeddings, config.vocab_size)
    assert sizes.d_mlp == max(mlp_widths(network, sizes.d_model))
    found = projections(network)
    assert list(found) == list(sizes.heads)
    for layer, (attention, projection) in found.items():
        n_heads, n_key_value_heads, d_head = sizes.heads[layer]
        assert projection.in_features == n_heads * d_head
        keys = getattr(attention, "k_proj", None)
        if keys is not None:  # None where they are an earlier layer's, or come from a short vector
            assert keys.out_features == n_key_value_heads * d_head


def mlp_widths(network, d_model):
    """The widths of MLPs and experts, whose last weight has one side of the stream's width."""
    for name, weight in network.named_parameters():
        of_text = "vision" not in name and "audio" not in name
        if of_text and re.search(r"(down_proj|w2|output_linear)(\.weight)?$", name):
            sides = list(weight.shape[-2:])
            sides.remove(d_model)
            yield sides[0]


def test_every_preset_s_sizes_are_checked():
    checked = {PRESETS[name].sizes for name in CONFIGS}
    for name, preset in PRESETS.items():
        assert preset.sizes in checked or preset.sizes.architecture in PLAIN, name


MENDING = ("gemma-4",)
"""Models that the engine refuses: their layers differ in the width of heads."""


@pytest.mark.parametrize("name", CONFIGS)
def test_a_scaled_down_model_is_scored_and_zeroed_at_the_projection(name):
    network = tiny(name)
    n_heads = network.config.get_text_config().num_attention_heads
    try:
        engine = FlashEngine(copy.deepcopy(network), name)
    except UserError as error:
        if not name.startswith(MENDING):
            raise
        pytest.skip(f"refused: {error}")
    model = Model(engine, None, {"model": name}, lambda text: [])
    norms, plain = run_at_projections(network, n_heads)
    found = ih.score_heads(model, INPUTS, scores=["AHON"]).sel(score="AHON")
    assert_close(found, norms, rtol=1e-4)
    assert_close(ih.ablate(model, INPUTS, None).logits, plain, rtol=1e-4)
    head = n_heads - 1
    mask = xr.zeros_like(found.isel(sample=0), dtype=bool)
    mask.loc[{"head": head}] = True
    _, silenced = run_at_projections(network, n_heads, silent=head)
    assert np.abs(silenced - plain).max() > 1e-3
    assert_close(ih.ablate(model, INPUTS, ih.Fixed(mask)).logits, silenced, rtol=1e-4)


def run_at_projections(network, n_heads, silent=None):
    """AHON ``(input, layer, head)`` and last logits of plain runs, read at the output projections.

    The head ``silent`` is set to 0 there in every layer.
    """
    norms, logits = [], []

    def read(module, given):
        z = given[0].unflatten(-1, (n_heads, -1)).clone()
        norms.append(z[0].norm(dim=-1).mean(dim=0))
        if silent is not None:
            z[:, :, silent] = 0
        return (z.flatten(-2),)

    hooks = [one.register_forward_pre_hook(read) for _, one in projections(network).values()]
    with torch.no_grad():
        for tokens in INPUTS:
            logits.append(network(input_ids=torch.tensor([tokens])).logits[0, -1].float())
    for hook in hooks:
        hook.remove()
    found = torch.stack(norms).unflatten(0, (len(INPUTS), -1))
    return found.numpy(), torch.stack(logits).numpy()


@pytest.mark.parametrize(
    ("changed", "heads"),
    [
        ({"n_heads": [0, 0, 4]}, {2: (4, 12, 64), 5: (4, 12, 64), 8: (4, 12, 64), 11: (4, 12, 64)}),
        (
            {"n_layers": 4, "n_heads": 8, "n_key_value_heads": [8, 2], "d_head": [16, 32]},
            {0: (8, 8, 16), 1: (8, 2, 32), 2: (8, 8, 16), 3: (8, 2, 32)},
        ),
        ({"n_layers": 2, "n_heads": [0, 6], "d_head": [1, 8]}, {1: (6, 12, 8)}),
    ],
)
def test_a_list_repeats_over_the_layers(changed, heads):
    sizes = parse_sizes(SIZES | changed, "mine.toml")
    assert sizes.heads == heads
    largest = tuple(max(column) for column in zip(*heads.values(), strict=True))
    shape = sizes.shape
    assert (shape.n_heads, shape.n_key_value_heads, shape.d_head) == largest
    assert shape.layers == tuple(heads)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_heads": [0, 0, 0, 0, 8]}, "n_heads lists 5 layers, which do not repeat over 12"),
        ({"d_head": []}, "d_head lists 0 layers"),
        ({"n_heads": [0, 0]}, r"n_heads = \[0, 0\] leaves no layer with attention heads"),
        ({"n_key_value_heads": [2, 0]}, "n_key_value_heads = 0; give a number above 0"),
        ({"n_heads": [4, -1]}, "n_heads = -1; give numbers, 0 for a layer without"),
        ({"n_heads": [4, "8"]}, "n_heads = '8'; give numbers, 0 for a layer without"),
        ({"n_heads": [4, True]}, "n_heads = True; give numbers, 0 for a layer without"),
        ({"n_layers": [12]}, r"n_layers = \[12\]; give a number above 0"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(UserError, match=f"mine.toml: {message}"):
        parse_sizes(SIZES | changed, "mine.toml")


def test_the_list_says_how_many_layers_have_attention():
    table = preset_table(PRESETS)
    names, shown = (list(table.columns[at].cells) for at in (0, 1))
    cells = dict(zip(names, shown, strict=True))
    assert cells["gpt2"] == "12 × 12"
    assert cells["gpt-oss-20b"] == "24 × 64 (8 kv)"
    assert cells["qwen3.5-0.8b"] == "6 of 24 × 8 (2 kv)"
    assert cells["gemma-4-31b"] == "60 × 32 (16, 4 kv)"
