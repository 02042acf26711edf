"""Heads silenced by hooks on the output projections, with nothing of the package; sets to remove."""

from contextlib import contextmanager

import torch

import inactive_heads as ih
from helpers.tiny_families import attention_modules
from inactive_heads.engines.flash import FlashEngine

PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense")
OPTIONS = {
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": {"multi_query": True, "alibi": False, "new_decoder_architecture": False},
}


def model_of(network, name="tiny"):
    about = {"model": name, "dtype": str(network.dtype).removeprefix("torch."), "device": "cpu"}
    return ih.Model(FlashEngine(network, name), None, about, list)


def projection_of(attention):
    return next(getattr(attention, name) for name in PROJECTIONS if hasattr(attention, name))


@contextmanager
def silenced(network, heads, d_head, means=None):
    """The network with what enters W_O set to zero, or to means (layer, head, d_head), by hand."""

    def hook(layer):
        def replace(_module, args):
            z = args[0].clone()
            for at, head in heads:
                if at == layer:
                    value = 0 if means is None else means[layer, head]
                    z[..., head * d_head : (head + 1) * d_head] = value
            return (z, *args[1:])

        return replace

    handles = [
        projection_of(module).register_forward_pre_hook(hook(layer))
        for layer, module in attention_modules(network).items()
    ]
    try:
        yield network
    finally:
        for handle in handles:
            handle.remove()


def padded(samples, side="right"):
    """Tokens and mask, as transformers takes them."""
    width = max(map(len, samples))
    tokens, mask = torch.zeros(2, len(samples), width, dtype=torch.long)
    for row, one in enumerate(samples):
        span = slice(0, len(one)) if side == "right" else slice(width - len(one), width)
        tokens[row, span], mask[row, span] = torch.tensor(one), 1
    return tokens, mask


def real_logits(network, samples, side="right"):
    """Logits of the real tokens, one input after the other, by transformers alone."""
    tokens, mask = padded(samples, side)
    with torch.no_grad():
        logits = network(tokens, attention_mask=mask, use_cache=False).logits
    return logits[mask.bool()].float()


def n_parameters(module):
    return sum(one.numel() for one in module.parameters())


def pairs(by_layer):
    return [(layer, head) for layer, heads in by_layer.items() for head in heads]
