"""Which heads to silence, as visitors: per input by a score, a fixed set, or at random."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from einops import repeat
from torch import Tensor

from inactive_heads.core.activations import HeadActivations
from inactive_heads.engines.base import ModelShape, Silence
from inactive_heads.errors import UserError
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
