"""Rotary positions as metadata and tensors describe them, as transformers' ``rope_parameters``."""

from __future__ import annotations

import math
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.metadata import Metadata

LLAMA_BASE = 10000.0
"""llama.cpp's base frequency without rope.freq_base."""

FREQUENCY_FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
TENSORS = (FREQUENCY_FACTORS, LONG_FACTORS, SHORT_FACTORS)
"""Tensors that are part of the configuration here, and no weights of the network."""


def rope_parameters(keys: Metadata, head_dim: int, *, partial: bool = False) -> dict[str, Any]:
    """How positions are rotated.

    Tensors that divide the frequencies (Llama 3.1's rope_freqs) become LongRoPE with equal factors
    for short and long texts: the configuration then holds them, and nothing that builds the
    network again can lose them.

    Args:
        keys: the model's metadata.
        head_dim: the width of a head.
        partial: whether the architecture can rotate a part of each head.

    Returns:
        The ``rope_parameters`` of a transformers config.

    Raises:
        UserError: the metadata describes what transformers cannot compute.
    """
    rotated = keys.size("rope.dimension_count", head_dim)
    if rotated > head_dim or rotated % 2 or (rotated != head_dim and not partial):
        raise keys.refusal("rope.dimension_count", f"heads have {head_dim} dimensions")
    parameters: dict[str, Any] = {"rope_type": "default"}
    parameters["rope_theta"] = keys.number("rope.freq_base", LLAMA_BASE)
    if partial:
        parameters["partial_rotary_factor"] = rotated / head_dim
    keys.known(["rope.scaling.finetuned"])
    parameters |= _scaling(keys)
    return parameters | _factors(keys, rotated // 2, parameters["rope_type"])


def _scaling(keys: Metadata) -> dict[str, Any]:
    """The keys below rope.scaling."""
    kind = keys.text("rope.scaling.type", "linear")
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))
    context = keys.size("context_length")
    original = keys.count("rope.scaling.original_context_length", context) or context
    scale = keys.number("rope.scaling.attn_factor", 1.0)
    keys.expect("rope.scaling.yarn_ext_factor", 1.0)
    keys.expect("rope.scaling.yarn_log_multiplier", 0.0)
    fast = keys.number("rope.scaling.yarn_beta_fast", 32.0)
    slow = keys.number("rope.scaling.yarn_beta_slow", 1.0)
    if kind == "yarn":
        default = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        # llama.cpp's converter stores transformers' factor in this key; llama.cpp ignores it.
        stored = keys.number("rope.scaling.yarn_attn_factor", default)
        if not math.isclose(stored, default, rel_tol=1e-5):
            raise keys.refusal("rope.scaling.yarn_attn_factor", f"only {default:.6g} can be read")
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": scale * default,
            "beta_fast": fast,
            "beta_slow": slow,
        }
    keys.known(["rope.scaling.yarn_attn_factor"])
    if kind not in ("none", "linear", "longrope"):
        raise keys.refusal("rope.scaling.type", "only none, linear, yarn and longrope can be read")
    if kind == "longrope" or keys.model.tensors.keys() & {LONG_FACTORS, SHORT_FACTORS}:
        if factor != 1.0:
            raise keys.refusal("rope.scaling.factor", "longrope has tensors of factors instead")
        return {
            "rope_type": "longrope",
            "original_max_position_embeddings": original,
            "attention_factor": scale,
            "factor": max(context / original, 1.0),
        }
    if scale != 1.0:
        raise keys.refusal("rope.scaling.attn_factor", "only yarn and longrope have such a factor")
    if kind == "none" or factor == 1.0:
        return {"rope_type": "default"}
    return {"rope_type": "linear", "factor": factor}


def _factors(keys: Metadata, n_frequencies: int, kind: str) -> dict[str, Any]:
    """The tensors of factors that frequencies are divided by."""
    stored = [name for name in TENSORS if name in keys.model.tensors]
    factors = {name: keys.model.tensors[name].read() for name in stored}
    for name, values in factors.items():
        if values.shape != (n_frequencies,) or not (values > 0).all():
            raise UserError(
                f"{name} in {keys.model.path} has shape {tuple(values.shape)}, and {n_frequencies} "
                "factors above 0 are expected"
            )
    lists = {name: values.tolist() for name, values in factors.items()}
    if stored == [FREQUENCY_FACTORS] and kind == "default":
        context = keys.size("context_length")
        return {
            "rope_type": "longrope",
            "short_factor": lists[FREQUENCY_FACTORS],
            "long_factor": lists[FREQUENCY_FACTORS],
            "attention_factor": 1.0,
            "factor": 1.0,
            "original_max_position_embeddings": context,
        }
    if stored == [LONG_FACTORS, SHORT_FACTORS] and kind == "longrope":
        return {"short_factor": lists[SHORT_FACTORS], "long_factor": lists[LONG_FACTORS]}
    if stored or kind == "longrope":
        raise UserError(
            f"{keys.model.path} has the rope scaling {kind!r} and the tensors "
            f"{', '.join(stored) or 'of no factors'}: they do not belong together"
        )
    return {}
