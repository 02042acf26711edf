"""Which heads an ablation silenced, recorded while the model runs."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation, Fixed
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import HeadMask
from inactive_heads.engines.base import LayerSilences, ModelShape, Silence, Visitor
from inactive_heads.models.model import Model


class ZeroedRecorder:
    """Lets an ablation answer, and keeps its masks: ``masks`` is (sample, layer, head)."""

    def __init__(self, ablation: Ablation, shape: ModelShape, n_samples: int) -> None:
        ablation.check(shape)
        self.ablation, self.layers = ablation, shape.layers
        self.masks = np.zeros((n_samples, len(shape.layers), shape.n_heads), dtype=bool)

    def __call__(self, heads: HeadActivations) -> Silence:
        silence = self.ablation(heads)
        mask: HeadMask = silence.mask
        self.masks[list(heads.batch.rows), self.layers.index(heads.layer)] = mask.cpu().numpy()
        return silence

    def alike(self) -> LayerSilences | None:
        """The ablation's answers, recorded for all samples, if it gives all the same.

        None if it has to see the heads first.
        """
        if not isinstance(self.ablation, Fixed):
            return None
        n_heads = self.masks.shape[-1]
        for index, layer in enumerate(self.layers):
            self.masks[:, index] = self.ablation.silence(layer, n_heads).mask.numpy()
        return partial(self.ablation.silence, n_heads=n_heads)


def layer_silences(visitor: Visitor | None) -> LayerSilences | None:
    """What a visitor silences in each layer whatever it is shown; None if it must be shown it."""
    if visitor is None:
        return lambda layer: None
    return visitor.alike() if isinstance(visitor, ZeroedRecorder) else None


def zeroed_array(model: Model, recorder: ZeroedRecorder | None, n_samples: int) -> xr.DataArray:
    """The recorded masks, labelled; nothing zeroed where there was no recorder."""
    layers = list(model.shape.layers)
    shape = (n_samples, len(layers), model.shape.n_heads)
    return xr.DataArray(
        np.zeros(shape, dtype=bool) if recorder is None else recorder.masks,
        dims=("sample", "layer", "head"),
        coords={"sample": range(n_samples), "layer": layers, "head": range(shape[-1])},
        name="zeroed",
        attrs=model.provenance,
    )
