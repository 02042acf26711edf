"""Records the heads that an ablation silences while the model runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.core.activations import HeadActivations
from inactive_heads.engines.base import (
    LayerSilences,
    ModelShape,
    Silence,
    Visitor,
    checked_answer,
)
from inactive_heads.errors import UserError, shortened
from inactive_heads.models.model import Model
from inactive_heads.provenance import as_attrs


class ZeroedRecorder:
    """A visitor that passes on an ablation's answers and keeps their masks.

    Args:
        ablation: the ablation that answers.
        shape: the model's sizes.
        n_samples: the number of samples; ``batch.rows`` of each batch are indices into them.

    Attributes:
        masks: ``(sample, layer, head)``, booleans: the heads silenced so far; false at heads that
            a layer lacks.

    Raises:
        UserError: it is no ablation, or one that does not fit the model.
    """

    def __init__(self, ablation: Ablation, shape: ModelShape, n_samples: int) -> None:
        if not isinstance(ablation, Ablation):
            raise UserError(
                f"{shortened(ablation)} is no ablation: give PerInput(score, threshold), "
                "Fixed(heads), Random(probability), Placebo(ablation), or None"
            )
        ablation.check(shape)
        self.ablation, self.shape, self.layers = ablation, shape, shape.layers
        self.masks = np.zeros((n_samples, len(shape.layers), shape.n_heads), dtype=bool)

    def __call__(self, heads: HeadActivations) -> Silence | None:
        silence = checked_answer(self.ablation(heads), heads.outputs, heads.layer)
        mask = False if silence is None else silence.mask.cpu().numpy()
        layer = self.layers.index(heads.layer)
        self.masks[list(heads.batch.rows), layer, : self.shape.heads[layer].n_heads] = mask
        return silence

    def shares(self, rows: Sequence[int] | slice = slice(None)) -> np.ndarray:
        """The share of the model's heads silenced in each sample, between 0 and 1.

        Args:
            rows: the samples; all by default.

        Returns:
            ``(sample,)``. Heads that a layer lacks do not count.
        """
        return self.masks[rows].sum(axis=(1, 2)) / self.shape.total_heads

    def same_for_all(self) -> LayerSilences | None:
        """The heads silenced in each layer, if they are the same for all samples, and record them.

        Returns:
            A function from a layer to its answer, with a mask ``(1, head)``; None if the answers
            differ from input to input.
        """
        for index, layer in enumerate(self.layers):
            n_heads = self.shape.heads[index].n_heads
            silence = self.ablation.silence(layer, n_heads)
            if silence is None:
                return None
            self.masks[:, index, :n_heads] = silence.mask.numpy()
        return lambda layer: self.ablation.silence(layer, self.shape.of(layer).n_heads)


def layer_silences(visitor: Visitor | None) -> LayerSilences | None:
    """The heads that a visitor silences in each layer, if they do not depend on activations.

    Args:
        visitor: any visitor; None silences nothing.

    Returns:
        A function from a layer to its answer, with a mask ``(1, head)``, or to None if nothing is
        silenced there. None instead of the function if the visitor has to see activations.
    """
    if visitor is None:
        return lambda layer: None
    return visitor.same_for_all() if isinstance(visitor, ZeroedRecorder) else None


def zeroed_array(model: Model, recorder: ZeroedRecorder | None, n_samples: int) -> xr.DataArray:
    """The recorded masks as a labelled array.

    Args:
        model: the model that was run.
        recorder: the visitor of the run; None if nothing was silenced.
        n_samples: the number of inputs.

    Returns:
        ``(sample, layer, head)``, booleans, true where a head was silenced. If layers differ in
        their number of heads, it is false at heads that a layer lacks, and the coordinate
        ``n_heads`` along "layer" says how many it has.
    """
    layers = list(model.shape.layers)
    shape = (n_samples, len(layers), model.shape.n_heads)
    own = model.shape.differing.get("n_heads")
    return xr.DataArray(
        np.zeros(shape, dtype=bool) if recorder is None else recorder.masks,
        dims=("sample", "layer", "head"),
        coords={
            "sample": range(n_samples),
            "layer": layers,
            "head": range(shape[-1]),
            **({} if own is None else {"n_heads": ("layer", own)}),
        },
        name="zeroed",
        attrs=as_attrs(model.provenance),
    )
