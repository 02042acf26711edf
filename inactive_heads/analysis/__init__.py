"""Numbers derived from results: areas and ranks of curves, distances of scores, head sets.

Each function lives in a module of its own idea; all of them are importable from here.
"""

from inactive_heads.analysis.curves.area import normalized_auc, percent_within
from inactive_heads.analysis.curves.metrics import METRICS, TOLERANCE, Metric
from inactive_heads.analysis.curves.model_comparison import (
    compare_models,
    count_ranks,
    rank_agreement,
    rank_correlations,
    rank_table,
    top_overlap,
)
from inactive_heads.analysis.curves.ranking import rank_scores, within_column
from inactive_heads.analysis.curves.summary import SUMMARY_COLUMNS, summarize
from inactive_heads.analysis.curves.table import (
    CURVE_KEYS,
    as_curves,
    baseline_row,
    read_curves,
)
from inactive_heads.analysis.heads.existing import existing_heads
from inactive_heads.analysis.heads.head_sets import (
    fixed_agreement,
    inactive_at,
    inactive_counts,
    score_agreement,
)
from inactive_heads.analysis.heads.per_input import (
    cache_shares,
    group_shares,
    inactive_shares,
    key_value_groups,
    layer_shares,
    length_correlations,
    length_shares,
    split_heads,
)
from inactive_heads.analysis.heads.threshold_stability import (
    read_thresholds,
    threshold_stability,
    thresholds_by_task,
    thresholds_of_curves,
    thresholds_table,
)
from inactive_heads.analysis.models.checkpoints import (
    changed_heads,
    checkpoint_shares,
    inactive_states,
    transition_counts,
    turning_heads,
)
from inactive_heads.analysis.models.distances import (
    layer_distances,
    model_distances,
    score_distances,
)
from inactive_heads.names import RANDOM, is_baseline, placebo_of

__all__ = [
    # curves
    "CURVE_KEYS",
    "METRICS",
    "RANDOM",
    "SUMMARY_COLUMNS",
    "TOLERANCE",
    "Metric",
    "as_curves",
    "baseline_row",
    "is_baseline",
    "normalized_auc",
    "percent_within",
    "placebo_of",
    "rank_scores",
    "read_curves",
    "summarize",
    "within_column",
    # many models
    "compare_models",
    "count_ranks",
    "rank_agreement",
    "rank_correlations",
    "rank_table",
    "top_overlap",
    # thresholds over data sets
    "read_thresholds",
    "threshold_stability",
    "thresholds_by_task",
    "thresholds_of_curves",
    "thresholds_table",
    # distributions
    "layer_distances",
    "model_distances",
    "score_distances",
    # head sets
    "existing_heads",
    "fixed_agreement",
    "inactive_at",
    "inactive_counts",
    "score_agreement",
    # single inputs
    "cache_shares",
    "group_shares",
    "inactive_shares",
    "key_value_groups",
    "layer_shares",
    "length_correlations",
    "length_shares",
    "split_heads",
    # training and finetuning
    "changed_heads",
    "checkpoint_shares",
    "inactive_states",
    "transition_counts",
    "turning_heads",
]
