"""Scores of every head: from a model and samples, or from an ActivationCache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.models.batching import Sample, encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.progress import progress_bar
from inactive_heads.provenance import now, versions
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import Score, ScoreLike


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
