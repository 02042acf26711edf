"""Scores from an existing TransformerLens ActivationCache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import Residual, TokenMask
from inactive_heads.engines.lens import LensEngine
from inactive_heads.engines.lens_visit import HOOKS, residual_hook
from inactive_heads.errors import UserError
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import ScoreLike
from inactive_heads.scores.score_heads import labelled_scores


@default_settings()
def score_cache(
    cache: Any,
    *,
    attention_mask: TokenMask | Tensor | None = None,
    scores: ScoreLike | Iterable[ScoreLike] | None = None,
) -> xr.DataArray:
    """The scores of `score_heads`, from a TransformerLens ActivationCache.

        logits, cache = bridge.run_with_cache(tokens)
        scores = ih.score_cache(cache)

    Args:
        cache: an ActivationCache with a batch dimension, holding ``hook_v``, ``hook_pattern``
            and ``hook_z`` of every attention layer. RON, RRN and other scores that use the
            residual stream also need ``hook_resid_pre``.
        attention_mask: ``(batch, pos)``, true (or 1) at real tokens. By default, all tokens are
            real.
        scores: names or functions, or a single one. Default: the paper's fifteen.

    Returns:
        ``(score, sample, layer, head)``, float32, with the coordinates of `score_heads`; each
        sample is a row of the batch. Undefined ratios are NaN.

    Raises:
        UserError: a score is unknown or given twice; the cache lacks hooks (the message lists
            them) or a batch dimension; the mask has another shape, a row with no real token, or
            a gap between real tokens; or a score function returns something other than finite
            numbers of shape ``(batch, head)``.
    """
    found = get_scores(scores)
    engine = LensEngine(cache.model)
    layers = engine.shape.layers
    needed = [name for layer in layers for name in engine.hooks(layer).values()]
    missing = [name for name in needed if not _has(cache, name)]
    if missing:
        raise UserError(
            f"the cache lacks {len(missing)} hooks that the scores are made of: "
            f"{', '.join(missing[:6])}{', …' if len(missing) > 6 else ''}; "
            f"run_with_cache with a names_filter that keeps {', '.join(HOOKS)}"
        )
    z = cache[engine.hooks(layers[0])["hook_z"]]
    if z.ndim != 4:
        raise UserError(f"the cache has no batch dimension: hook_z has shape {tuple(z.shape)}")
    mask = torch.ones(z.shape[:2]) if attention_mask is None else attention_mask
    if tuple(mask.shape) != tuple(z.shape[:2]):
        raise UserError(
            f"attention_mask has shape {tuple(mask.shape)}, the cache (batch, pos) = {tuple(z.shape[:2])}"
        )
    mask = mask.bool().to(z.device)
    try:
        batch = TokenBatch(torch.zeros_like(mask, dtype=torch.long), mask)
    except ValueError as error:
        raise UserError(str(error)) from error
    shape = (len(found), len(z), len(layers), engine.shape.n_heads)
    values = np.full(shape, np.nan, dtype=np.float32)
    with torch.no_grad():
        for index, layer in enumerate(layers):
            heads = _cached_heads(cache, engine, layer, batch)
            for row, score in enumerate(found):
                values[row, :, index, : engine.shape.heads[index].n_heads] = (
                    score(heads).cpu().numpy()
                )
    provenance = {"model": str(cache.model.cfg.model_name)}
    return labelled_scores(
        values, found, engine.shape, batch.n_tokens.tolist(), provenance=provenance
    )


def _has(cache: Any, name: str) -> bool:
    try:
        cache[name]
    except KeyError:
        return False
    return True


def _cached_heads(cache: Any, engine: LensEngine, layer: int, batch: TokenBatch) -> HeadActivations:
    def stream() -> Residual:
        if not _has(cache, residual_hook(layer)):
            raise UserError(
                f"the cache lacks {residual_hook(layer)}, which a score asks for; keep it in the cache"
            )
        factor = engine.stream_factor(layer)
        if factor is None:
            raise UserError(
                f"the heads of layer {layer} add to another stream than {residual_hook(layer)}, which "
                "the cache does not have; score the model instead"
            )
        stream = cache[residual_hook(layer)]
        return stream if factor == 1 else factor * stream

    names = engine.hooks(layer)
    return HeadActivations(
        layer=layer,
        batch=batch,
        values=cache[names["hook_v"]],
        outputs=cache[names["hook_z"]],
        attention=PatternStatistics(batch, cache[names["hook_pattern"]]),
        path=engine.path(layer),
        stream=stream,
    )
