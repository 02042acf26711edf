"""Scores of our own that lose less than the paper's do; see docs/better_scores.md."""

from __future__ import annotations

import torch
from einops import rearrange

from inactive_heads.heads import HeadActivations
from inactive_heads.scores import score_function
from inactive_heads.shapes import PerHead


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
    squared = heads.read_norm.square()
    positions = torch.arange(squared.shape[1], device=squared.device)
    first = positions == heads.batch.first.to(squared.device)[:, None]
    rest = squared.masked_fill(rearrange(first, "batch pos -> batch pos 1"), 0)
    n = heads.batch.n_tokens.to(squared.device)[:, None]
    mean = heads.mean_over_tokens(rest) * n / (n - 1).clamp(min=1)
    return torch.where(n > 1, mean, heads.at_first_token(squared)).sqrt()


PROPOSED_SCORES = ("RON", "RON (LN)")
