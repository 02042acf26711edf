"""Scores every head of a model on samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.models.batching import encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.models.model import Model
from inactive_heads.models.samples import Samples
from inactive_heads.progress import progress_bar
from inactive_heads.provenance import as_attrs, now, versions
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import Score, ScoreLike


def score_heads(
    model: Any,
    samples: Samples,
    *,
    scores: ScoreLike | Iterable[ScoreLike] | None = None,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> xr.DataArray:
    """Every head's scores on every sample.

        scores = ih.score_heads(model, ["The cat sat on the mat."], scores=["AHON (LN)"])
        scores.sel(score="AHON (LN)").mean("sample")

    A sample's scores do not depend on the other samples.

    Args:
        model: a `Model` from `load_model`, a TransformerBridge or a HookedTransformer.
        samples: texts or token ids, as a list, Series, array, tensor or tokenizer's output;
            see `read_samples`.
        scores: names or functions, or a single one. Default: the paper's fifteen.
        batch_size: samples per batch. "auto" uses the preset's batch size, if there is one, or
            else as many samples as memory allows.
        progress: whether to show a progress bar.

    Returns:
        ``(score, sample, layer, head)``, float32. The coordinate ``inactive`` is each score's
        inactive side, "below" or "above"; ``n_tokens`` is each sample's length. The attributes
        hold provenance: model, versions, time. A ratio is NaN where it is undefined, such as
        AEQD (LN) of a one-token sample, whose entropy is 0. If layers differ in their number of
        heads, "head" has a place for each head of the largest; scores are NaN at heads that a layer
        lacks, and the coordinate ``n_heads`` along "layer" says how many it has.

    Raises:
        UserError: ``model`` is not a model; a score is unknown or given twice; ``samples`` is
            empty; a sample is empty, longer than the context, or has an unknown token id; the
            batch size is invalid; a sample does not fit in memory; or a score function returns
            something other than finite numbers of shape ``(batch, head)``.
    """
    subject = as_model(model)
    encoded = encode_samples(subject, samples)
    visitor = ScoreVisitor(subject, get_scores(scores), len(encoded))
    with progress_bar("Scoring heads", sum(map(len, encoded)), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            # Every layer is visited; only the last token's logits are computed.
            subject.engine.run(batch, visitor)
            advance(int(batch.mask.sum()))

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    return visitor.result([len(tokens) for tokens in encoded])


class ScoreVisitor:
    """A visitor that records every head's scores and silences no head.

    Args:
        model: the model whose heads are visited.
        scores: the scores to compute.
        n_samples: the number of samples; ``batch.rows`` of each batch are indices into them.
    """

    def __init__(self, model: Model, scores: Sequence[Score], n_samples: int) -> None:
        self.scores = scores
        self.model_shape = model.shape
        self.layers = model.shape.layers
        self.provenance = model.provenance
        shape = (len(scores), n_samples, len(self.layers), model.shape.n_heads)
        self.values = np.full(shape, np.nan, dtype=np.float32)

    def __call__(self, heads: HeadActivations) -> None:
        layer, rows = self.layers.index(heads.layer), list(heads.batch.rows)
        n_heads = self.model_shape.heads[layer].n_heads
        values = torch.stack([score(heads) for score in self.scores])
        self.values[:, rows, layer, :n_heads] = values.cpu().numpy()  # one copy from a GPU

    def result(self, n_tokens: Sequence[int]) -> xr.DataArray:
        """The recorded scores as a labelled array.

        Args:
            n_tokens: each sample's length in tokens.

        Returns:
            ``(score, sample, layer, head)``, float32; NaN for samples that were not run, and for
            heads that a layer lacks.
        """
        return labelled_scores(
            self.values, self.scores, self.model_shape, n_tokens, provenance=self.provenance
        )


def labelled_scores(
    values: np.ndarray,
    scores: Sequence[Score],
    shape: ModelShape,
    n_tokens: Sequence[int],
    *,
    provenance: dict[str, Any],
) -> xr.DataArray:
    """Scores as an array with coordinates and provenance.

    Args:
        values: ``(score, sample, layer, head)``.
        scores: gives the coordinates ``score`` and ``inactive``.
        shape: the model's sizes; those in which layers differ become coordinates along "layer". So
            does the number of key/value heads, which is an attribute where it is the same in all.
        n_tokens: each sample's length in tokens.
        provenance: put into the attributes, with the versions of packages and the time.

    Returns:
        ``(score, sample, layer, head)``, with the dtype of ``values``.
    """
    return xr.DataArray(
        values,
        dims=("score", "sample", "layer", "head"),
        coords={
            "score": [score.name for score in scores],
            "inactive": ("score", [score.inactive for score in scores]),
            "n_tokens": ("sample", list(n_tokens)),
            "sample": range(len(n_tokens)),
            "layer": list(shape.layers),
            "head": range(values.shape[-1]),
            **{name: ("layer", sizes) for name, sizes in shape.differing.items()},
        },
        name="score_value",
        attrs={**as_attrs(provenance), **_key_value_heads(shape), **versions(), "created": now()},
    )


def _key_value_heads(shape: ModelShape) -> dict[str, int]:
    """What a key/value cache holds depends on how many query heads share a key/value head."""
    if "n_key_value_heads" in shape.differing:
        return {}
    return {"n_key_value_heads": shape.n_key_value_heads}
