"""Two proposed scores, RON and ROD, that lose less than the paper's; see docs/better_scores.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from einops import rearrange

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.tensor_types import PerHead, PerToken
from inactive_heads.names import ROD
from inactive_heads.scores.registry import Score, score_function


@score_function(
    "RON",
    inactive="below",
    definition="root mean square over tokens i, the first left out, of |g w[i]| / |x[i]|: w is what "
    "the head adds to the residual stream x, g the gains of the norms that read the stream from here on",
)
def read_output_norm(heads: HeadActivations) -> PerHead:
    """RON: how much of a head's output later layers read, relative to the residual stream.

    AHON is computed on z, before W_O and any post-attention norm scale it. Later layers do not
    see z either: they read the normalized stream, weighted by their norms' gains. The root mean
    square gives more weight to the tokens where the head writes much. The first token, where the
    stream of many models is hundreds of times longer, is left out unless it is the only one.

    Inactive below. Source: docs/better_scores.md.

    Args:
        heads: one layer's heads.

    Returns:
        ``(batch, head)``, float32, dimensionless, 0 or more.

    Raises:
        UserError: the model's norms or the path of its heads into the residual stream are unknown.
    """
    return _over_tokens(heads, heads.read_norm)


@dataclass(frozen=True, eq=False)
class _ReadOutputDistance:
    """RON of the difference between a head's output and its mean over other texts."""

    means: xr.DataArray

    def __call__(self, heads: HeadActivations) -> PerHead:
        n_heads, d_head = heads.outputs.shape[2:]
        own = self.means.sel(layer=heads.layer).values[:n_heads, :d_head]
        mean = torch.as_tensor(own).to(heads.z)
        return _over_tokens(heads, heads.read_norm_of(heads.z - mean))


def read_output_distance(means: xr.DataArray) -> Score:
    """ROD: RON of z minus the head's mean output, a score for mean ablation.

        means = ih.mean_head_outputs(model, other_texts)
        rod = ih.read_output_distance(means)
        curves = ih.sweep(model, task, scores=[rod, "AHON (LN)"], replacement=means)

    If ablation replaces a head by its mean output, a head whose output is constant loses nothing,
    however much it writes. Source: docs/better_scores.md.

    Args:
        means: ``(layer, head, d_head)``, from `mean_head_outputs` on texts other than those the
            score is judged on.

    Returns:
        The score "ROD", not registered, inactive below. It returns ``(batch, head)``, float32,
        dimensionless, 0 or more, and raises the errors of RON.
    """
    definition = "RON of z less its mean over other texts"
    return Score(ROD, _ReadOutputDistance(means), "below", definition)


def _over_tokens(heads: HeadActivations, lengths: PerToken) -> PerHead:
    """The root mean square over tokens, without the first unless it is the only one."""
    squared = lengths.square()
    positions = torch.arange(squared.shape[1], device=squared.device)
    first = positions == heads.batch.first.to(squared.device)[:, None]
    rest = squared.masked_fill(rearrange(first, "batch pos -> batch pos 1"), 0)
    n = heads.batch.n_tokens.to(squared.device)[:, None]
    mean = heads.mean_over_tokens(rest) * n / (n - 1).clamp(min=1)
    return torch.where(n > 1, mean, heads.at_first_token(squared)).sqrt()
