"""Loading a language model so that its heads can be visited."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import PreTrainedModel

from inactive_heads.core.settings import default_settings
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.models.devices import choose_device, choose_dtype, devices_of
from inactive_heads.models.model import EngineName, Model, Rule
from inactive_heads.models.resolve import find_model, find_tokenizer
from inactive_heads.models.text_encoder import TextEncoder, bridge_encoder
from inactive_heads.models.weights.finite import check_finite, watch_products
from inactive_heads.specs import DeviceMap, ModelSpec
from inactive_heads.third_party import explained, quiet

RAW_WEIGHTS = "none: raw Hugging Face weights"


@dataclass(frozen=True)
class EngineKind:
    """How an engine is made.

    Attributes:
        attention: the attention implementation that the network is loaded with; None is the fastest
            that transformers offers for the model.
        build: makes the engine of a network; the name is used in error messages.
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
    engine: EngineName = "flash",
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    device_map: DeviceMap | None = None,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
    bos: Rule = "auto",
    chat_template: Rule = "auto",
    trust_remote_code: bool = False,
) -> Model:
    """A model ready to be scored: raw weights, evaluation mode, no gradients.

        model = load_model()                      # the bundled demo model
        model = load_model("gpt2", dtype="float32")
        model.encode("Hello")                     # [15496]

    Args:
        source: a name on the Hugging Face hub or a TransformerLens alias, a folder in hub layout,
            a folder or hub name of a PEFT adapter (merged into its base), a .gguf file, a preset, or
            a .toml file (a preset of your own, or an architecture with random weights); None or
            "demo" is the bundled model.
        engine: how the heads are visited: "flash" (fast, exact statistics without the pattern) or
            "lens" (TransformerLens hooks; ``model.engine.bridge`` is the TransformerBridge).
        dtype: "float32", "bfloat16", "float16" or "float64", or the torch.dtype; see `choose_dtype`
            for "auto".
            for "auto".
        device: "cpu", "cuda", "cuda:N", or a torch.device; "auto" takes CUDA if there is any.
        device_map: "auto" (or anything else Hugging Face's ``device_map`` takes) spreads a model
            over several GPUs, instead of ``device``; with the flash engine only.
        revision: branch, tag or commit hash of a model on the hub.
        tokenizer: a folder, hub name or "demo", instead of the model's own.
        bos: whether a text starts with the BOS token: "auto" is the tokenizer's own rule.
        chat_template: "on" writes a task's prompts by the tokenizer's chat template, few-shot
            examples as turns; "off" asks them as plain text; "auto" is what a preset says, else
            off.
        trust_remote_code: whether Python code that comes with a model may be run.

    Returns:
        The model with its tokenizer, on its device.

    Raises:
        UserError: the model cannot be found or read, is not a causal language model that the
            engine supports, or an option has no such value; the message says what to do.
    """
    return load(
        ModelSpec(
            source,
            engine,
            str(dtype).removeprefix("torch."),
            str(device),
            device_map,
            revision,
            tokenizer,
            bos,
            chat_template,
            trust_remote_code,
        )
    )


