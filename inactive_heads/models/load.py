"""Loading a language model so that its heads can be visited."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import CHAT_TEMPLATE_RULES, ChatTemplate
from inactive_heads.models.devices import DeviceMap, choose_device, choose_dtype, devices_of
from inactive_heads.models.model import BOS_RULES, Model, _check_rule, _no_tokenizer, text_encoder
from inactive_heads.models.resolve import find_model, find_tokenizer
from inactive_heads.third_party import explained, quiet

RAW_WEIGHTS = "none: raw Hugging Face weights"


@dataclass(frozen=True)
class EngineKind:
    """How an engine is made: the attention a network is loaded with, and its constructor.

    None is the fastest that transformers offers for the model.
    """

    attention: str | None
    build: Callable[[PreTrainedModel, str], Any]


def _lens_engine(network: PreTrainedModel, name: str) -> LensEngine:
    # The bridge makes parameters of its own where a model keeps q, k and v in one matrix.
    return LensEngine(bridge_of(network, name).requires_grad_(False))


ENGINES = {
    "flash": EngineKind(None, FlashEngine),
    "lens": EngineKind("eager", _lens_engine),
}


def load_model(
    source: str | Path | None = None,
    *,
    engine: str = "flash",
    dtype: str = "auto",
    device: str = "auto",
    device_map: DeviceMap | None = None,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
    bos: str = "auto",
    chat_template: str = "auto",
    trust_remote_code: bool = False,
) -> Model:
    """A model ready to be scored: raw weights, evaluation mode, no gradients.

        model = load_model()                      # the bundled demo model
        model = load_model("gpt2", dtype="float32")
        model.encode("Hello")                     # [15496]

    Args:
        source: a name on the Hugging Face hub or a TransformerLens alias, a folder in hub layout,
            a .gguf file, a preset, or a .toml file (a preset of one's own, or an architecture
            with random weights); None or "demo" is the bundled model.
        engine: how the heads are visited: "flash" (fast, exact statistics without the pattern) or
            "lens" (TransformerLens hooks; ``model.engine.bridge`` is the TransformerBridge).
        dtype: "float32", "bfloat16", "float16" or "float64"; see `choose_dtype` for "auto".
        device: "cpu", "cuda" or "cuda:N"; "auto" takes CUDA if there is any.
        device_map: "auto" (or what else Hugging Face's ``device_map`` takes) spreads a model
            over several GPUs, instead of ``device``; by the flash engine only.
        revision: branch, tag or commit hash of a model on the hub.
        tokenizer: a folder, hub name or "demo", instead of the model's own.
        bos: whether a text starts with the BOS token: "auto" is the tokenizer's own rule.
        chat_template: "on" writes a task's prompts by the tokenizer's chat template, few-shot
            examples as turns; "off" asks them as texts; "auto" is what a preset says, else off.
        trust_remote_code: whether Python code that comes with a model may be run.

    Raises:
        UserError: the model cannot be found or read, is not a causal language model that the
            engine supports, or an option has no such value; the message says what to do.
    """
    if engine not in ENGINES:
        raise UserError(f"engine={engine!r} is unknown; the engines are {', '.join(ENGINES)}")
    place = choose_device(device)
    choose_dtype(dtype, place, narrow=False)  # a wrong name is refused before a download
    _check_rule("bos", bos, BOS_RULES)
    _check_rule("chat_template", chat_template, CHAT_TEMPLATE_RULES)
    if device_map is not None and engine != "flash":
        raise UserError(f'device_map={device_map!r} needs engine="flash", not {engine!r}')

    origin = find_model(source, revision=revision, trust_remote_code=trust_remote_code)
    weights, preset = origin.weights, origin.preset
    given_bos = bos if bos != "auto" else preset.bos
    given_dtype = dtype if dtype != "auto" else preset.dtype
    own_tokenizer = preset.tokenizer if tokenizer is None else tokenizer
    words = (
        weights.tokenizer()
        if own_tokenizer is None
        else find_tokenizer(own_tokenizer, trust_remote_code=trust_remote_code)
    )
    encode = text_encoder(words, given_bos, weights.name)
    chat = None
    if chat_template == "on" or (chat_template == "auto" and preset.chat_template):
        chat = ChatTemplate.of(words, weights.name, preset.chat_template_args)

    narrow = given_dtype == "auto" and weights.narrow
    number = choose_dtype(given_dtype, place, narrow=narrow)
    network = weights.network(number, ENGINES[engine].attention, device_map)
    if device_map is None:
        with explained(
            f"{weights.name!r} does not fit on {place}", "give a smaller dtype or another device"
        ):
            torch.nn.Module.to(network, place)  # in place
    with quiet():
        built = ENGINES[engine].build(network, weights.name)
    provenance: dict[str, str | int] = {
        "model": weights.name,
        "source": "bundled demo model" if source in (None, "demo") else str(source),
        "revision": weights.revision,
        "architecture": type(network).__name__,
        "dtype": _short(number),
        "device": devices_of(network, weights.name),
        "weight_processing": RAW_WEIGHTS,
        "unpacked_from": weights.quantization,
        "tokenizer": "" if own_tokenizer is None else str(own_tokenizer),
        "bos": given_bos,
        "chat_template": "off" if chat is None else f"on ({chat.digest})",
        "engine": engine,
    }
    recipe = {
        "source": source,
        "engine": engine,
        "dtype": _short(number),
        "device": device,
        "device_map": device_map,
        "revision": weights.revision or revision,  # the same commit, whatever is pushed meanwhile
        "tokenizer": tokenizer,
        "bos": bos,
        "chat_template": chat_template,
        "trust_remote_code": trust_remote_code,
    }
    return Model(built, words, provenance, encode, recipe, chat, preset.batch_size)


def as_model(model: Any) -> Model:
    """A `Model` as it is; a TransformerBridge or HookedTransformer wrapped as it is.

    Its weights and settings stay untouched, and its own ``to_tokens`` encodes texts, though
    never cutting them.

    Raises:
        UserError: something else was given.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, _hooked_classes()):
        hint = f"; load_model({str(model)!r}) makes one" if isinstance(model, (str, Path)) else ""
        raise UserError(
            f"a {type(model).__name__} is not a model: give what load_model returns, a "
            f"TransformerBridge, or a HookedTransformer (TransformerLens 3){hint}"
        )
    kind = type(model).__name__
    engine: Any = LensEngine(model)
    if kind == "HookedTransformer":
        processing = f"as in the {kind} given (folding moves v and z)"
    elif getattr(model, "compatibility_mode", False):
        processing = f"as in the {kind} given, in compatibility mode (folding moves v and z)"
    else:
        processing = RAW_WEIGHTS
    cfg, name = model.cfg, str(model.cfg.model_name)
    network = getattr(model, "original_model", None)
    architecture = getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None)
    provenance: dict[str, str | int] = {
        "model": name,
        "source": f"a {kind} given by the caller",
        "revision": "",
        "architecture": str(architecture or type(network or model).__name__),
        "dtype": _short(engine.dtype),
        "device": str(engine.device),
        "weight_processing": processing,
        "unpacked_from": "",
        "tokenizer": "",
        "bos": f"to_tokens (default_prepend_bos={getattr(cfg, 'default_prepend_bos', True)})",
        "chat_template": "off",
        "engine": engine.name,
    }
    words = model.tokenizer

    def encode(text: str) -> list[int]:
        if words is None:
            raise UserError(_no_tokenizer(name))
        ids: list[int] = model.to_tokens(text, truncate=False)[0].tolist()
        return ids

    return Model(engine, words, provenance, encode)


def _hooked_classes() -> tuple[Any, ...]:
    """The classes of TransformerLens's models; none where nobody has imported TransformerLens."""
    if "transformer_lens" not in sys.modules:
        return ()
    from transformer_lens.model_bridge import TransformerBridge

    try:
        from transformer_lens import HookedTransformer
    except ImportError:  # TransformerLens 4 has the bridge only
        return (TransformerBridge,)
    return TransformerBridge, HookedTransformer


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
