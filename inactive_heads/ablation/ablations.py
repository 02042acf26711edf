"""Ablations: visitors that silence heads per input by a score, as a fixed set, or at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from einops import repeat

from inactive_heads.ablation.fit import (
    check_heads,
    check_mask_shape,
    check_replacement,
    check_sizes,
)
from inactive_heads.ablation.heads_file import read_heads_file, write_heads_file
from inactive_heads.analysis.heads.arguments import check_seed, one_number
from inactive_heads.analysis.heads.head_lists import read_heads
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.tensor_types import HeadMask, PerHead
from inactive_heads.engines.base import Silence
from inactive_heads.errors import UserError
from inactive_heads.files import digest_of
from inactive_heads.scores.registry import Score, ScoreLike, get_score


class Ablation(ABC):
    """A visitor that answers at every layer with the heads to silence.

    A subclass of your own needs `__call__` and `label`. `evaluate`, `ablate` and `generate` then
    take it like a built-in ablation.

    Attributes:
        depends_on_activations: whether the answer depends on what the model computes. If not,
            `generate` can cache keys and values.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`, replaces the output of
            silenced heads; None for zero. NaN where a layer has fewer or narrower heads.
    """

    depends_on_activations: bool = True
    replacement: xr.DataArray | None = None

    @abstractmethod
    def __call__(self, heads: HeadActivations, /) -> Silence:
        """The heads of one layer to silence.

        Args:
            heads: the layer's activations on a batch, which reflect the ablations in earlier
                layers.

        Returns:
            A mask ``(batch, head)``, true where a head is silenced, and what replaces its output.
        """

    @property
    @abstractmethod
    def label(self) -> str:
        """A name that is unique in a run; equal ablations have equal labels."""

    def check(self, shape: ModelShape) -> None:
        """Check that the ablation fits a model.

        Args:
            shape: the model's sizes.

        Raises:
            UserError: the replacement was made for a model of another shape, or is not finite.
        """
        if self.replacement is not None:
            check_replacement(self.replacement, shape)

    def silence(self, layer: int, n_heads: int) -> Silence | None:
        """The heads silenced in a layer for every input, if they are the same for all.

        Args:
            layer: the layer's number in the model.
            n_heads: the number of heads in the layer.

        Returns:
            The answer, with a mask ``(1, head)``; None if it differs from input to input.
        """
        return None

    def starting_at(self, first: int) -> Ablation:
        """The same ablation for a range of a larger set of inputs.

        Args:
            first: the index of the range's first input among all inputs.

        Returns:
            An ablation that silences the same heads on the range alone as on all inputs.
        """
        return self

    def _silenced(self, mask: HeadMask, layer: int) -> Silence:
        means = self.replacement
        if means is None:
            return Silence(mask)
        own = means.sel(layer=layer).transpose("head", "d_head").values[: mask.shape[-1]]
        # A layer with narrower heads than others has NaN in the last columns.
        filled = np.flatnonzero(~np.isnan(own).all(axis=0))
        width = filled[-1] + 1 if len(filled) else 0
        return Silence(mask, torch.as_tensor(own[:, :width]).float())


@dataclass
class PerInput(Ablation):
    """Silences, for each input, the heads on the inactive side of a threshold.

    Scores are computed on activations that already reflect the ablations in earlier layers, as in
    the paper.

        ih.ablate(model, samples, ih.PerInput("AHON (LN)", threshold=0.457))

    Attributes:
        score: a name or a function.
        threshold: in the score's unit; compared strictly, so a head exactly at the threshold stays.
            A number, or a single value of `choose_thresholds`.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`; None for zero.

    Raises:
        UserError: the score is unknown; or the threshold is not a single finite number, or is
            labelled as that of another score. In a run: a score is not finite.
    """

    score: ScoreLike
    threshold: Any
    replacement: xr.DataArray | None = None

    def __post_init__(self) -> None:
        self._score: Score = get_score(self.score)
        if isinstance(self.threshold, xr.DataArray) and "score" in self.threshold.coords:
            chosen_for = self.threshold["score"].to_numpy().tolist()
            if isinstance(chosen_for, str) and chosen_for != self._score.name:
                raise UserError(
                    f"the threshold is that of {chosen_for!r}, and the score is {self._score.name!r}"
                )
        self.threshold = one_number(self.threshold, f"the threshold of {self._score.name!r}")

    @property
    def label(self) -> str:
        """``per-input``, the score's name and the threshold."""
        return f"per-input-{self._score.name}-{self.threshold!r}"

    def __call__(self, heads: HeadActivations) -> Silence:
        values = self._score(heads)
        self._check_defined(values, heads)
        mask = self._score.is_inactive(values, self.threshold)
        return self._silenced(mask, heads.layer)

    def _check_defined(self, values: PerHead, heads: HeadActivations) -> None:
        """NaN is on neither side of a threshold."""
        wrong = torch.nonzero(~torch.isfinite(values)).tolist()
        if wrong:
            row, head = min(wrong, key=lambda place: (heads.batch.rows[place[0]], place[1]))
            raise UserError(
                f"score {self._score.name!r} is {values[row, head].item()} for input "
                f"{heads.batch.rows[row]}, L{heads.layer}H{head}, which is on no side of a "
                "threshold (a ratio to 0?); choose another score, or leave the input out"
            )


