"""Proof that a network is what its files store: every tensor used, every weight filled."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.stored_tensors import StoredTensor, same_values

MASK = re.compile(r"(attn|attention)\.(bias|masked_bias)$")
COMPUTED = re.compile(r"(^|\.)(inv_freq|original_inv_freq|position_ids|(cos|sin)_cached)$")
"""Buffers that older versions stored and newer ones compute."""
ROTARY = re.compile(r"(^|\.)inv_freq$")
TOWER = re.compile(
    r"(^|\.)(visual|vision\w*|image\w*|audio\w*|video\w*|multi_modal_projector|mm_projector"
    r"|embed_vision|embed_audio|talker|token2wav|code2wav)(\.|$)"
)
PREDICTS_AHEAD = re.compile(r"(^|\.)mtp\w*(\.|$)")
AHEAD_PARTS = re.compile(r"\.(eh_proj|enorm|hnorm|shared_head)\.")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
ADAPTER = re.compile(r"(\.|_)(lora_\w+|base_layer|ia3_\w+|hada_\w+|lokr_\w+)(\.|$)")
PEFT_PREFIX = "base_model.model."
OF_ADAPTER = (
    "the files have tensors of an adapter (LoRA): merge it into the model (PEFT's merge_and_unload)"
)
HEADS = re.compile(r"(^|\.)(score|classifier|classification_head|v_head|reward_head|value_head)\.")
SWITCHES = (
    "attention_bias",
    "qkv_bias",
    "add_qkv_bias",
    "use_qkv_bias",
    "mlp_bias",
    "use_bias",
    "bias",
)
"""Configuration keys that say whether there are biases."""


def check_report(
    report: Mapping[str, Any], stored: Sequence[StoredTensor], name: str, remedy: str
) -> None:
    """Refuse a network that transformers reports as incomplete.

    Args:
        report: transformers' loading info.
        stored: every tensor in the weight files.
        name: the model's name, used in error messages.
        remedy: the advice in error messages about damaged files.

    Raises:
        UserError: weights are missing, have other sizes than the configuration says, or could not
            be converted.
    """
    missing = sorted(report["missing_keys"])
    if any(one.name.startswith(PEFT_PREFIX) for one in stored):
        raise UserError(
            f"the weights of {name!r} have PEFT's names ({PEFT_PREFIX}…): save the model that "
            "merge_and_unload returns, and give that"
        )
    if missing:
        of_adapter = any(ADAPTER.search(one.name) for one in stored)
        raise UserError(
            f"the weights of {name!r} lack {len(missing)} tensors of the model, among them "
            f"{', '.join(missing[:3])}; {OF_ADAPTER if of_adapter else remedy}"
        )
    for tensor, shape, expected in sorted(report["mismatched_keys"]):
        raise UserError(
            f"the weights of {name!r} do not fit its configuration: {tensor} is stored with "
            f"shape {tuple(shape)}, and the model's is {tuple(expected)}; {remedy}"
        )
    for kind in ("error_msgs", "conversion_errors"):
        for error in report.get(kind) or ():
            message = " ".join(str(error).split())
            raise UserError(f"the weights of {name!r} cannot be loaded: {message[:200]}; {remedy}")


def check_all_used(
    stored: Sequence[StoredTensor],
    network: PreTrainedModel,
    reported: Iterable[str],
    name: str,
) -> None:
    """Refuse a network that leaves out stored tensors which would change its results.

    Buffers that are computed (causal masks, rotary frequencies) pass in silence if they are what
    the configuration gives. So do parts that transformers' class declares to leave out, such as
    multi-token prediction and image towers; of others, a `Notice` names them.

    Args:
        stored: every tensor in the weight files; empty for quantized weights, whose names change.
        network: the network that was loaded from them.
        reported: the tensors that transformers reports as unused.
        name: the model's name, used in messages.

    Raises:
        UserError: tensors are left out, two of them fill one weight, the tied head differs from
            the embeddings, or stored rotary frequencies differ from the configuration's.
    """
    unused = _unused(stored, network, name)
    refused: list[str] = []
    left_out: list[str] = []
    declared = [re.compile(one) for one in network._keys_to_ignore_on_load_unexpected or ()]
    ahead = _layers_that_predict_ahead(stored, network)
    for one in unused:
        if _is_computed(one):
            continue
        known = any(pattern.search(one.name) for pattern in declared)
        if _layer(one.name) in ahead or PREDICTS_AHEAD.search(one.name) or TOWER.search(one.name):
            if not known and _layer(one.name) not in ahead:
                left_out.append(one.name)
        else:
            refused.append(one.name)
    if not unused:
        refused = sorted(reported)
    if refused:
        cause = _likely_cause(refused, stored, network)
        raise UserError(
            f"{name!r}: {len(refused)} stored tensors are not used by {type(network).__name__}, "
            f"among them {', '.join(refused[:2])}; {cause}"
        )
    if left_out:
        warnings.warn(
            f"{name!r}: {type(network).__name__} leaves out {len(left_out)} stored tensors of "
            f"images, sound or prediction ahead, among them {', '.join(left_out[:3])}",
            Notice,
            stacklevel=2,
        )
    _check_tied(network, name)
    _check_rotary([one for one in unused if ROTARY.search(one.name)], network, name)


def _unused(
    stored: Sequence[StoredTensor], network: PreTrainedModel, name: str
) -> list[StoredTensor]:
    """The stored tensors that fill no weight, by transformers' own rules of renaming.

    Transformers' report of them leaves out those that match a pattern of the class.
    """
    weights, prefix = network.state_dict(), network.base_model_prefix
    renamings, converters = [], []
    if any(one.name not in weights for one in stored):
        for transform in get_model_conversion_mapping(network):
            if isinstance(transform, WeightRenaming):
                renamings.append(transform)
            elif isinstance(transform, WeightConverter):
                converters.append(transform)
    unused: list[StoredTensor] = []
    filled: dict[str, StoredTensor] = {}
    for one in stored:
        target, merged = one.name, None
        if target not in weights:
            target, merged = rename_source_key(one.name, renamings, converters, prefix, weights)
        if target not in weights:
            unused.append(one)
        elif merged is None and not _same(filled.setdefault(target, one), one):
            raise UserError(
                f"{name!r}: the stored tensors {filled[target].name} and {one.name} differ, and both "
                f"fill the weight {target}; remove the wrong one from the weight files"
            )
    return unused


def _same(one: StoredTensor, other: StoredTensor) -> bool:
    return one is other or same_values(one, other)


def _is_computed(one: StoredTensor) -> bool:
    if COMPUTED.search(one.name):
        return True
    size = one.shape[-2:]
    is_mask = len(one.shape) == 4 and size[0] == size[1]  # a bias that is added is a vector
    return MASK.search(one.name) is not None and (is_mask or one.shape in ((), (1,)))


def _layers_that_predict_ahead(
    stored: Sequence[StoredTensor], network: PreTrainedModel
) -> set[int]:
    """The layers after the model's own that are for multi-token prediction, by their parts."""
    first = _n_layers(network)
    return {
        layer
        for one in stored
        if AHEAD_PARTS.search(one.name) and (layer := _layer(one.name)) >= first
    }


