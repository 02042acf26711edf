"""What heads write into the residual stream and how it is read, from Hugging Face's own modules.

Each architecture's block is described by the names of its modules, as its source reads. What a head
writes is what the stream loses when the head's output is zeroed, by a plain hook, in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from helpers import tiny_families as families
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of

USUAL = "post_attention_layernorm"
GROUPED = {"num_key_value_heads": 2}


@dataclass(frozen=True)
class Layout:
    """How the blocks of an architecture are put together.

    Attributes:
        model_type: the architecture.
        options: of its config.
        blocks: the list of blocks.
        projections: the output projection's possible names in a block.
        before: the norms that read the stream as it enters a block, if the block has them.
        after: the norms that read the stream after attention.
        centred: whether they are LayerNorms.
        plus_one: whether they store their gain minus 1.
        post: the norm of attention's output.
        beside: modules whose output joins the stream together with attention's, and the factor.
        adds_to: the module whose output heads add to, if not the block's input.
        factor: on what heads add to, by layer.
        ends: whether the norm after attention takes the stream's place.
        engines: which engines can show its heads.
    """

    model_type: str
    options: dict = field(default_factory=dict)
    blocks: str = "model.layers"
    projections: tuple[str, ...] = ("self_attn.o_proj",)
    before: tuple[str, ...] = ("input_layernorm",)
    after: tuple[str, ...] = (USUAL,)
    centred: bool = False
    plus_one: bool = False
    post: str | None = None
    beside: tuple[tuple[str, float], ...] = ()
    adds_to: str | None = None
    factor: Callable[[int], float] = lambda layer: 1.0
    ends: bool = False
    engines: tuple[str, ...] = ("flash", "lens")

    def tiny(self) -> nn.Module:
        """A tiny model whose norms have gains and biases that differ by coordinate."""
        network = families.tiny(self.model_type, **self.options)
        for module in network.modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.ndim == 1:
                nn.init.uniform_(weight, 0.5, 2)
        return network


FALCON = {
    "blocks": "transformer.h",
    "projections": ("self_attention.dense",),
    "centred": True,
}
BLOOM = {
    "blocks": "transformer.h",
    "projections": ("self_attention.dense",),
    "centred": True,
    "engines": ("lens",),
}
GEMMA = {"after": ("pre_feedforward_layernorm",), "post": USUAL, "plus_one": True}
NEOX = {
    "blocks": "gpt_neox.layers",
    "projections": ("attention.dense",),
    "centred": True,
}
OPT = {
    "blocks": "model.decoder.layers",
    "projections": ("self_attn.out_proj",),
    "centred": True,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
ALPHA, BETA = 1.7, 0.6

LAYOUTS = {
    "gpt2": Layout(
        "gpt2",
        blocks="transformer.h",
        projections=("attn.c_proj",),
        before=("ln_1",),
        after=("ln_2",),
        centred=True,
    ),
    "gpt_neox": Layout(
        "gpt_neox", before=("input_layernorm", USUAL), after=(), beside=(("mlp", 1),), **NEOX
    ),
    "gpt_neox in sequence": Layout("gpt_neox", {"use_parallel_residual": False}, **NEOX),
    "phi": Layout(
        "phi", projections=("self_attn.dense",), after=(), centred=True, beside=(("mlp", 1),)
    ),
    "cohere": Layout("cohere", GROUPED, after=(), centred=True, beside=(("mlp", 1),)),
    "falcon": Layout(
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 1, "bias": True},
        before=("ln_attn", "ln_mlp"),
        after=(),
        beside=(("mlp", 1),),
        engines=("lens",),
        **FALCON,
    ),
    "falcon, old": Layout(
        "falcon", {}, after=(), beside=(("mlp", 1),), engines=("lens",), **FALCON
    ),
    "falcon in sequence": Layout("falcon", {"parallel_attn": False}, engines=("lens",), **FALCON),
    "bloom": Layout("bloom", **BLOOM),
    "bloom, norms' outputs added": Layout(
        "bloom",
        {"apply_residual_connection_post_layernorm": True},
        adds_to="input_layernorm",
        ends=True,
        **BLOOM,
    ),
    "opt": Layout("opt", before=("self_attn_layer_norm",), after=("final_layer_norm",), **OPT),
    "opt, norms after": Layout(
        "opt",
        {"do_layer_norm_before": False},
        before=(),
        after=("self_attn_layer_norm",),
        ends=True,
        engines=("flash",),
        **OPT,
    ),
    "llama": Layout("llama"),
    "qwen2": Layout("qwen2"),
    "qwen3": Layout("qwen3"),
    "mistral": Layout("mistral"),
    "phi3": Layout("phi3"),
    "gpt_oss": Layout("gpt_oss"),
    "olmo": Layout("olmo", GROUPED, centred=True, engines=("flash",)),
    "olmo2": Layout(
        "olmo2", before=(), after=(), post=USUAL, beside=(("post_feedforward_layernorm", 1),)
    ),
    "gemma2": Layout("gemma2", **GEMMA),
    "gemma3_text": Layout("gemma3_text", **GEMMA),
    "granite": Layout("granite"),
    "granitemoehybrid": Layout(
        "granitemoehybrid",
        GROUPED
        | EXPERTS
        | MAMBA
        | {
            "residual_multiplier": 0.4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "shared_intermediate_size": 24,
        },
        engines=("flash",),
    ),
    "bamba": Layout(
        "bamba",
        GROUPED | MAMBA | {"num_hidden_layers": 4, "attn_layer_indices": [0, 2]},
        after=("pre_ff_layernorm",),
        engines=("flash",),
    ),
    "lfm2": Layout(
        "lfm2",
        projections=("self_attn.out_proj",),
        before=("operator_norm",),
        after=("ffn_norm",),
    ),
    "falcon_h1": Layout(
        "falcon_h1",
        GROUPED
        | MAMBA
        | {"mamba_d_ssm": 64, "attention_out_multiplier": 0.6, "ssm_out_multiplier": 0.8},
        after=("pre_ff_layernorm",),
        beside=(("mamba", 0.8),),
        engines=("flash",),
    ),
    "qwen3_next": Layout(
        "qwen3_next",
        GROUPED
        | {
            "head_dim": families.D_HEAD,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        plus_one=True,
    ),
    "beam": Layout(
        "beam",
        GROUPED | {"head_dim": families.D_HEAD},
        after=("pre_feedforward_layernorm",),
        post=USUAL,
        factor=lambda layer: (1 - 1 / (2 * layer + 2)) ** 0.5,
        engines=("flash",),
    ),
    "minimax": Layout(
        "minimax",
        GROUPED
        | EXPERTS
        | {
            "head_dim": families.D_HEAD,
            "layer_types": ["full_attention", "linear_attention", "full_attention"],
            "full_attn_alpha_factor": ALPHA,
            "full_attn_beta_factor": BETA,
        },
        adds_to="input_layernorm",
        factor=lambda layer: ALPHA,
        ends=True,
        engines=("flash",),
    ),
    "dbrx": Layout(
        "dbrx",
        {
            "d_model": 32,
            "n_heads": families.N_HEADS,
            "n_layers": 3,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 2.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
        },
        blocks="transformer.blocks",
        projections=("norm_attn_norm.attn.out_proj",),
        before=("norm_attn_norm.norm_1",),
        after=("norm_attn_norm.norm_2",),
        centred=True,
        engines=("flash",),
    ),
}

ENGINES = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny")),
}


def engine_of(layout: Layout, name: str, network: nn.Module):
    """An engine over a copy of a model."""
    copied = copy.deepcopy(network)
    if name == "lens":
        copied.set_attn_implementation("eager")  # others give no pattern
    return ENGINES[name](copied)


def find(block: nn.Module, names):
    """The submodules of a block that it has, of these names."""
    modules = dict(block.named_modules())
    return [modules[name] for name in names if name in modules]


@dataclass
class Written:
    """One layer of one input, float64: ``vectors`` is (pos, head, d_model), others (pos, d_model)."""

    stream: torch.Tensor
    vectors: torch.Tensor
    updated: torch.Tensor


def run(network, layout, tokens, layer, silenced=None):
    """What the hooks see in one layer, with one head's output zeroed or none."""
    block = network.get_submodule(layout.blocks)[layer]
    (projection,) = find(block, layout.projections)
    seen, handles = {}, []

    def first(one):
        return (one[0] if isinstance(one, tuple) else one).detach().double().clone()

    def keep(name, module, *, entering):
        def on_input(_module, args, kwargs):
            seen[name] = first(args if args else kwargs["hidden_states"]).flatten(0, -2)

        def on_output(_module, _args, output):
            seen[name] = first(output).flatten(0, -2)

        handles.append(
            module.register_forward_pre_hook(on_input, with_kwargs=True)
            if entering
            else module.register_forward_hook(on_output)
        )

    def silence(_module, args):
        z = args[0].unflatten(-1, (families.N_HEADS, -1)).clone()
        if silenced is not None:
            z[..., silenced, :] = 0
        return (z.flatten(-2),)

    handles.append(projection.register_forward_pre_hook(silence))
    keep("entering", block, entering=True)
    keep("leaving", block, entering=False)
    keep("projected", projection, entering=False)
    for name in layout.after[:1]:
        keep("after", *find(block, (name,)), entering=True)
    names = [name for name, _ in layout.beside] + [layout.post] * bool(layout.post)
    for name in names + ([layout.adds_to] if layout.adds_to else []):
        keep(name, *find(block, (name,)), entering=False)
    with torch.no_grad():
        network(torch.tensor([tokens]), use_cache=False)
    for handle in handles:
        handle.remove()
    updated = seen["after"] if layout.after else seen["leaving"]
    for name, factor in layout.beside:
        updated = updated - factor * seen[name]
    return seen, layout.factor(layer) * seen[layout.adds_to or "entering"], updated


