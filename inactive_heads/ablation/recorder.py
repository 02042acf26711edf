"""Which heads an ablation silenced, recorded while the model runs."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from inactive_heads.ablation.ablations import Ablation
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

    def same_for_all(self) -> LayerSilences | None:
        """What is silenced in each layer for every input, recorded for all of them.

        Returns:
            A function from a layer to its answer; None if the ablation differs from input to input.
        """
        n_heads = self.masks.shape[-1]
        for index, layer in enumerate(self.layers):
            silence = self.ablation.silence(layer, n_heads)
            if silence is None:
                return None
            self.masks[:, index] = silence.mask.numpy()
        return partial(self.ablation.silence, n_heads=n_heads)


def layer_silences(visitor: Visitor | None) -> LayerSilences | None:
    """What a visitor silences in each layer, if that is known without showing it the heads.

    Args:
        visitor: any visitor, or None.

    Returns:
        A function from a layer to its answer, which has a mask of one row; None if the visitor has
        to see the heads.
    """
    if visitor is None:
        return lambda layer: None
    return visitor.same_for_all() if isinstance(visitor, ZeroedRecorder) else None


def zeroed_array(model: Model, recorder: ZeroedRecorder | None, n_samples: int) -> xr.DataArray:
    """The recorded masks with labels.

    Args:
        model: the model that was run.
        recorder: recorded the run; None if nothing was silenced.
        n_samples: the number of inputs.

    Returns:
        Boolean ``(sample, layer, head)``, true where a head was silenced.
    """
    layers = list(model.shape.layers)
    shape = (n_samples, len(layers), model.shape.n_heads)
    return xr.DataArray(
        np.zeros(shape, dtype=bool) if recorder is None else recorder.masks,
        dims=("sample", "layer", "head"),
        coords={"sample": range(n_samples), "layer": layers, "head": range(shape[-1])},
        name="zeroed",
        attrs=model.provenance,
    )
