"""All that `import inactive_heads` offers, by theme."""

from inactive_heads import analysis, plots
from inactive_heads.ablation.ablations import (
    AblationRun,
    Fixed,
    PerInput,
    Random,
    ablate,
    mean_head_outputs,
)
from inactive_heads.ablation.generation import Generation, Sampling, generate
from inactive_heads.analysis import (
    compare_models,
    count_ranks,
    normalized_auc,
    percent_within,
    rank_scores,
    read_curves,
    threshold_stability,
)
from inactive_heads.analysis.curves.paired import choice_kl, mcnemar_p, paired_change
from inactive_heads.analysis.curves.rank_uncertainty import rank_uncertainty
from inactive_heads.analysis.heads.thresholds import (
    choose_thresholds,
    head_set_iou,
    head_set_precision,
    inactive_heads,
    select_heads,
)
from inactive_heads.core.activations import HeadActivations, TokenBatch
from inactive_heads.core.tensor_types import Silence
from inactive_heads.errors import Notice, UserError
from inactive_heads.evaluation.evaluate import Evaluation, Outcomes, evaluate
from inactive_heads.explorer.explore import explore
from inactive_heads.explorer.head_view import head_view, token_losses
from inactive_heads.models.load import Model, as_model, load_model
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.scores.check.check_score import Finding, ScoreCheck, check_score
from inactive_heads.scores.literature import GALLERY_SCORES
from inactive_heads.scores.proposed import PROPOSED_SCORES, read_output_distance
from inactive_heads.scores.registry import (
    PAPER_SCORES,
    Score,
    get_score,
    layer_normalized,
    score_function,
)
from inactive_heads.scores.score_heads import score_cache, score_heads
from inactive_heads.sweeps.compare_scores import Comparison, compare_scores
from inactive_heads.sweeps.sweep import Sweep, load_sweeps, sweep
from inactive_heads.tasks.multiple_choice import ChoiceItem, ChoiceTask, TextTask, load_task
from inactive_heads.tasks.texts import cut_at_random, cut_to, load_texts

__all__ = [
    # models
    "Model",
    "as_model",
    "load_model",
    # scores
    "GALLERY_SCORES",
    "PAPER_SCORES",
    "PROPOSED_SCORES",
    "HeadActivations",
    "Score",
    "TokenBatch",
    "get_score",
    "layer_normalized",
    "read_output_distance",
    "score_function",
    # scores of one's own
    "Comparison",
    "Finding",
    "ScoreCheck",
    "check_score",
    "compare_scores",
    # scoring
    "score_cache",
    "score_heads",
    # thresholds and head sets
    "choose_thresholds",
    "head_set_iou",
    "head_set_precision",
    "inactive_heads",
    "select_heads",
    # ablation
    "AblationRun",
    "Fixed",
    "PerInput",
    "Random",
    "Silence",
    "ablate",
    "mean_head_outputs",
    # text written with heads silenced
    "Generation",
    "Sampling",
    "generate",
    # texts, tasks and evaluation
    "ChoiceItem",
    "ChoiceTask",
    "Evaluation",
    "Outcomes",
    "Sweep",
    "TextTask",
    "cut_at_random",
    "cut_to",
    "evaluate",
    "load_sweeps",
    "load_task",
    "load_texts",
    "sweep",
    # what is read off the curves
    "normalized_auc",
    "percent_within",
    "rank_scores",
    "rank_uncertainty",
    "read_curves",
    "choice_kl",
    "mcnemar_p",
    "paired_change",
    # many models, single inputs, checkpoints
    "ModelResults",
    "analysis",
    "compare_models",
    "count_ranks",
    "threshold_stability",
    # single heads, figures
    "explore",
    "head_view",
    "token_losses",
    "plots",
    # errors and warnings
    "Notice",
    "UserError",
]
