"""The command `inactive-heads evaluate`, which evaluates a model on one task."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path

from inactive_heads.ablation.heads_file import read_heads_file
from inactive_heads.checks import check_score_names
from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.options import ScoreFile, Seed, ShowPrompt, specs_as_options
from inactive_heads.cli.terminal import say_loading
from inactive_heads.files import existing_file
from inactive_heads.models.weights.source import check_source
from inactive_heads.specs import AblationSpec, ExecutionSpec, ModelSpec, TaskSpec
from inactive_heads.tasks.reading.sources import check_data

ELSEWHERE = ("executor", "workers", "ray_address", "gpus_per_worker", "shard_tokens")
"""Options of `ExecutionSpec` that apply to sweeps only."""


@one_line_errors
@specs_as_options(execution=ELSEWHERE)
def evaluate(
    *,
    model: ModelSpec,
    task: TaskSpec,
    ablation: AblationSpec,
    score_file: ScoreFile = None,
    execution: ExecutionSpec,
    seed: Seed = 0,
    show_prompt: ShowPrompt = False,
) -> None:
    """Evaluate a model on one task, with heads zeroed if asked, and print its accuracy or loss.

    Example: inactive-heads evaluate --task mmlu --data mmlu/ --limit 100
    """
    task, ablation = replace(task, seed=seed), replace(ablation, seed=seed)
    for spec in (model, task, ablation, execution):
        spec.check()
    check_source(model.source)
    check_data(task)
    if ablation.heads is not None:
        read_heads_file(Path(ablation.heads))
    if score_file is not None:
        existing_file(score_file, "scores")
    elif ablation.score is not None:
        check_score_names([ablation.score])
    say_loading([model.source])
    # Imported here, so that neither --help nor a wrong option waits for torch.
    from inactive_heads.ablation.choose_ablation import choose_ablation
    from inactive_heads.analysis.curves.metrics import ACCURACY, get_metric
    from inactive_heads.evaluation.evaluate import evaluate as run
    from inactive_heads.models.load import load as load_model
    from inactive_heads.tasks.load import load as load_task

    if score_file is not None:
        from inactive_heads.scores.user_file import load_score_file

        load_score_file(score_file)
    silenced = choose_ablation(ablation)
    asked = load_task(task)
    loaded = load_model(model)
    if show_prompt:
        print(asked.first_prompt(loaded))
        return
    outcomes = run(loaded, asked, silenced, batch_size=execution.batch_size)
    found, metric = outcomes.summary(), get_metric(outcomes.metric)
    about = {key: value for key, value in asked.about.items() if key not in ("subjects", "seed")}
    about["chat_template"] = "off" if loaded.chat is None else "on"
    shown = ", ".join(f"{key} {value}" for key, value in about.items())
    print(f"{loaded.name}, {asked.name}: {shown}")
    digits, unit = (1, "%") if metric == ACCURACY else (4, " nats per token")
    low, high = (found[bound] for bound in metric.bounds)
    ends = metric.too_few if isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"
    print(
        f"{metric} {found[metric]:.{digits}f}{unit} (95% interval {ends}), "
        f"{found['n']} {metric.items}"
    )
    print(f"heads zeroed: {found['percent_zeroed']:.2f}%")
