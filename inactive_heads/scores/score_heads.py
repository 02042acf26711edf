"""Scores of every head: from a model and samples, or from an ActivationCache."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inactive_heads.core.activations import HeadActivations, PatternStatistics, TokenBatch
from inactive_heads.core.tensor_types import Residual, TokenMask
from inactive_heads.engines.lens import HOOKS, LensEngine, hook_name, residual_hook
from inactive_heads.errors import UserError
from inactive_heads.models.batching import Sample, encode_samples, run_in_batches
from inactive_heads.models.load import Model, as_model
from inactive_heads.progress import progress_bar
from inactive_heads.scores.registry import Score, ScoreLike, get_scores


def score_heads(
    model: Any,
    samples: Sequence[Sample],
    *,
    scores: Iterable[ScoreLike] | None = None,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> xr.DataArray:
    """Every head's scores on every sample, ``(score, sample, layer, head)``, float32.

        scores = ih.score_heads(model, ["The cat sat on the mat."], scores=["AHON (LN)"])
        scores.sel(score="AHON (LN)").mean("sample")

    A score does not depend on what else is in the samples. NaN stands where a ratio is
    undefined: the entropy of a one-token sample over the layer's, say.

    Args:
        model: what `load_model` gave, a TransformerBridge or a HookedTransformer.
        samples: texts, or lists of token ids.
        scores: names or functions; the paper's fifteen if not given.
        batch_size: samples run together, or "auto".
        progress: whether to show a bar on a terminal.

    Returns:
        The scores, with coordinates ``inactive`` (per score: the side, "below" or "above",
        on which a head is inactive) and ``n_tokens`` (per sample), and provenance in its attrs.

    Raises:
        UserError: an unknown score, a sample that is empty or longer than the context.
    """
    subject = as_model(model)
    visitor = ScoreVisitor(subject, get_scores(scores), len(samples))
    encoded = encode_samples(subject, samples)
    with progress_bar("Scoring heads", sum(map(len, encoded)), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            # Every layer is visited; of the logits, only one is asked for.
            subject.engine.run(batch, visitor)
            advance(int(batch.mask.sum()))

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    return visitor.result([len(tokens) for tokens in encoded])


class ScoreVisitor:
    """A visitor that only looks: it writes every score of every head of every input."""

    def __init__(self, model: Model, scores: Sequence[Score], n_samples: int) -> None:
        self.scores = scores
        self.layers = model.shape.layers
        # How query heads share keys and values, without which nothing can be said of their cache.
        groups = model.shape.n_key_value_heads
        self.provenance = {**model.provenance, "n_key_value_heads": groups}
        shape = (len(scores), n_samples, len(self.layers), model.shape.n_heads)
        self.values = np.full(shape, np.nan, dtype=np.float32)

    def __call__(self, heads: HeadActivations) -> None:
        layer, rows = self.layers.index(heads.layer), list(heads.batch.rows)
        values = torch.stack([score(heads) for score in self.scores])
        self.values[:, rows, layer] = values.cpu().numpy()  # one copy from a GPU, not one a score

    def result(self, n_tokens: Sequence[int]) -> xr.DataArray:
        """What was seen, labelled."""
        return labelled_scores(
            self.values, self.scores, self.layers, n_tokens, provenance=self.provenance
        )


def score_cache(
    cache: Any,
    *,
    attention_mask: TokenMask | Tensor | None = None,
    scores: Iterable[ScoreLike] | None = None,
) -> xr.DataArray:
    """The same scores from a TransformerLens ActivationCache one already has.

        logits, cache = bridge.run_with_cache(tokens)
        scores = ih.score_cache(cache)

    Args:
        cache: an ActivationCache with a batch dimension, holding ``hook_v``, ``hook_pattern``
            and ``hook_z`` of every attention layer.
        attention_mask: ``(batch, pos)``, true (or 1) at real tokens; all are, if not given.
        scores: names or functions; the paper's fifteen if not given.

    Raises:
        UserError: hooks are missing from the cache (the message lists them), or the mask
            has a hole or another shape.
    """
    found = get_scores(scores)
    engine = LensEngine(cache.model)
    layers = engine.shape.layers
    needed = [hook_name(layer, hook) for layer in layers for hook in HOOKS]
    missing = [name for name in needed if not _has(cache, name)]
    if missing:
        raise UserError(
            f"the cache lacks {len(missing)} hooks that the scores are made of: "
            f"{', '.join(missing[:6])}{', …' if len(missing) > 6 else ''}; "
            f"run_with_cache with a names_filter that keeps {', '.join(HOOKS)}"
        )
    z = cache[hook_name(layers[0], "hook_z")]
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
    values = np.empty((len(found), len(z), len(layers), z.shape[2]), dtype=np.float32)
    with torch.no_grad():
        for index, layer in enumerate(layers):
            heads = _cached_heads(cache, engine, layer, batch)
            for row, score in enumerate(found):
                values[row, :, index] = score(heads).cpu().numpy()
    provenance = {
        "model": str(cache.model.cfg.model_name),
        "n_key_value_heads": engine.shape.n_key_value_heads,
    }
    return labelled_scores(values, found, layers, batch.n_tokens.tolist(), provenance=provenance)


def labelled_scores(
    values: np.ndarray,
    scores: Sequence[Score],
    layers: Sequence[int],
    n_tokens: Sequence[int],
    *,
    provenance: dict[str, Any],
) -> xr.DataArray:
    """An array ``(score, sample, layer, head)`` with its coordinates and provenance."""
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": [score.name for score in scores],
            "inactive": ("score", [score.inactive for score in scores]),
            "n_tokens": ("sample", list(n_tokens)),
            "sample": range(len(n_tokens)),
            "layer": list(layers),
            "head": range(values.shape[-1]),
        },
        name="score_value",
        attrs=provenance | versions() | {"created": now()},
    )


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, as flat attributes."""
    packages = ("inactive-heads", "torch", "transformers", "transformer-lens", "numpy")
    return {f"version_{name}": importlib.metadata.version(name) for name in packages}


def now() -> str:
    """The time, UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


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
        return cache[residual_hook(layer)]

    return HeadActivations(
        layer=layer,
        batch=batch,
        values=cache[hook_name(layer, "hook_v")],
        outputs=cache[hook_name(layer, "hook_z")],
        attention=PatternStatistics(batch, cache[hook_name(layer, "hook_pattern")]),
        path=engine.path(layer),
        stream=stream,
    )
