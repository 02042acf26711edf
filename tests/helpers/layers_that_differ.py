"""Tiny models whose layers differ in their heads, and what their heads do in plain float64.

Sizes are written by hand. Value vectors are read where attention takes them: after a model's own
norm of them, and from the layer whose keys and values a layer reads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from helpers.reference import ABOVE, Layer, scores
from inactive_heads.engines import HeadSizes

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
WINDOWED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
PER_LAYER_INPUTS = {"vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 8}
SAMPLES = [[1, 2, 3, 4, 5, 6, 7], [5], [9, 8, 7, 6, 5, 4, 3, 2, 1, 96, 50], [33, 44]]


def tiny(model_type: str, **options: Any) -> Any:
    """A model with random weights, large enough that attention is far from uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **(SIZES | options))
        network = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        return _drawn(network)


def _drawn(network: Any) -> Any:
    for parameter in network.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.25)
        elif not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def tiny_llama_with_heads(heads: Sequence[tuple[int, int]]) -> Any:
    """A Llama whose layers have their own numbers of heads and key/value heads, as if pruned."""
    network = tiny("llama", num_hidden_layers=len(heads))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for layer, (n_heads, n_key_value_heads) in enumerate(heads):
            config = copy.copy(network.config)
            config.num_attention_heads = n_heads
            config.num_key_value_heads = n_key_value_heads
            attention = _drawn(LlamaAttention(config, layer))
            attention.config = network.config
            network.model.layers[layer].self_attn = attention
    return network


class Differing(NamedTuple):
    """A model, and the sizes of its layers."""

    make: Callable[[], Any]
    heads: list[HeadSizes]
    has_bridge: bool = False


GEMMA_4 = {**WINDOWED, **PER_LAYER_INPUTS, "global_head_dim": 16}
GEMMA_3N = {**WINDOWED, **PER_LAYER_INPUTS, "laurel_rank": 8, "altup_num_inputs": 2}
NARROW, WIDE = HeadSizes(4, 2, 8), HeadSizes(4, 2, 16)
PRUNED = [(4, 2), (6, 3), (2, 1), (3, 3)]
MODELS = {
    "pruned llama": Differing(
        partial(tiny_llama_with_heads, PRUNED), [HeadSizes(n, kv, 8) for n, kv in PRUNED], True
    ),
    "gemma 4": Differing(partial(tiny, "gemma4_text", **GEMMA_4), [NARROW, WIDE] * 2, True),
    "gemma 4 whose last layers share": Differing(
        partial(tiny, "gemma4_text", **GEMMA_4, num_kv_shared_layers=2),
        [NARROW, WIDE, HeadSizes(4, 2, 8, 0), HeadSizes(4, 2, 16, 1)],
    ),
    "gemma 3n": Differing(
        partial(tiny, "gemma3n_text", **GEMMA_3N, num_kv_shared_layers=2),
        [NARROW, NARROW, HeadSizes(4, 2, 8, 0), HeadSizes(4, 2, 8, 1)],
    ),
    "laguna": Differing(  # its heads are gated
        partial(
            tiny,
            "laguna",
            **WINDOWED,
            num_attention_heads_per_layer=[4, 8, 2, 6],
            mlp_layer_types=["dense"] * 4,
        ),
        [HeadSizes(4, 2, 8), HeadSizes(8, 2, 8), HeadSizes(2, 2, 8), HeadSizes(6, 2, 8)],
        True,
    ),
    "mimo v2 flash": Differing(
        partial(tiny, "mimo_v2_flash", **WINDOWED, v_head_dim=12, mlp_layer_types=["dense"] * 4),
        [HeadSizes(4, 4, 12), HeadSizes(4, 2, 12)] * 2,
    ),
}


def run(
    network: Any,
    heads: Sequence[HeadSizes],
    tokens: Sequence[int],
    replaced: Sequence[tuple[int, int]] = (),
    means: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Layer]]:
    """The logits and every layer's heads, with heads set to 0 or to their means (layer, head, :)."""
    network = copy.deepcopy(network).double()
    attentions = {
        m.layer_idx: m
        for m in network.modules()
        if hasattr(m, "layer_idx") and hasattr(m, "o_proj")
    }
    values: dict[int, torch.Tensor] = {}
    outputs: dict[int, torch.Tensor] = {}

    def keep(_module: Any, _inputs: Any, output: torch.Tensor, *, layer: int) -> None:
        scale = getattr(attentions[layer], "v_scale", 1.0)
        values[layer] = (
            output[0].reshape(output.shape[1], heads[layer].n_key_value_heads, -1) * scale
        )

    def replace(_module: Any, inputs: tuple[torch.Tensor, ...], *, layer: int) -> Any:
        z = inputs[0][0].unflatten(-1, (heads[layer].n_heads, -1)).clone()
        outputs[layer] = z.clone()
        for head in (head for at, head in replaced if at == layer):
            z[:, head] = 0 if means is None else torch.as_tensor(means[layer, head, : z.shape[-1]])
        return (z.flatten(1)[None],)

    for layer, attention in attentions.items():
        if heads[layer].key_value_layer is None:
            value = attention.v_norm if hasattr(attention, "v_norm") else attention.v_proj
            value.register_forward_hook(partial(keep, layer=layer))
        attention.o_proj.register_forward_pre_hook(partial(replace, layer=layer))
    with torch.no_grad():
        found = network(torch.tensor([list(tokens)]), output_attentions=True, use_cache=False)
    layers = []
    for layer, own in enumerate(heads):
        v = values[layer if own.key_value_layer is None else own.key_value_layer]
        weight = attentions[layer].o_proj.weight.T.unflatten(0, (own.n_heads, -1))
        layers.append(
            Layer(
                found.attentions[layer][0].numpy(),
                v.repeat_interleave(own.n_heads // v.shape[1], dim=1).numpy(),
                outputs[layer].numpy(),
                weight.numpy(),
            )
        )
    return found.logits[0].numpy(), layers


def per_input(
    network: Any, heads: Sequence[HeadSizes], tokens: Sequence[int], score: str, threshold: float
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The logits after the last token, and the heads: each layer scored with earlier ones zeroed."""
    zeroed: list[tuple[int, int]] = []
    for layer in range(len(heads)):
        values = scores(run(network, heads, tokens, zeroed)[1][layer])[score]
        chosen = values > threshold if score in ABOVE else values < threshold
        zeroed += [(layer, head) for head in np.flatnonzero(chosen).tolist()]
    return run(network, heads, tokens, zeroed)[0][-1], zeroed


def padded(grids: Sequence[np.ndarray], width: int) -> np.ndarray:
    """One row per layer; NaN at heads that a layer lacks."""
    found = np.full((len(grids), width), np.nan)
    for row, own in zip(found, grids, strict=True):
        row[: len(own)] = own
    return found
