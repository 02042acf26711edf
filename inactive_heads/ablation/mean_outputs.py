"""Every head's mean output, to be put in the place of silenced ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.models.batching import Sample, encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.progress import progress_bar


def mean_head_outputs(
    model: Any,
    samples: Sequence[Sample],
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> xr.DataArray:
    """Every head's mean output z over all tokens of the samples, ``(layer, head, d_head)``.

    The ``replacement`` of an ablation that puts a head's mean in place of zero.
    """
    subject = as_model(model)
    encoded = encode_samples(subject, samples)
    shape = subject.shape
    total = np.zeros((len(shape.layers), shape.n_heads, shape.d_head))

    with progress_bar("Averaging head outputs", len(encoded), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            sums: list[Tensor] = []

            def add(heads: HeadActivations) -> None:
                real = heads.outputs[heads.batch.mask.to(heads.outputs.device)]
                sums.append(real.double().sum(dim=0).cpu())

            subject.engine.run(batch, add)
            total[:] += torch.stack(sums).numpy()
            advance(len(batch.rows))

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    return xr.DataArray(
        total / sum(map(len, encoded)),
        dims=("layer", "head", "d_head"),
        coords={"layer": list(shape.layers), "head": range(shape.n_heads)},
        name="mean_head_output",
        attrs=subject.provenance,
    )
