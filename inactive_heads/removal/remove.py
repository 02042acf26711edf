"""Heads removed from a model in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import xarray as xr
from transformers import PreTrainedModel

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.core.settings import default_settings
from inactive_heads.engines.first_look import FAILURES
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.routing.refusals import Unsupported
from inactive_heads.errors import NotFinite, UserError
from inactive_heads.files import digest_of
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.removal.copy_network import copy_without_heads
from inactive_heads.removal.plan import Refused, plan_layers
from inactive_heads.removal.proof import difference
from inactive_heads.removal.read_set import read_set


@default_settings()
def remove_heads(model: Any, heads: Any, *, replacement: xr.DataArray | None = None) -> Model:
    """A smaller model without some heads, which computes what zeroing them computes.

        small = ih.remove_heads(model, ih.select_heads(scores, "RON", percent=10))
        small.engine.network  # an ordinary Hugging Face model

    The weights of the heads are cut out: the outputs of the query projection, the inputs of the
    output projection W_O, and a key/value head once no query head reads it, which makes the
    key/value cache smaller too. A layer may lose all its heads. The model that was given stays as
    it is; the new one is a copy in memory, and its heads are numbered anew from 0 in each layer.

    The new model is run on a few tokens, and refused if its logits or the outputs of its heads
    differ from those of the model given with the heads replaced by more than rounding.

    Args:
        model: from `load_model`, run by the flash engine.
        heads: in any form that `Fixed` takes, each head once; or a `Fixed`.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs` of this model: what the
            removed heads wrote on average becomes a bias of W_O. By default what the `Fixed` has,
            else zero.

    Returns:
        The smaller model, with the same tokenizer. Its ``provenance`` says how many heads were
        removed, and has a digest of the set and the replacement; ``spec`` is None, as no other
        process can load it. Without any heads to remove, the model given.

    Raises:
        UserError: a head is given twice, or is not in the model; all heads are given; the set or
            the replacement is of another model or does not fit; the model is not run by the flash
            engine, is quantized or spread over devices; or its architecture cannot take fewer
            heads, and the message says why.
    """
    subject = as_model(model)
    engine = _flash(subject)
    fixed = read_set(heads, replacement)
    for given in (heads, fixed.replacement):
        _check_numbering(given, subject)
    fixed.check(subject.shape)
    if not fixed.heads:
        return subject
    if len(fixed.heads) == subject.shape.total_heads:
        raise UserError(
            f"all {len(fixed.heads)} heads of {subject.name!r} were given to be removed; leave some"
        )
    _check_weights(engine.network, subject.name)
    try:
        with _refusing("does not show what its heads are made of"):
            plans = plan_layers(engine, fixed)
        smaller = copy_without_heads(engine.network, plans)
        with _refusing("does not run without them"), torch.no_grad():
            smaller(torch.ones(1, 2, dtype=torch.long, device=engine.device), use_cache=False)
            built = FlashEngine(smaller, subject.name)
        kept = {
            layer: range(own.n_heads)
            for layer, own in zip(subject.shape.layers, subject.shape.heads, strict=True)
        } | {plan.layer: plan.removal.kept for plan in plans}
        if (what := difference(engine, built, kept, fixed)) is not None:
            raise Refused(what)
    except Refused as refused:
        raise UserError(
            f"heads cannot be removed from {type(engine.network).__name__}, the architecture of "
            f"{subject.name!r}, which {refused}; silence them with ablate or evaluate"
        ) from refused.__cause__
    return replace(subject, engine=built, provenance=_provenance(subject, fixed), spec=None)


def _flash(model: Model) -> FlashEngine:
    engine = model.engine
    if not isinstance(engine, FlashEngine):
        raise UserError(
            f'{model.name!r} is run by engine="{engine.name}", from which heads cannot be removed; '
            'load it with load_model(NAME, engine="flash")'
        )
    return engine


def _check_numbering(given: Any, model: Model) -> None:
    """Raise an error about labelled heads of another model, from which others were removed."""
    attrs = given.attrs if isinstance(given, xr.DataArray) else {}
    ours, theirs = (one.get("heads_removed_digest", "") for one in (model.provenance, attrs))
    if "model" in attrs and ours != theirs:
        raise UserError(
            f"the {given.name or 'set of heads'} is of {attrs['model']!r}, whose heads are numbered "
            f"otherwise than those of {model.name!r}; make it with this model"
        )


def _check_weights(network: PreTrainedModel, name: str) -> None:
    """Raise an error about weights that cannot be cut."""
    packed = {
        str(one.dtype).removeprefix("torch.")
        for one in network.parameters()
        if one.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    }
    if packed or getattr(network, "hf_quantizer", None) is not None:
        held = ", ".join(sorted(packed)) or "a quantized format"
        raise UserError(
            f"the weights of {name!r} are in {held}, out of which heads cannot be cut; load the "
            "model that was quantized, in bfloat16 or float32"
        )
    places = {str(one.device) for one in network.parameters()}
    if len(places) > 1 or any(hasattr(module, "_hf_hook") for module in network.modules()):
        raise UserError(
            f"{name!r} is spread by a device_map, and heads are removed from a model on one "
            "device; load it without device_map"
        )


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """A context in which the errors of a model's own code are reasons to refuse it."""
    try:
        yield
    except (NotFinite, Refused):
        raise
    except FAILURES as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:80]
        reason = error.reason if isinstance(error, Unsupported) else reason
        raise Refused(f"{what} ({reason})") from error


def _provenance(model: Model, fixed: Fixed) -> dict[str, str | int]:
    """Where a model without heads comes from; removals may follow each other."""
    before = model.provenance
    values = "zero"
    if fixed.replacement is not None:
        of_heads = [
            fixed.replacement.sel(layer=layer, head=head).values.tolist()
            for layer, head in fixed.heads
        ]
        values = f"mean ({digest_of(of_heads)})"
    count = int(before.get("heads_removed", 0)) + len(fixed.heads)
    earlier = [before.get("heads_removed_digest", ""), before.get("heads_replaced_by", "")]
    digest = digest_of([earlier, fixed.heads, values])
    name = str(before.get("whole_model", before["model"]))
    return {
        **before,
        "model": f"{name} without {count} heads ({digest[:6]})",
        "whole_model": name,
        "heads_removed": count,
        "heads_removed_digest": digest,
        "heads_replaced_by": values,
    }
