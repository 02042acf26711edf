"""Mean head outputs, a replacement for the output of silenced heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.errors import UserError
from inactive_heads.models.batching import encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.models.samples import Samples
from inactive_heads.progress import progress_bar
from inactive_heads.provenance import as_attrs


@default_settings()
def mean_head_outputs(
    model: Any,
    samples: Samples,
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> xr.DataArray:
    """Every head's mean output z over all tokens of the samples.

        means = ih.mean_head_outputs(model, samples)
        ih.ablate(model, samples, ih.PerInput("AHON (LN)", 0.457, replacement=means))

    With it, an ablation replaces a silenced head's output by its mean instead of zero.

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        samples: texts or token ids, as for `score_heads`; every token counts equally.
        batch_size: samples per batch, or "auto".
        progress: whether to show a progress bar.

    Returns:
        ``(layer, head, d_head)``, float64; NaN where a layer has fewer or narrower heads than
        others. The attributes hold the model's provenance.

    Raises:
        UserError: ``samples`` is empty; a sample is empty, longer than the context, or has an
            unknown token id; the batch size is invalid; a sample does not fit in memory; or what
            the model computes is not finite.
    """
    subject = as_model(model)
    encoded = encode_samples(subject, samples)
    shape = subject.shape
    totals = [np.zeros((own.n_heads, own.d_head)) for own in shape.heads]

    with progress_bar("Averaging head outputs", len(encoded), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            sums: list[Tensor] = []

            def add(heads: HeadActivations) -> None:
                real = heads.outputs[heads.batch.mask.to(heads.outputs.device)]
                sums.append(real.double().sum(dim=0).cpu())

            subject.engine.run(batch, add)
            for total, own in zip(totals, sums, strict=True):
                total += own.numpy()
            advance(len(batch.rows))

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    means = np.full((len(shape.layers), shape.n_heads, shape.d_head), np.nan)
    for layer, total, mean in zip(shape.layers, totals, means, strict=True):
        if not np.isfinite(total).all():
            head = int(np.argwhere(~np.isfinite(total))[0][0])
            raise UserError(
                f"the outputs of L{layer}H{head} are not finite on these samples; load the model "
                'with dtype="float32", or get its weights again if they are damaged'
            )
        mean[: total.shape[0], : total.shape[1]] = total / sum(map(len, encoded))
    own_heads = shape.differing.get("n_heads")
    return xr.DataArray(
        means,
        dims=("layer", "head", "d_head"),
        coords={
            "layer": list(shape.layers),
            "head": range(shape.n_heads),
            **({} if own_heads is None else {"n_heads": ("layer", own_heads)}),
        },
        name="mean_head_output",
        attrs=as_attrs(subject.provenance),
    )