@default_settings()
def load(spec: ModelSpec) -> Model:
    """The model that a spec describes; see `load_model`.

    Args:
        spec: which model, and how it is loaded.

    Returns:
        The model. Its ``spec`` names the dtype and the commit that were really loaded, so that
        another process loads the same.

    Raises:
        UserError: as `load_model`.
    """
    if spec.engine not in ENGINES:
        raise UserError(f"engine={spec.engine!r} is unknown; the engines are {', '.join(ENGINES)}")
    kind = ENGINES[spec.engine]
    place = choose_device(spec.device)
    choose_dtype(spec.dtype, place, narrow=False)  # a wrong name is refused before a download
    _check_rule("bos", spec.bos)
    _check_rule("chat_template", spec.chat_template)
    if spec.device_map is not None and spec.engine != "flash":
        raise UserError(f'device_map={spec.device_map!r} needs engine="flash", not {spec.engine!r}')

    origin = find_model(
        spec.source, revision=spec.revision, trust_remote_code=spec.trust_remote_code
    )
    weights, preset = origin.weights, origin.preset
    given_bos = spec.bos if spec.bos != "auto" else preset.bos
    _check_rule("bos", given_bos)
    given_dtype = spec.dtype if spec.dtype != "auto" else preset.dtype
    other_tokenizer = preset.tokenizer if spec.tokenizer is None else spec.tokenizer
    tokenizer = (
        weights.tokenizer()
        if other_tokenizer is None
        else find_tokenizer(other_tokenizer, trust_remote_code=spec.trust_remote_code)
    )
    encode = TextEncoder.of(tokenizer, given_bos, weights.name)
    chat = None
    if spec.chat_template == "on" or (spec.chat_template == "auto" and preset.chat_template):
        chat = ChatTemplate.of(tokenizer, weights.name, preset.chat_template_args)

    narrow = given_dtype == "auto" and weights.narrow
    dtype = choose_dtype(given_dtype, place, narrow=narrow)
    network = weights.network(dtype, kind.attention, spec.device_map)
    if spec.device_map is None:
        with explained(
            f"{weights.name!r} does not fit on {place}", "give a smaller dtype or another device"
        ):
            torch.nn.Module.to(network, place)  # in place
    devices = devices_of(network, weights.name)
    with watch_products(network) as products:
        try:
            with quiet(), explained(f"{weights.name!r} cannot be run", "get its config.json again"):
                engine = kind.build(network, weights.name)
        finally:  # a damaged weight is the reason for whatever has failed
            check_finite(network, weights.name, weights.stored, products.proven())
    provenance: dict[str, str | int] = {
        "model": weights.name,
        "source": "bundled demo model" if spec.source in (None, "demo") else str(spec.source),
        "revision": weights.revision,
        "architecture": type(network).__name__,
        "dtype": _short(dtype),
        "device": devices,
        "weight_processing": RAW_WEIGHTS,
        "unpacked_from": weights.quantization,
        "adapter": weights.adapter,
        "tokenizer": "" if other_tokenizer is None else str(other_tokenizer),
        "bos": encode.rule,
        "chat_template": "off" if chat is None else chat.record,
        "engine": spec.engine,
    }
    # The same dtype and commit in other processes, whatever is pushed to the hub meanwhile.
    loaded = replace(spec, dtype=_short(dtype), revision=weights.revision or spec.revision)
    return Model(engine, tokenizer, provenance, encode, loaded, chat, preset.batch_size)


def as_model(model: Any) -> Model:
    """A `Model` as it is; a TransformerBridge or HookedTransformer wrapped as it is.

        bridge = TransformerBridge.boot_transformers("gpt2")
        as_model(bridge).shape.n_heads  # 12

    Args:
        model: a `Model`, a TransformerBridge (TransformerLens 3.9 and 4), or a HookedTransformer
            (TransformerLens 3). Its weights and settings stay untouched.

    Returns:
        The model. Texts are encoded by the bridge's own ``to_tokens``, without truncation.

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
    prepends = getattr(cfg, "default_prepend_bos", True)
    encode, left_out = bridge_encoder(
        lambda text: list(model.to_tokens(text, truncate=False)[0].tolist()), model.tokenizer, name
    )
    provenance: dict[str, str | int] = {
        "model": name,
        "source": f"a {kind} given by the caller",
        "revision": "",
        "architecture": str(architecture or type(network or model).__name__),
        "dtype": _short(engine.dtype),
        "device": str(engine.device),
        "weight_processing": processing,
        "unpacked_from": "",
        "adapter": "",
        "tokenizer": "",
        "bos": f"to_tokens (default_prepend_bos={prepends})" + left_out,
        "chat_template": "off",
        "engine": engine.name,
    }
    return Model(engine, model.tokenizer, provenance, encode)


def _check_rule(name: str, value: str) -> None:
    if value not in get_args(Rule):
        raise UserError(f"{name}={value!r} is unknown; give one of {', '.join(get_args(Rule))}")


def _hooked_classes() -> tuple[Any, ...]:
    """The classes of TransformerLens's models; empty if TransformerLens is not imported."""
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
