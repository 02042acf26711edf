"""Tiny models with random weights, to check scores on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from einops import repeat
from transformers import PreTrainedModel

from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.weights.random_weights import Architecture

SCALE = 0.25
"""Standard deviation of the weights. With the usual 0.02, all heads would behave nearly alike."""


PLAIN = Architecture(
    family="gpt2",
    name="a tiny GPT-2",
    n_layers=2,
    n_heads=4,
    n_key_value_heads=4,
    d_head=8,
    d_model=32,
    d_mlp=48,
    n_ctx=64,
    d_vocab=97,
)


GROUPED = replace(PLAIN, family="llama", name="a tiny Llama", n_key_value_heads=2)


def new_plain_model() -> FlashEngine:
    """A GPT-2 with one key/value head per query head, biases and learned positions.

    Returns:
        A new engine, not the shared one of `plain_model`.
    """
    return FlashEngine(_network(PLAIN), PLAIN.name)


# Models are made once. Scores receive copies of activations, so they cannot affect each other.
plain_model = cache(new_plain_model)


@cache
def hooked_model() -> LensEngine:
    """The model of `plain_model`, through TransformerLens hooks.

    Returns:
        The shared engine.
    """
    return LensEngine(bridge_of(_network(PLAIN, attention="eager"), PLAIN.name))


@cache
def grouped_model() -> FlashEngine:
    """A Llama with two query heads per key/value head.

    Returns:
        The shared engine.
    """
    return FlashEngine(_network(GROUPED), GROUPED.name)


@cache
def ungrouped_model() -> FlashEngine:
    """The model of `grouped_model`, with keys and values repeated for each query head.

    Returns:
        The shared engine.
    """
    own, group = "_proj.weight", GROUPED.n_heads // GROUPED.n_key_value_heads
    weights = {
        name: repeat(w, "(kv d) m -> (kv group d) m", group=group, d=GROUPED.d_head)
        if name.endswith(("k" + own, "v" + own))
        else w
        for name, w in _network(GROUPED).state_dict().items()
    }
    network = _network(replace(GROUPED, n_key_value_heads=GROUPED.n_heads))
    network.load_state_dict(weights)
    return FlashEngine(network, GROUPED.name)


def _network(architecture: Architecture, attention: str | None = None) -> PreTrainedModel:
    """The network, with weights large enough for heads to differ and no bias equal to 0."""
    network = architecture.network(torch.float32, attention)
    generator = torch.Generator().manual_seed(architecture.seed)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=SCALE, generator=generator)
        elif not bool(parameter.any()):
            parameter.normal_(std=SCALE / 2, generator=generator)
    return network
