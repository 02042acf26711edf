"""The scores and the per-input ablation once more, written the plain way, in float64.

Hugging Face's own eager attention gives the pattern; value vectors and head outputs are read
at the projections. One input at a time, no padding, one layer at a time.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from helpers.closeness import assert_close


@dataclass
class Layer:
    A: np.ndarray  # head, query, key
    v: np.ndarray  # key, head, d_head
    z: np.ndarray  # query, head, d_head
    W_O: np.ndarray  # head, d_head, d_model


VALUES = ("v_proj", "c_attn", "qkv_proj", "query_key_value")
OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense")


def attention_modules(network):
    """(module, value projection, output projection) of every layer with attention."""
    found = []
    for module in network.modules():
        value, output = (
            next((getattr(module, name) for name in names if hasattr(module, name)), None)
            for names in (VALUES, OUTPUTS)
        )
        if value is not None and output is not None:
            found.append((module, value, output))
    return found


def value_vectors(module, projected, d_head):
    """``(key, key/value head, d_head)`` from what a layer's value projection gave for an input."""
    heads = projected.unflatten(-1, (-1, d_head))
    if hasattr(module, "c_attn"):  # all queries, all keys, all values
        return heads.chunk(3, dim=1)[2]
    if hasattr(module, "query_key_value"):  # query, key and value of one head after another
        return heads[:, 2::3]
    if hasattr(module, "qkv_proj"):  # the same in the order of GPT-2, with fewer keys and values
        return heads[:, -module.config.num_key_value_heads :]
    return heads


def run(network, tokens, masks=None, dtype=torch.float64):
    """Logits and every layer's activations, with the heads in ``masks`` (layer, head) zeroed."""
    network = copy.deepcopy(network).to(dtype).eval()
    network.set_attn_implementation("eager")
    modules = attention_modules(network)
    n_heads = network.config.num_attention_heads
    values, outputs = [None] * len(modules), [None] * len(modules)

    def keep_value(layer):
        def hook(module, inputs, output):
            values[layer] = output[0]

        return hook

    def zero(layer):
        def hook(module, inputs):
            z = inputs[0][0].unflatten(-1, (n_heads, -1))
            outputs[layer] = z
            if masks is None or layer >= len(masks):
                return None
            changed = z.clone()
            changed[:, torch.as_tensor(masks[layer])] = 0
            return (changed.flatten(1)[None], *inputs[1:])

        return hook

    for layer, (_, value, output) in enumerate(modules):
        value.register_forward_hook(keep_value(layer))
        output.register_forward_pre_hook(zero(layer))
    with torch.no_grad():
        result = network(torch.tensor([list(tokens)]), output_attentions=True, use_cache=False)
    patterns = [pattern for pattern in result.attentions if pattern is not None]
    layers = []
    for layer, (module, _, output) in enumerate(modules):
        d_head = outputs[layer].shape[-1]
        v = value_vectors(module, values[layer], d_head)
        v = v.repeat_interleave(n_heads // v.shape[1], dim=1)
        weight = output.weight if hasattr(output, "nf") else output.weight.T
        layers.append(
            Layer(
                patterns[layer][0].double().numpy(),
                v.double().numpy(),
                outputs[layer].double().numpy(),
                weight.detach().double().unflatten(0, (n_heads, d_head)).numpy(),
            )
        )
    return result.logits[0].double().numpy(), layers


def scores(layer):
    """The fifteen scores of one layer: name → one number per head."""
    n_heads, n, _ = layer.A.shape
    awft, aeqd, ftvvn, avvn, ahon, lthon, ahrn = (np.zeros(n_heads) for _ in range(7))
    for h in range(n_heads):
        awft[h] = layer.A[h, :, 0].mean()
        for i in range(n):
            weights = layer.A[h, i][layer.A[h, i] > 0]
            aeqd[h] -= (weights * np.log(weights)).sum() / n
        v, z = (np.linalg.norm(vectors[:, h], axis=1) for vectors in (layer.v, layer.z))
        ftvvn[h], avvn[h] = v[0], v.mean()
        ahon[h], lthon[h] = z.mean(), z[n - 1]
        ahrn[h] = np.linalg.norm(layer.z[:, h] @ layer.W_O[h], axis=1).mean()
    with np.errstate(invalid="ignore"):
        return {
            "AWFT": awft,
            "AWFT (LN)": awft / awft.mean(),
            "AEQD": aeqd,
            "AEQD (LN)": aeqd / aeqd.mean(),
            "FTVVN": ftvvn,
            "FTVVN (LN)": ftvvn / ftvvn.mean(),
            "AVVN": avvn,
            "AVVN (LN)": avvn / avvn.mean(),
            "AHON": ahon,
            "AHON (LN)": ahon / ahon.mean(),
            "LTHON": lthon,
            "LTHON (LN)": lthon / ahon.mean(),
            "LTHON (HN)": lthon / ahon,
            "AHRN": ahrn,
            "AHRN (LN)": ahrn / ahrn.mean(),
        }


ABOVE = ("AWFT", "AWFT (LN)")


def per_input(network, tokens, score, threshold):
    """Logits and masks (layer, head): every layer scored with the layers before it zeroed."""
    masks = []
    for layer in range(len(attention_modules(network))):
        _, layers = run(network, tokens, masks)
        values = scores(layers[layer])[score]
        masks.append(values > threshold if score in ABOVE else values < threshold)
    logits, _ = run(network, tokens, masks)
    return logits, np.array(masks)


def assert_scores(found, network, samples):
    """Every score of every sample, ``(score, sample, layer, head)``, is eager attention's."""
    for row, sample in enumerate(samples):
        _, layers = run(network, sample, dtype=network.dtype)
        expected = [scores(layer) for layer in layers]
        for name in expected[0]:
            assert_close(
                found.sel(score=name).values[row],
                [one[name] for one in expected],
                rtol=1e-4,
                axis=1,
                err_msg=f"{name}, {len(sample)} tokens",
            )
