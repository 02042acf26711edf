"""Loading a language model so that its heads can be visited."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from inactive_heads.checks import check_rule
from inactive_heads.core.settings import default_settings
from inactive_heads.engines.lens import LensEngine
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.models.choose_engine import choose_engine
from inactive_heads.models.devices import choose_device, choose_dtype, devices_of
from inactive_heads.models.model import Model
from inactive_heads.models.resolve import find_model, find_tokenizer
from inactive_heads.models.text_encoder import TextEncoder, bridge_encoder
from inactive_heads.names import EngineName, Rule
from inactive_heads.specs import DeviceMap, ModelSpec
from inactive_heads.third_party import explained

RAW_WEIGHTS = "none: raw Hugging Face weights"


def load_model(
    source: str | Path | None = None,
    *,
    engine: EngineName = "auto",
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
        engine: how the heads are visited: "flash" (fast, exact statistics without the pattern),
            "lens" (TransformerLens hooks; ``model.engine.bridge`` is the TransformerBridge), or
            "auto": flash if it can show the model's heads, else lens, with a `Notice`.
        dtype: "float32", "bfloat16", "float16" or "float64", or the torch.dtype; see `choose_dtype`
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
        UserError: the model cannot be found or read, is not a causal language model whose heads
            the engine can show (with "auto": any engine, and the message says why each cannot), or
            an option has no such value; the message says what to do.
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
        The model. Its ``spec`` names the engine that was chosen, and the dtype and the commit that
        were really loaded, so that another process loads the same.

    Raises:
        UserError: as `load_model`.
    """
    spec.check()
    place = choose_device(spec.device)
    spread = spec.device_map is not None

    origin = find_model(
        spec.source, revision=spec.revision, trust_remote_code=spec.trust_remote_code
    )
    weights, preset = origin.weights, origin.preset
    given_bos = spec.bos if spec.bos != "auto" else preset.bos
    check_rule("bos", given_bos)
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

    def network(attention: str | None) -> PreTrainedModel:
        loaded = weights.network(dtype, attention, spec.device_map)
        if not spread:
            with explained(
                f"{weights.name!r} does not fit on {place}",
                "give a smaller dtype or another device",
            ):
                torch.nn.Module.to(loaded, place)  # in place
        devices_of(loaded, weights.name)  # refuses what is only in part on devices that run it
        return loaded

    chosen = choose_engine(network, weights.name, spec.engine, weights.stored, spread=spread)
    provenance: dict[str, str | int] = {
        "model": weights.name,
        "source": "bundled demo model" if spec.source in (None, "demo") else str(spec.source),
        "revision": weights.revision,
        "architecture": type(chosen.network).__name__,
        "dtype": _short(dtype),
        "device": devices_of(chosen.network, weights.name),
        "weight_processing": RAW_WEIGHTS,
        "unpacked_from": weights.quantization,
        "adapter": weights.adapter,
        "tokenizer": "" if other_tokenizer is None else str(other_tokenizer),
        "bos": encode.rule,
        "chat_template": "off" if chat is None else chat.record,
        "engine": chosen.name,
    }
    # The same engine, dtype and commit in other processes, whatever is pushed to the hub meanwhile.
    revision = weights.revision or spec.revision
    loaded = replace(spec, engine=chosen.name, dtype=_short(dtype), revision=revision)
    return Model(
        chosen.engine,
        tokenizer,
        provenance,
        encode,
        loaded,
        chat,
        preset.batch_size,
        chosen.refused,
    )


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
