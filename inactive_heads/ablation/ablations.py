"""Which heads to silence, as visitors: per input by a score, a fixed set, or at random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from einops import repeat
from torch import Tensor

from inactive_heads.core.activations import HeadActivations, TokenBatch
from inactive_heads.core.tensor_types import (
    HeadMask,
    LayerSilences,
    Logits,
    ModelShape,
    Silence,
    Visitor,
)
from inactive_heads.errors import UserError
from inactive_heads.models.batching import Sample, encode_samples, run_in_batches
from inactive_heads.models.load import Model, as_model
from inactive_heads.progress import progress_bar
from inactive_heads.scores.registry import Score, ScoreLike, get_score


@runtime_checkable
class Ablation(Protocol):
    """A visitor that answers at every layer, and can say whether it fits a model."""

    def __call__(self, heads: HeadActivations, /) -> Silence: ...

    def check(self, shape: ModelShape) -> None:
        """Raise a UserError if the ablation was made for a model of another shape."""
        ...


@dataclass
class PerInput:
    """Silences, for each input, the heads on the inactive side of a threshold.

    A layer's scores come of activations as already changed by the layers before it, as in the
    paper.

    Args:
        score: a name or a function.
        threshold: compared strictly, on the score's inactive side.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`; zero if not given.
    """

    score: ScoreLike
    threshold: float
    replacement: xr.DataArray | None = None

    def __post_init__(self) -> None:
        self._score: Score = get_score(self.score)

    def check(self, shape: ModelShape) -> None:
        """Raise a UserError if the replacement was made for another model."""
        _check_replacement(self.replacement, shape)

    def __call__(self, heads: HeadActivations) -> Silence:
        mask = self._score.is_inactive(self._score(heads), self.threshold)
        return Silence(mask, _replacement(self.replacement, heads.layer))


@dataclass
class Fixed:
    """Silences one set of heads, the same for every input.

        ih.Fixed([(5, 3), (11, 0)]);  ih.Fixed(mask);  ih.Fixed.load("heads.json")

    Args:
        heads: ``(layer, head)`` pairs, or a boolean mask ``(layer, head)`` as `select_heads`
            gives it (a DataArray's ``layer`` coordinate is honoured).
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`; zero if not given.
        about: what the set is, kept in its file (model, score, share, …).
    """

    heads: Any
    replacement: xr.DataArray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.heads = _head_list(self.heads)

    def check(self, shape: ModelShape) -> None:
        """Raise a UserError if a head is not one of the model's."""
        for layer, head in self.heads:
            if layer not in shape.layers or not 0 <= head < shape.n_heads:
                raise UserError(
                    f"head L{layer}H{head} is not in the model: its attention layers are "
                    f"{min(shape.layers)} to {max(shape.layers)}, with heads 0 to {shape.n_heads - 1}"
                )
        _check_replacement(self.replacement, shape)

    def __call__(self, heads: HeadActivations) -> Silence:
        alike = self.silence(heads.layer, heads.n_heads)
        mask = repeat(alike.mask, "1 head -> batch head", batch=len(heads.batch.tokens))
        return Silence(mask, alike.value)

    def silence(self, layer: int, n_heads: int) -> Silence:
        """What is silenced in a layer: a mask with one row, for every input alike."""
        mask = torch.zeros(1, n_heads, dtype=torch.bool)
        mask[0, [head for at, head in self.heads if at == layer]] = True
        return Silence(mask, _replacement(self.replacement, layer))

    def save(self, path: str | Path) -> None:
        """Write the set as JSON, with ``about``; `load` reads it."""
        content = {
            "format": HEADS_FORMAT,
            **self.about,
            "heads": [list(pair) for pair in self.heads],
        }
        Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")

    @staticmethod
    def load(path: str | Path) -> Fixed:
        """The set of a file that `save` or a report wrote.

        Raises:
            UserError: the file cannot be read, or is not such a file.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
            heads = [(int(layer), int(head)) for layer, head in content.pop("heads")]
            written_as = content.pop("format")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path} is not a file of heads: {type(error).__name__}: {error}"
            ) from error
        if written_as != HEADS_FORMAT:
            raise UserError(
                f"{path} has the format {written_as!r}; this version reads {HEADS_FORMAT!r}"
            )
        return Fixed(heads, about=content)


HEADS_FORMAT = "inactive_heads heads 1"


@dataclass
class Random:
    """The baseline: every (input, layer, head) is silenced with probability ``p``, seeded.

    The draw depends on the seed, the input's place among the samples and the layer alone: not
    on how inputs are batched. ``start`` is the place of the first, where they are some of many.
    """

    p: float
    seed: int = 0
    replacement: xr.DataArray | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise UserError(f"Random takes a probability from 0 to 1, not {self.p!r}")

    def check(self, shape: ModelShape) -> None:
        """Raise a UserError if the replacement was made for another model."""
        _check_replacement(self.replacement, shape)

    def __call__(self, heads: HeadActivations) -> Silence:
        draws = [
            np.random.default_rng((self.seed, self.start + row, heads.layer)).random(heads.n_heads)
            for row in heads.batch.rows
        ]
        mask = torch.as_tensor(np.stack(draws) < self.p, device=heads.outputs.device)
        return Silence(mask, _replacement(self.replacement, heads.layer))


def asked_ablation(
    score: str | None,
    threshold: float | None,
    heads: str | None,
    random: float | None,
    seed: int,
) -> PerInput | Fixed | Random | None:
    """The ablation that a command line asks for: by a score and its threshold, by a file, at random.

    ``random`` is in percent. None where nothing is asked.

    Raises:
        UserError: more than one of them, or a score without a threshold.
    """
    given = [one for one in (score, heads, random) if one is not None]
    if len(given) > 1:
        raise UserError("give one of score, heads and random, not several")
    if (score is None) != (threshold is None):
        raise UserError("score and threshold go together")
    if score is not None and threshold is not None:
        return PerInput(score, threshold)
    if heads is not None:
        return Fixed.load(heads)
    return None if random is None else Random(random / 100, seed=seed)


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


@dataclass(frozen=True, eq=False)
class AblationRun:
    """What `ablate` gives.

    Attributes:
        logits: ``(sample, vocab)``, float32, on the CPU: next-token logits after each sample's
            last token.
        zeroed: boolean DataArray ``(sample, layer, head)``: the heads that were silenced.
    """

    logits: Logits
    zeroed: xr.DataArray


def ablate(
    model: Any,
    samples: Sequence[Sample],
    ablation: Ablation | None,
    *,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> AblationRun:
    """Next-token logits with heads silenced, and which heads were.

        run = ih.ablate(model, samples, ih.PerInput("AHON (LN)", threshold=0.457))
        float(run.zeroed.mean())   # the share really zeroed

    Args:
        model: what `load_model` gave, a TransformerBridge or a HookedTransformer.
        samples: texts, or lists of token ids.
        ablation: `PerInput`, `Fixed`, `Random`, or None for the model as it is.
        batch_size: samples run together, or "auto".
        progress: whether to show a bar on a terminal.

    Raises:
        UserError: the ablation does not fit the model, or a sample cannot be run.
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


def _head_list(heads: Any) -> list[tuple[int, int]]:
    if isinstance(heads, xr.DataArray):
        heads = heads.transpose("layer", "head")
        layers = (
            heads["layer"].values if "layer" in heads.coords else np.arange(heads.sizes["layer"])
        )
        return [(int(layers[row]), int(head)) for row, head in np.argwhere(heads.values)]
    if isinstance(heads, np.ndarray | Tensor):
        mask = np.asarray(heads)
        if mask.dtype != bool or mask.ndim != 2:
            raise UserError(
                f"a mask of heads is boolean (layer, head), not {mask.dtype} of shape {mask.shape}; "
                "heads can be given as a list of (layer, head) too"
            )
        return [(int(layer), int(head)) for layer, head in np.argwhere(mask)]
    try:
        return sorted({(int(layer), int(head)) for layer, head in heads})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"heads are a boolean mask or a list of (layer, head) pairs, not {heads!r:.80}"
        ) from error


def _check_replacement(means: xr.DataArray | None, shape: ModelShape) -> None:
    if means is None:
        return
    expected = (len(shape.layers), shape.n_heads, shape.d_head)
    if means.shape != expected:
        raise UserError(
            f"the replacement has shape {means.shape}, the model's heads (layer, head, d_head) = "
            f"{expected}; make it with mean_head_outputs on this model"
        )


def _replacement(means: xr.DataArray | None, layer: int) -> Tensor | None:
    return None if means is None else torch.as_tensor(means.sel(layer=layer).values).float()
