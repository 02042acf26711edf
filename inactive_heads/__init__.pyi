"""All that `import inactive_heads` offers, by theme: each name is imported when it is first asked for."""

# models
from .models.model import Model as Model
from .models.load import as_model as as_model, load_model as load_model

# scores
from .names import (
    GALLERY_SCORES as GALLERY_SCORES,
    PAPER_SCORES as PAPER_SCORES,
    PROPOSED_SCORES as PROPOSED_SCORES,
)
from .scores.proposed import read_output_distance as read_output_distance
from .core.activations import HeadActivations as HeadActivations
from .scores.registry import (
    Score as Score,
    get_score as get_score,
    layer_normalized as layer_normalized,
    score_function as score_function,
)
from .core.batch import TokenBatch as TokenBatch

# your own scores
from .sweeps.compare_scores import Comparison as Comparison, compare_scores as compare_scores
from .scores.check.check_score import (
    Finding as Finding,
    ScoreCheck as ScoreCheck,
    check_score as check_score,
)

# scoring
from .scores.activation_cache import score_cache as score_cache
from .scores.score_heads import score_heads as score_heads

# thresholds and head sets
from .analysis.heads.thresholds import (
    choose_thresholds as choose_thresholds,
    inactive_heads as inactive_heads,
    select_heads as select_heads,
)
from .analysis.heads.overlap import (
    head_set_iou as head_set_iou,
    head_set_precision as head_set_precision,
)

# ablation
from .ablation.ablate import AblationRun as AblationRun, ablate as ablate
from .ablation.ablations import Fixed as Fixed, PerInput as PerInput, Random as Random
from .ablation.placebo import Placebo as Placebo
from .engines.base import Silence as Silence
from .ablation.mean_outputs import mean_head_outputs as mean_head_outputs

# heads taken out of the weights
from .removal.remove import remove_heads as remove_heads

# text written with heads silenced
from .ablation.generation import (
    Generation as Generation,
    Sampling as Sampling,
    generate as generate,
)

# texts, tasks and evaluation
from .tasks.base import ChoiceItem as ChoiceItem
from .tasks.choice_task import ChoiceTask as ChoiceTask
from .tasks.text_task import TextTask as TextTask
from .evaluation.outcomes import Evaluation as Evaluation, Outcomes as Outcomes
from .sweeps.results import Sweep as Sweep, load_sweeps as load_sweeps
from .tasks.texts import cut_at_random as cut_at_random, cut_to as cut_to, load_texts as load_texts
from .evaluation.evaluate import evaluate as evaluate
from .tasks.load import load_task as load_task
from .sweeps.sweep import sweep as sweep

# what is read off the curves
from .analysis.curves.area import normalized_auc as normalized_auc, percent_within as percent_within
from .analysis.curves.ranking import rank_scores as rank_scores
from .analysis.curves.rank_uncertainty import rank_uncertainty as rank_uncertainty
from .analysis.curves.table import read_curves as read_curves
from .analysis.curves.paired import (
    choice_kl as choice_kl,
    mcnemar_p as mcnemar_p,
    paired_change as paired_change,
)

# many models, single inputs, checkpoints
from .report.page.model_results import ModelResults as ModelResults
from . import analysis as analysis
from .analysis.curves.model_comparison import (
    compare_models as compare_models,
    count_ranks as count_ranks,
)
from .analysis.heads.threshold_stability import threshold_stability as threshold_stability

# single heads, figures
from .explorer.explore import explore as explore
from .explorer.head_view import head_view as head_view, token_losses as token_losses
from . import plots as plots

# errors and warnings
from .errors import Notice as Notice, UserError as UserError