@dataclass
class Fixed(Ablation):
    """Silences one set of heads, the same for every input.

        ih.Fixed([(5, 3), (11, 0)])  # L5H3 and L11H0
        ih.Fixed(ih.select_heads(scores, "AHON (LN)", percent=10))

    Attributes:
        heads: ``(layer, head)`` pairs or labels such as "L5H3" in any collection, a dictionary
            layer → heads, a table with the columns layer and head, or a mask ``(layer, head)`` of
            booleans (or of 0 and 1) such as that of `select_heads`; all are converted to pairs. A
            DataArray goes by its dimensions' names and its labels, so it may hold some layers or
            heads only; a mask without labels must have all of the model's.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`; None for zero.
        about: where the set comes from (model, score, percent, …), saved in its file. ``n_layers``
            and ``n_heads``, if given, must be those of the model that is run.
        mask_shape: the number of layers and of heads of a mask without labels.

    Raises:
        UserError: ``heads`` is none of these.
    """

    depends_on_activations = False

    heads: Any
    replacement: xr.DataArray | None = None
    about: dict[str, Any] = field(default_factory=dict)
    mask_shape: tuple[int | None, int | None] | None = field(
        default=None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        found = read_heads(self.heads)
        self.heads = found.pairs
        if self.mask_shape is None:
            self.mask_shape = found.shape

    @property
    def label(self) -> str:
        """``fixed`` and a digest of the heads."""
        return f"fixed-{digest_of(self.heads)}"

    def check(self, shape: ModelShape) -> None:
        """Check that the model has the heads, and that the replacement fits it.

        Args:
            shape: the model's sizes.

        Raises:
            UserError: a head is not one of the model's, or the set is a mask of another shape, or
                the set of a model with other numbers of layers or heads; the message says which.
        """
        check_mask_shape(self.mask_shape or (None, None), shape)
        check_sizes(self.about, shape)
        check_heads(self.heads, shape)
        super().check(shape)

    def __call__(self, heads: HeadActivations) -> Silence:
        same = self.silence(heads.layer, heads.n_heads)
        mask = repeat(same.mask, "1 head -> batch head", batch=len(heads.batch.tokens))
        return Silence(mask, same.value)

    def silence(self, layer: int, n_heads: int) -> Silence:
        """The heads of the set in a layer.

        Args:
            layer: the layer's number in the model.
            n_heads: the number of heads in the layer.

        Returns:
            The answer for every input, with a mask ``(1, head)``.
        """
        mask = torch.zeros(1, n_heads, dtype=torch.bool)
        mask[0, [head for at, head in self.heads if at == layer]] = True
        return self._silenced(mask, layer)

    def save(self, path: str | Path) -> None:
        """Write the set and ``about`` to a JSON file, which `load` reads.

        Args:
            path: the file to write.

        Raises:
            UserError: the file cannot be written.
        """
        sizes = zip(("n_layers", "n_heads"), self.mask_shape or (), strict=False)
        known = {name: size for name, size in sizes if size is not None}
        write_heads_file(Path(path), self.heads, {**known, **self.about})

    @staticmethod
    def load(path: str | Path) -> Fixed:
        """The set of heads in a file that `save` or a report wrote.

        Args:
            path: the file, such as a report's ``heads.json``.

        Returns:
            The ablation; the file's other values are in ``about``.

        Raises:
            UserError: the file cannot be read, or is not a file of heads in this format.
        """
        heads, about = read_heads_file(Path(path))
        try:
            return Fixed(heads, about=about)
        except UserError as error:
            raise UserError(f"{path} is not a file of heads: {error}") from error


@dataclass
class Random(Ablation):
    """The baseline: silences every (input, layer, head) with the same probability, seeded.

        ih.ablate(model, samples, ih.Random(0.1, seed=0))

    A draw depends on the seed, the input's index among the samples, and the layer, but not on how
    inputs are batched.

    Attributes:
        p: the probability, 0 to 1.
        seed: the seed of the draws.
        replacement: ``(layer, head, d_head)`` from `mean_head_outputs`; None for zero.
        start: the index of the first sample, if the samples are a range of a larger set.

    Raises:
        UserError: ``p`` is not between 0 and 1.
    """

    depends_on_activations = False

    p: float
    seed: int = 0
    replacement: xr.DataArray | None = None
    start: int = 0

    def __post_init__(self) -> None:
        self.p = one_number(self.p, "Random's probability")
        if not 0 <= self.p <= 1:
            hint = f"; {self.p:g}% of heads is {self.p / 100:g}" if 1 < self.p <= 100 else ""
            raise UserError(f"Random takes a probability from 0 to 1, not {self.p:g}{hint}")
        self.seed = check_seed(self.seed)

    @property
    def label(self) -> str:
        """``random``, the probability and the seed."""
        return f"random-{self.p!r}-{self.seed}"

    def starting_at(self, first: int) -> Random:
        """The same draws for a range of a larger set of inputs.

        Args:
            first: the index of the range's first input among all inputs.
        """
        return replace(self, start=self.start + first)

    def __call__(self, heads: HeadActivations) -> Silence:
        draws = [
            np.random.default_rng((self.seed, self.start + row, heads.layer)).random(heads.n_heads)
            for row in heads.batch.rows
        ]
        mask = torch.as_tensor(np.stack(draws) < self.p, device=heads.outputs.device)
        return self._silenced(mask, heads.layer)
