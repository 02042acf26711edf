"""Tiny models in which one attention module runs in several layers, and what they do in plain float64.

The reference registers an attention function of its own, and knows the layer from the list of blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import create_causal_mask, eager_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from helpers.reference import Layer
from helpers.running_blocks import running
from helpers.tiny_architectures import randomize, tiny_architecture
from helpers.tiny_families import tiny

SAMPLES = [[5, 6, 7, 8, 9, 10, 3], [11], [40, 2, 96, 17, 5, 21, 30, 8, 12, 61, 7], [33, 44]]


class PooledConfig(PreTrainedConfig):
    model_type = "pooled"
    vocab_size: int = 97
    hidden_size: int = 32
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 64


class Pooled(nn.Module):
    """Attention without a number. With ``gated``, z is what it returns times a gate."""

    def __init__(self, config: PooledConfig, gated: bool) -> None:
        super().__init__()
        width, narrow = config.hidden_size, config.hidden_size // 2
        self.config, self.is_causal, self.num_key_value_groups = config, True, 2
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, wide, bias=False) for wide in (width, narrow, narrow, width)
        )
        self.gate = nn.Linear(width, width) if gated else None

    def forward(self, x: Tensor, mask: Tensor | None, cache: Any, at: int) -> Tensor:
        q, k, v = (
            one(x).unflatten(-1, (-1, 8)).transpose(1, 2)
            for one in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            k, v = cache.update(k, v, at)
        attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        z = attend(self, q, k, v, mask, scaling=0.4)[0].flatten(2)
        return self.o_proj(z if self.gate is None else z * self.gate(x).sigmoid())


class Step(nn.Module):
    """A layer that runs one of the pool's modules, which it does not hold."""

    def __init__(self, config: PooledConfig) -> None:
        super().__init__()
        self.norm, self.mlp_norm = (nn.RMSNorm(config.hidden_size) for _ in range(2))
        self.mlp = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, attention: Pooled | None, **given: Any) -> Tensor:
        if attention is not None:
            x = x + attention(self.norm(x), **given)
        return x + self.mlp(self.mlp_norm(x)).tanh()


class PooledForCausalLM(PreTrainedModel, GenerationMixin):
    """Layers 0 and 2 run the pool's first attention, 1 and 4 its second, and 3 none."""

    config_class = PooledConfig
    _supports_sdpa = True
    plan = (0, 1, 0, None, 1)

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.pool = nn.ModuleList(Pooled(config, gated) for gated in (False, True))
        self.steps = nn.ModuleList(Step(config) for _ in self.plan)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
    ) -> CausalLMOutputWithPast:
        x = self.embed(input_ids)
        if position_ids is None:
            position_ids = torch.arange(x.shape[1])[None]
        x = x + self.places(position_ids)
        mask = create_causal_mask(self.config, x, attention_mask, past_key_values)
        for at, (step, chosen) in enumerate(zip(self.steps, self.plan, strict=True)):
            attention = None if chosen is None else self.pool[chosen]
            x = step(x, attention, mask=mask, cache=past_key_values, at=at)
        return CausalLMOutputWithPast(
            logits=self.lm_head(x), past_key_values=past_key_values if use_cache else None
        )


def pooled() -> PooledForCausalLM:
    """The hand-made model with random weights."""
    torch.manual_seed(0)
    network = PooledForCausalLM(PooledConfig()).eval()
    randomize(network)
    return network


def zamba(model_type: str, **changes: Any) -> PreTrainedModel:
    """A tiny Zamba whose layers have one attention module, not several with the same weights."""
    network = tiny_architecture(model_type, **changes)
    name = "shared_transf" if model_type == "zamba" else "shared_transformer"
    blocks = [block for block in network.model.layers if hasattr(block, name)]
    cycle = network.config.num_mem_blocks if model_type == "zamba2" else 1
    for number, block in enumerate(blocks):
        setattr(block, name, getattr(blocks[number % cycle], name))
    return network


