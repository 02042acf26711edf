"""Checks of a config.json before anything is built from it."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)

from inactive_heads.errors import Notice, UserError
from inactive_heads.models.weights.stored_tensors import StoredTensor
from inactive_heads.third_party import explained, quiet

NO_SIZES = ("_id", "_ids", "theta", "position", "length", "window", "seed", "version", "offset")
"""Parts of keys whose numbers are no sizes of weights."""
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
MAY_BE_INFINITE = ("limit",)
"""Parts of keys that may be infinite (Mamba's time_step_limit)."""
EPSILON = re.compile(r"(^|[._])eps(ilon)?$")
GENERATES = re.compile(r"(forcausallm|lmheadmodel|forconditionalgeneration|lmhead)$")
OTHER_HEADS = re.compile(r"Classif|QuestionAnswering|Reward|MaskedLM|MultipleChoice|Embedding")
SLACK = 4
"""A network may have this many times the numbers that the files store: buffers, shared layers."""
SMALL = 1 << 26
"""A network of fewer numbers than this is built whatever the files store."""
LOADED_WHOLE = ("mistral3",)
"""Types of images and text that transformers has no causal language model of, although their text part
is one: they are loaded with the tower for images, and given text only."""


def read_description(folder: Path, name: str, remedy: str, *, trust_remote_code: bool) -> None:
    """Check the config.json of a folder before transformers reads it.

    Args:
        folder: the folder.
        name: the model's name, used in error messages.
        remedy: the advice in error messages about damaged files.
        trust_remote_code: whether code that came with the weights may be run.

    Raises:
        UserError: it is missing, unreadable, has values that no configuration has, or needs code
            that may not be run.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UserError(
            f"the folder {folder} has no config.json: give a folder as "
            "`save_pretrained` writes it, or the path of a .gguf file"
        )
    with explained(f"{path} cannot be read", remedy):
        description = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise TypeError(f"it is a {type(description).__name__}, not an object")
        own_code = "auto_map" in description
        known = description.get("model_type") in CONFIG_MAPPING_NAMES
        named = description.get("architectures")
        if named is not None and not (
            isinstance(named, list) and all(isinstance(one, str) for one in named)
        ):
            raise TypeError(f"architectures is {named!r:.60}, not a list of names")
        for key, value in _numbers(description):
            if math.isnan(value) or (
                math.isinf(value) and not any(part in key for part in MAY_BE_INFINITE)
            ):
                raise ValueError(f"{key} is {value}")
            if EPSILON.search(key) and not 0 <= value <= 0.1:
                raise ValueError(f"{key} is {value}, and an epsilon is a small number from 0 up")
            if key.endswith("rope_theta") and value <= 1:
                raise ValueError(f"{key} is {value}, and the base of rotary positions is above 1")
    if own_code and not known and not trust_remote_code:
        raise UserError(
            f"{name!r} is of a type that transformers {transformers.__version__} does not "
            "have, and brings its own code. If you trust it, pass trust_remote_code=True "
            "(--trust-remote-code): that runs the repository's code on this machine"
        )


def loader_of(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a configuration's network as a language model.

    Args:
        config: the configuration.

    Returns:
        An auto class with ``from_config`` and ``from_pretrained``.
    """
    text = type(config.get_text_config())
    if config.model_type in LOADED_WHOLE and text in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def check_causal(config: PretrainedConfig, name: str) -> None:
    """Refuse a configuration that is not of a causal language model.

    Args:
        config: the configuration.
        name: the model's name, used in error messages.

    Raises:
        UserError: it is of an encoder, an encoder-decoder, a classifier or a model of another kind.
    """
    written = ", ".join(config.architectures or []) or type(config).__name__
    if config.is_encoder_decoder:
        raise UserError(
            f"{name!r} ({written}) is an encoder-decoder; only decoders (causal language "
            "models) can be scored"
        )
    # is_decoder is no help: it is False in GPT-NeoX. Encoders have a masked-LM class.
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(
        config, "is_decoder", True
    )
    own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    whole = loader_of(config) is AutoModelForImageTextToText
    classes = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if whole else MODEL_FOR_CAUSAL_LM_MAPPING
    if encoder or not (type(config) in classes or own):
        raise UserError(
            f"{name!r} ({written}) is not a causal language model; only decoders can be scored"
        )
    if not own and config.architectures:
        _check_class(config.architectures, classes[type(config)], name)


def check_sizes(config: PretrainedConfig, stored: Sequence[StoredTensor], name: str) -> None:
    """Refuse a configuration of a network far larger than what is stored, before it is built.

    Args:
        config: the configuration.
        stored: every tensor in the weight files.
        name: the model's name, used in error messages.

    Raises:
        UserError: the message names the size.
    """
    total = sum(math.prod(one.shape) for one in stored)
    longest = max((size for one in stored for size in one.shape), default=0)
    numbers = [(key, value) for key, value in _numbers(config.to_dict()) if isinstance(value, int)]
    sizes = {
        key: value
        for key, value in numbers
        if not any(part in key.rpartition(".")[2] for part in NO_SIZES)
    }
    for key, value in sizes.items():
        layers = "layer" in key or "block" in key
        most = max(len(stored), 1) if layers else max(total, SMALL)
        if value > most and not (layers and value <= longest):
            has = f"{len(stored)} tensors" if layers else f"{total} numbers"
            raise UserError(
                f"{name!r}: config.json says {key}={value}, and the weight files store {has} in all: "
                "get the config.json that belongs to the weights"
            )
    positions = max((value for key, value in numbers if key in POSITIONS), default=0)
    two = sorted(sizes.values())[-2:]
    if max(math.prod(two), positions**2 // 8) <= max(total, SMALL):
        return
    # Building without memory takes as long as a small model takes to load: only where it is needed.
    remedy = "get the config.json that belongs to the weights"
    with quiet(), explained(f"{name!r} cannot be built from its config.json", remedy):
        with torch.device("meta"):
            network = loader_of(config).from_config(config)
        built = sum(
            weight.numel() for many in (network.parameters(), network.buffers()) for weight in many
        )
    if built > max(SLACK * total, SMALL):
        raise UserError(
            f"{name!r}: config.json describes {built} weights, and the files store {total}: {remedy}"
        )


def _check_class(named: Sequence[str], loaded: Any, name: str) -> None:
    """Refuse or notice weights of another class than the one that they are loaded into."""
    classes = loaded if isinstance(loaded, tuple) else (loaded,)
    expected = {one.__name__.lower() for one in classes}
    stems = {GENERATES.sub("", one) for one in expected}
    if any(one.lower() in expected for one in named):
        return
    if any(OTHER_HEADS.search(one) for one in named):
        raise UserError(
            f"{name!r} is a {', '.join(named)}, not a causal language model: its head gives no "
            "next-token probabilities; give the model that it was made of"
        )
    if any(
        GENERATES.sub("", one.lower()) in stems for one in named if GENERATES.search(one.lower())
    ):
        return  # such as the text part of a model of images and text
    warnings.warn(
        f"{name!r}: config.json names the class {', '.join(named)}, and its model_type is loaded as "
        f"{classes[0].__name__}: if that is another architecture, get the config.json again",
        Notice,
        stacklevel=2,
    )


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number in nested tables and lists, with its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
