"""Next-token logits with heads silenced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder, zeroed_array
from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.settings import default_settings
from inactive_heads.core.tensor_types import Logits
from inactive_heads.models.batching import encode_samples, run_in_batches
from inactive_heads.models.load import as_model
from inactive_heads.models.samples import Samples
from inactive_heads.progress import progress_bar


@dataclass(frozen=True, eq=False)
class AblationRun:
    """The result of `ablate`.

    Attributes:
        logits: ``(sample, vocab)``, float32, on the CPU: next-token logits after each sample's
            last token.
        zeroed: ``(sample, layer, head)``, booleans: the heads that were silenced. If layers differ
            in their number of heads, the coordinate ``n_heads`` says how many each has.
    """

    logits: Logits
    zeroed: xr.DataArray

    @property
    def percent_zeroed(self) -> float:
        """The percent of heads silenced, over all samples, layers and heads that exist."""
        n_heads = self.zeroed.sizes["sample"] * int(exists_at(self.zeroed).sum())
        return 100 * (int(self.zeroed.sum()) / n_heads)


@default_settings()
def ablate(
    model: Any,
    samples: Samples,
    ablation: Ablation | None,
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> AblationRun:
    """Next-token logits with heads silenced, and which heads were.

        run = ih.ablate(model, samples, ih.PerInput("AHON (LN)", threshold=0.457))
        run.percent_zeroed  # the percent of heads really silenced

    Args:
        model: from `load_model`, or a TransformerBridge or HookedTransformer.
        samples: texts or token ids, as a list, Series, array, tensor or tokenizer's output;
            see `read_samples`.
        ablation: `PerInput`, `Fixed`, `Random`, `Placebo`, or None for the unablated model.
        batch_size: samples per batch, or "auto".
        progress: whether to show a progress bar.

    Returns:
        Logits and silenced heads, with the samples in the order given.

    Raises:
        UserError: the ablation does not fit the model; ``samples`` is empty; a sample is empty,
            longer than the context, or has an unknown token id; the batch size is invalid; a
            sample does not fit in memory; or its logits are not finite.
    """
    subject = as_model(model)
    encoded = encode_samples(subject, samples)
    recorder = None if ablation is None else ZeroedRecorder(ablation, subject.shape, len(encoded))
    logits = torch.empty(len(encoded), subject.shape.d_vocab)
    with progress_bar("Ablating", len(encoded), show=progress) as advance:

        def run(batch: TokenBatch) -> None:
            logits[list(batch.rows)] = subject.engine.run(batch, recorder).cpu()
            advance(len(batch.rows))

        run_in_batches(subject, encoded, run, batch_size=batch_size)
    return AblationRun(logits, zeroed_array(subject, recorder, len(encoded)))