def one_attention(family: str) -> PreTrainedModel:
    """A tiny model whose three layers have the attention of the first."""
    network = tiny(family)
    for block in network.model.layers:
        block.self_attn = network.model.layers[0].self_attn
    return network


def repeated_blocks() -> PreTrainedModel:
    """A tiny Llama whose list of layers is its first two, twice."""
    network = tiny("llama", num_hidden_layers=4)
    first, second = network.model.layers[:2]
    network.model.layers = nn.ModuleList([first, second, first, second])
    return network


class Shared(NamedTuple):
    """A model, its list of blocks, and the layers with attention."""

    make: Callable[[], PreTrainedModel]
    layers: tuple[int, ...]
    blocks: str = "model.layers"


MIXED = "linear_attention"
FOUR_OF_TWO = {
    "num_hidden_layers": 6,
    "layers_block_type": [MIXED if at in (1, 4) else "hybrid" for at in range(6)],
    "num_mem_blocks": 2,
}
MODELS = {
    "zamba": Shared(functools.partial(tiny_architecture, "zamba"), (2, 5)),
    "zamba2": Shared(functools.partial(tiny_architecture, "zamba2"), (2, 5)),
    "zamba, one module": Shared(functools.partial(zamba, "zamba"), (2, 5)),
    "zamba2, two modules": Shared(functools.partial(zamba, "zamba2", **FOUR_OF_TWO), (0, 2, 3, 5)),
    "a pool outside the layers": Shared(pooled, (0, 1, 2, 4), "steps"),
    "llama, one attention": Shared(functools.partial(one_attention, "llama"), (0, 1, 2)),
    "gated, one attention": Shared(functools.partial(one_attention, "afmoe"), (0, 1, 2)),
    "llama, blocks twice": Shared(repeated_blocks, (0, 1, 2, 3)),
}

_seen: list[Callable[..., None]] = []


def _plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_others: Any,
) -> tuple[Tensor, Tensor]:
    copies = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(copies, dim=1) for one in (key, value))
    logits = scaling * query @ key.transpose(2, 3)
    length = query.shape[2]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    logits = logits.masked_fill(hidden, -torch.inf)
    if attention_mask is not None:
        logits = logits + attention_mask
    pattern = logits.softmax(dim=-1)
    _seen[-1](pattern[0], value[0].transpose(0, 1))
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


PLAIN = "plain_reference_of_shared_attention"
AttentionInterface.register(PLAIN, _plain_attention)
AttentionMaskInterface.register(PLAIN, eager_mask)


@functools.cache
def _exact(shared: Shared) -> PreTrainedModel:
    network = shared.make().double()
    network.set_attn_implementation(PLAIN)
    return network


def run(
    shared: Shared, tokens: Sequence[int], zeroed: Mapping[int, Sequence[int]] | None = None
) -> tuple[np.ndarray, dict[int, Layer]]:
    """The logits ``(pos, d_vocab)`` and every layer's heads, with those in ``zeroed`` set to 0."""
    network = _exact(shared)
    attended: dict[int, tuple[Tensor, Tensor]] = {}
    layers: dict[int, Layer] = {}

    def enter(projection: nn.Linear, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        layer, n_heads = now.block, 4
        z = args[0][0].unflatten(-1, (n_heads, -1)).clone()
        pattern, values = (one.numpy() for one in attended.pop(layer))
        weights = projection.weight.T.unflatten(0, (n_heads, -1))
        layers[layer] = Layer(pattern, values, z.numpy().copy(), weights.detach().numpy())
        z[:, list((zeroed or {}).get(layer, ()))] = 0
        return (z.flatten(1)[None],)

    projections = [module.o_proj for module in network.modules() if hasattr(module, "q_proj")]
    handles = [projection.register_forward_pre_hook(enter) for projection in projections]
    with torch.no_grad(), running(network.get_submodule(shared.blocks)) as now:
        _seen.append(lambda *found: attended.__setitem__(now.block, found))
        try:
            logits = network(torch.tensor([list(tokens)]), use_cache=False).logits[0]
        finally:
            _seen.pop()
    for handle in handles:
        handle.remove()
    return logits.numpy(), layers