def _layer(name: str) -> int:
    found = LAYER.search(name)
    return int(found[1]) if found else -1


def _n_layers(network: PreTrainedModel) -> int:
    return int(getattr(network.config.get_text_config(), "num_hidden_layers", 0) or 0)


def _likely_cause(
    names: Sequence[str], stored: Sequence[StoredTensor], network: PreTrainedModel
) -> str:
    config = network.config.get_text_config()
    if any(ADAPTER.search(one) for one in names):
        return OF_ADAPTER
    n_layers = _n_layers(network)
    layers = {_layer(one.name) for one in stored}
    if n_layers and all(_layer(one) >= n_layers for one in names):
        return (
            f"config.json describes {n_layers} layers, and the files store {max(layers) + 1}: "
            "get the config.json that belongs to the weights"
        )
    architectures = ", ".join(config.architectures or network.config.architectures or [])
    if any(HEADS.search(one) for one in names):
        return (
            f"they are of a classifier or reward model ({architectures}): give the model that it "
            "was made of"
        )
    of_mlp = all("mlp" in one for one in names)
    off = [
        key
        for key in SWITCHES
        if getattr(config, key, None) is False and ("mlp" not in key or of_mlp)
    ]
    if off and all(one.endswith("bias") for one in names):
        return (
            f"config.json says {', '.join(f'{key}=false' for key in off)}: get the config.json that "
            "belongs to the weights"
        )
    return "get the config.json that belongs to the weights"


def _check_tied(network: PreTrainedModel, name: str) -> None:
    # Transformers unties them if both are stored and differ, with a warning.
    head, embeddings = network.get_output_embeddings(), network.get_input_embeddings()
    tied = getattr(network.config.get_text_config(), "tie_word_embeddings", False)
    one, other = getattr(head, "weight", None), getattr(embeddings, "weight", None)
    if not tied or not network._tied_weights_keys or one is None or other is None:
        return
    if one is not other and not torch.equal(one, other):
        raise UserError(
            f"{name!r}: config.json says tie_word_embeddings=true, and the stored output matrix "
            "differs from the embeddings; set it to false if the stored matrix is right, or remove "
            "the matrix"
        )


def _check_rotary(stored: Sequence[StoredTensor], network: PreTrainedModel, name: str) -> None:
    parameters = getattr(network.config.get_text_config(), "rope_parameters", None) or {}
    if not stored or parameters.get("rope_type", "default") != "default":
        return
    made = [
        buffer.cpu().double()
        for key, buffer in network.named_buffers()
        if ROTARY.search(key) and not buffer.is_meta
    ]
    if not made:
        return
    for one in stored:
        values = one.read().double()
        # Wide enough for frequencies that were rounded to 16 bits.
        if not any(
            values.shape == other.shape and torch.allclose(values, other, rtol=0.02, atol=1e-6)
            for other in made
        ):
            raise UserError(
                f"{name!r}: the stored rotary frequencies {one.name} are not those of its "
                "configuration (rope_theta, head_dim); get the config.json that belongs to the weights"
            )
