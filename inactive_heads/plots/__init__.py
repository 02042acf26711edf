"""Plotly figures of results.

Functions take the data first and options by keyword; they return the figure and never show it.
All figures share one look. Dark means towards inactive. A line's colour and marker identify the
score, its dash the normalization ("(LN)" dashed, "(HN)" dash-dotted); Random is grey. The colours
are those of Okabe and Ito, cividis and, for values with two sides, red to blue, which colour-blind
readers can tell apart.
"""

from inactive_heads.analysis.heads.head_sets import head_ranks
from inactive_heads.analysis.heads.histogram import histogram
from inactive_heads.plots.checkpoints import checkpoint_lines, transition_bars, turning_heatmap
from inactive_heads.plots.curves import EFFECTS, accuracy_curves, curve_grid, effect_curves
from inactive_heads.plots.distributions import (
    distance_matrix,
    distance_pairs,
    layer_distance_lines,
    score_cdfs,
    score_distributions,
)
from inactive_heads.plots.head_heatmaps import head_heatmap, inactive_by_layer, score_heatmaps
from inactive_heads.plots.models import (
    agreement_heatmap,
    model_gains,
    rank_heatmap,
    threshold_spread,
)
from inactive_heads.plots.per_input import (
    cache_bars,
    change_heatmap,
    correlation_heatmap,
    group_heatmap,
    head_split,
    length_lines,
    share_heatmap,
)
from inactive_heads.plots.style import AXIS_TITLES, escape, line_style, model_style

__all__ = [
    # curves
    "EFFECTS",
    "accuracy_curves",
    "curve_grid",
    "effect_curves",
    # where heads are
    "head_heatmap",
    "head_ranks",
    "inactive_by_layer",
    "score_heatmaps",
    # distributions
    "distance_matrix",
    "distance_pairs",
    "histogram",
    "layer_distance_lines",
    "score_cdfs",
    "score_distributions",
    # many models
    "agreement_heatmap",
    "model_gains",
    "rank_heatmap",
    "threshold_spread",
    # single inputs
    "cache_bars",
    "change_heatmap",
    "correlation_heatmap",
    "group_heatmap",
    "head_split",
    "length_lines",
    "share_heatmap",
    # checkpoints
    "checkpoint_lines",
    "transition_bars",
    "turning_heatmap",
    # the look
    "AXIS_TITLES",
    "escape",
    "line_style",
    "model_style",
]
