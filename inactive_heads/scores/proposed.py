"""Scores of our own that lose less than the paper's do; see docs/better_scores.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from einops import rearrange

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import PerHead, PerToken
from inactive_heads.scores.registry import Score, score_function


@score_function(
    "RON",
    inactive="below",
    definition="root mean square over tokens i, the first left out, of |g w[i]| / |x[i]|: w is what "
    "the head adds to the residual stream x, g the gains of the norms that read the stream from here on",
)
def read_output_norm(heads: HeadActivations) -> PerHead:
    """How much of what a head writes is read, against the residual stream that it is added to.

    AHON looks at z, which W_O and a norm after attention have still to scale; later layers see
    z neither, but the normalised stream, with its coordinates weighed by their norms' gains. The
    square weighs a token where the head does much above many where it does little; the first
    token, at which many models' streams are hundreds of times longer, is left out unless it is
    the only one.
    """
    return _over_tokens(heads, heads.read_norm)


@dataclass(frozen=True, eq=False)
class _ReadOutputDistance:
    """RON of how far a head's output is from its mean over other texts."""

    means: xr.DataArray

    def __call__(self, heads: HeadActivations) -> PerHead:
        mean = torch.as_tensor(self.means.sel(layer=heads.layer).values).to(heads.z)
        return _over_tokens(heads, heads.read_norm_of(heads.z - mean))


def read_output_distance(means: xr.DataArray) -> Score:
    """ROD: how much of what a head's output differs from its mean is read; a head is inactive below.

        means = ih.mean_head_outputs(model, other_texts)
        rod = ih.read_output_distance(means)
        curves = ih.sweep(model, task, scores=[rod, "AHON (LN)"], replacement=means)

    RON, with the head's output z less that mean in place of z: the score for ablations that put the
    mean in a head's place. A head that writes the same whatever it reads does nothing then, however
    much it writes.

    Args:
        means: ``(layer, head, d_head)``, from `mean_head_outputs` on texts other than those judged.
    """
    definition = "RON of z less its mean over other texts"
    return Score("ROD", _ReadOutputDistance(means), "below", definition)


def _over_tokens(heads: HeadActivations, lengths: PerToken) -> PerHead:
    """The root mean square over tokens, the first left out unless it is the only one."""
    squared = lengths.square()
    positions = torch.arange(squared.shape[1], device=squared.device)
    first = positions == heads.batch.first.to(squared.device)[:, None]
    rest = squared.masked_fill(rearrange(first, "batch pos -> batch pos 1"), 0)
    n = heads.batch.n_tokens.to(squared.device)[:, None]
    mean = heads.mean_over_tokens(rest) * n / (n - 1).clamp(min=1)
    return torch.where(n > 1, mean, heads.at_first_token(squared)).sqrt()


PROPOSED_SCORES = ("RON", "RON (LN)")
