"""What heads write into the residual stream and how it is read, from Hugging Face's own modules."""

import torch
from torch import nn

from helpers import tiny_families as flash
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.network.blocks import output_projection

NORMALISED = ("gemma2", "gemma3_text", "olmo2")
"""Architectures whose ``post_attention_layernorm`` stands before the residual stream."""

READERS = {  # the norms of a block that read the stream as it enters, and after attention: in GPT-NeoX
    # and Phi the MLP runs beside it
    "gpt2": (("ln_1",), ("ln_2",)),
    "gpt_neox": (
        ("input_layernorm", "post_attention_layernorm"),
        (),
    ),
    "phi": (("input_layernorm",), ()),
    "olmo2": ((), ()),
    "gemma2": (("input_layernorm",), ("pre_feedforward_layernorm",)),
    "gemma3_text": (("input_layernorm",), ("pre_feedforward_layernorm",)),
    "lfm2": (("operator_norm",), ("ffn_norm",)),
}
USUAL_READERS = ("input_layernorm",), ("post_attention_layernorm",)

ENGINES = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny")),
}


def expected(network, model_type, tokens):
    """layer → (the stream's norm, what each head adds to it), of one input."""
    found, handles = {}, []
    blocks = {
        module.layer_idx: (module, block)
        for layers in network.modules()
        if isinstance(layers, nn.ModuleList)
        for block in layers
        for module in block.modules()
        if module in flash.attention_modules(network).values()
    }
    for layer, (attention, block) in blocks.items():
        found[layer] = {}

        def enter(module, args, kwargs, seen):
            seen["stream"] = args[0] if args else kwargs["hidden_states"]

        def project(module, args, seen):
            seen["z"] = args[0]

        projection = output_projection(attention, flash.N_HEADS * flash.D_HEAD)
        for handle in (
            block.register_forward_pre_hook(
                lambda m, a, k, seen=found[layer]: enter(m, a, k, seen), with_kwargs=True
            ),
            projection.register_forward_pre_hook(
                lambda m, a, seen=found[layer]: project(m, a, seen)
            ),
        ):
            handles.append(handle)
        found[layer] |= {"projection": projection, "block": block}
    with torch.no_grad():
        network(torch.tensor([tokens]), use_cache=False)
        for seen in found.values():
            z = seen["z"][0].unflatten(-1, (flash.N_HEADS, flash.D_HEAD))
            projection = seen["projection"]
            bias = projection.bias if projection.bias is not None else torch.zeros(())
            parts = []
            for head in range(flash.N_HEADS):
                alone = torch.zeros_like(z)
                alone[:, head] = z[:, head]
                parts.append(projection(alone.flatten(1)) - bias)
            written = torch.stack(parts, dim=1)
            whole = added = projection(z.flatten(1))
            if model_type in NORMALISED:
                added = seen["block"].post_attention_layernorm(whole)
                # Elementwise: these norms multiply every coordinate by a factor of the token.
                written = written * (added / whole)[:, None]
            if model_type == "granite":
                written, added = flash.MULTIPLIER * written, flash.MULTIPLIER * added
            seen["written"] = written.norm(dim=-1)
            seen["residual"] = seen["stream"][0].norm(dim=-1)
            seen["vectors"], seen["updated"] = written, seen["stream"][0] + added
    for handle in handles:
        handle.remove()
    return found


def expected_reads(found, model_type):
    """layer → how much of each head is read, from what `expected` gave."""
    before, after = READERS.get(model_type, USUAL_READERS)
    for layer, seen in found.items():
        norms = [getattr(seen["block"], name) for name in after]
        norms += [
            getattr(other["block"], name)
            for later, other in found.items()
            if later > layer
            for name in (*before, *after)
        ]
        gains = [norm.weight + ("gemma" in model_type) for norm in norms]
        gain = torch.stack(gains).square().mean(0).sqrt() if gains else torch.ones(())
        vectors, stream = seen["vectors"], seen["updated"]
        if norms and all(isinstance(norm, nn.LayerNorm) for norm in norms):
            vectors = vectors - vectors.mean(dim=-1, keepdim=True)
            stream = stream - stream.mean(dim=-1, keepdim=True)
        yield layer, (gain * vectors).norm(dim=-1) / stream.norm(dim=-1, keepdim=True)


class Look:
    def __init__(self):
        self.layers = {}

    def __call__(self, heads):
        self.layers[heads.layer] = (
            heads.residual_norm,
            heads.written_norm,
            heads.residual,
            heads.read_norm,
        )