def layers_with_attention(network, layout):
    """The numbers of the layers that have heads."""
    blocks = network.get_submodule(layout.blocks)
    return [layer for layer, block in enumerate(blocks) if find(block, layout.projections)]


def expected(network, layout, tokens) -> dict[int, Written]:
    """What is written in every layer of one input, by the model in float64."""
    network = copy.deepcopy(network).double()
    network.set_experts_implementation("eager")  # the grouped product has no float64
    found = {}
    for layer in layers_with_attention(network, layout):
        seen, stream, updated = run(network, layout, tokens, layer)
        parts = []
        for head in range(families.N_HEADS):
            without = run(network, layout, tokens, layer, silenced=head)
            if layout.post is None:
                parts.append(updated - without[2])
            else:  # the norm's scale is that of all heads; elementwise, it is a factor per token
                share = seen["projected"] - without[0]["projected"]
                parts.append(share * (updated - stream) / seen["projected"])
        found[layer] = Written(stream, torch.stack(parts, dim=1), updated)
    return found


def readers(network, layout, layer):
    """The norms that read what a layer's heads write."""
    blocks = network.get_submodule(layout.blocks)
    norms = find(blocks[layer], layout.after)
    if not layout.ends:
        for block in blocks[layer + 1 :]:
            norms += find(block, (*layout.before, *layout.after))
    return norms


def expected_reads(network, layout, found):
    """layer → how much of each head is read, ``(pos, head)``, from what `expected` gave."""
    for layer, written in found.items():
        gains = []
        for norm in readers(network, layout, layer):
            weight = getattr(norm, "weight", None)
            gains.append(torch.ones(()) if weight is None else weight.double() + layout.plus_one)
        gain = torch.stack(gains).square().mean(0).sqrt().detach() if gains else torch.ones(())
        vectors, stream = written.vectors, written.updated
        if gains and layout.centred:
            vectors = vectors - vectors.mean(dim=-1, keepdim=True)
            stream = stream - stream.mean(dim=-1, keepdim=True)
        yield layer, (gain * vectors).norm(dim=-1) / stream.norm(dim=-1, keepdim=True)


class Look:
    """A visitor that keeps what it saw by layer."""

    def __init__(self):
        self.layers = {}

    def __call__(self, heads):
        self.layers[heads.layer] = (
            heads.residual,
            heads.written_norm,
            heads.updated,
            heads.read_norm,
        )
