"""The placebo of an ablation: as many heads of the same layers, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import xarray as xr

from inactive_heads.ablation.ablations import Ablation
from inactive_heads.analysis.heads.arguments import check_seed
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.model_shape import ModelShape
from inactive_heads.core.tensor_types import HeadMask
from inactive_heads.engines.base import Silence, checked_answer
from inactive_heads.errors import UserError, shortened

PER_INPUT, FOR_ALL = 1, 2
"""The last numbers of a draw's seed. `Random` has none there: a placebo of it draws other heads."""


@dataclass
class Placebo(Ablation):
    """A baseline: in every layer, silences as many heads as another ablation, drawn at random.

        ih.ablate(model, samples, ih.Placebo(ih.PerInput("AHON (LN)", threshold=0.457), seed=0))

    It tells a score that finds the right heads from one that only finds the right layers. The other
    ablation sees the activations of this run, which reflect the heads silenced in earlier layers,
    and says how many heads are silenced for each input; which ones is drawn from all heads of the
    layer with equal probability. For an ablation with one set of heads for all inputs, such as
    `Fixed`, one set is drawn for all inputs.

    A draw depends on the seed, the input's index among the samples, and the layer, but not on how
    inputs are batched. With one seed, a larger number of heads includes the smaller.

    Attributes:
        of: the ablation that says how many heads are silenced, and what replaces their outputs.
        seed: the seed of the draws.
        start: the index of the first sample, if the samples are a range of a larger set.

    Raises:
        UserError: ``of`` is no ablation.
    """

    of: Ablation
    seed: int = 0
    start: int = 0
    replacement: xr.DataArray | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.of, Ablation):
            raise UserError(
                f"a placebo follows an ablation, such as PerInput(score, threshold), not "
                f"{shortened(self.of)}"
            )
        self.seed = check_seed(self.seed)
        self.replacement = self.of.replacement
        self.depends_on_activations = self.of.depends_on_activations

    @property
    def label(self) -> str:
        """``placebo``, the label of the ablation that is followed, and the seed."""
        return f"placebo-{self.of.label}-{self.seed}"

    def check(self, shape: ModelShape) -> None:
        """Check that the ablation that is followed fits a model.

        Args:
            shape: the model's sizes.

        Raises:
            UserError: it does not.
        """
        self.of.check(shape)

    def starting_at(self, first: int) -> Placebo:
        """The same draws for a range of a larger set of inputs.

        Args:
            first: the index of the range's first input among all inputs.
        """
        return replace(self, of=self.of.starting_at(first), start=self.start + first)

    def silence(self, layer: int, n_heads: int) -> Silence | None:
        """The heads silenced in a layer for every input, if the other ablation has such.

        Args:
            layer: the layer's number in the model.
            n_heads: the number of heads in the layer.

        Returns:
            The answer, with a mask ``(1, head)``; None if it differs from input to input.
        """
        answer = self.of.silence(layer, n_heads)
        if answer is None:
            return None
        return replace(answer, mask=_drawn(answer.mask, [(self.seed, 0, layer, FOR_ALL)]))

    def __call__(self, heads: HeadActivations) -> Silence:
        same = self.silence(heads.layer, heads.n_heads)
        if same is not None:
            return same
        answer = checked_answer(self.of(heads), heads.outputs, heads.layer)
        if answer is None:  # an ablation of the user's own may have no answer at a layer
            return Silence(torch.zeros(1, heads.n_heads, dtype=torch.bool))
        seeds = [(self.seed, self.start + row, heads.layer, PER_INPUT) for row in heads.batch.rows]
        return replace(answer, mask=_drawn(answer.mask, seeds))


def _drawn(mask: HeadMask, seeds: Sequence[tuple[int, ...]]) -> HeadMask:
    """As many heads as in each row of a mask, drawn by each row's seed."""
    counts = mask.sum(dim=-1, keepdim=True).cpu().numpy()
    draws = np.stack([np.random.default_rng(seed).random(mask.shape[-1]) for seed in seeds])
    places = draws.argsort(axis=-1).argsort(axis=-1)
    return torch.as_tensor(places < counts, device=mask.device)
