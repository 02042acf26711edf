"""The command `inactive-heads evaluate`, which evaluates a model on one task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from inactive_heads.ablation.heads_file import read_heads_file
from inactive_heads.checks import check_score_names
from inactive_heads.cli.error_exit import one_line_errors
from inactive_heads.cli.options import Compare, ScoreFile, Seed, ShowPrompt, specs_as_options
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
    compare: Compare = True,
    show_prompt: ShowPrompt = False,
) -> None:
    """Evaluate a model on one task, with heads zeroed if asked, and print its accuracy or loss.

    Examples: inactive-heads evaluate --task mmlu --data mmlu/ --limit 100; inactive-heads evaluate
    --task text-loss --heads report/heads.json
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
    from inactive_heads.cli.outcome_lines import outcome_lines
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
    size = execution.batch_size
    comparing = compare and silenced is not None
    baseline = run(loaded, asked, batch_size=size) if comparing else None
    outcomes = run(loaded, asked, silenced, baseline=baseline, batch_size=size)
    about = {key: value for key, value in asked.about.items() if key not in ("subjects", "seed")}
    about["chat_template"] = "off" if loaded.chat is None else "on"
    shown = ", ".join(f"{key} {value}" for key, value in about.items())
    print(f"{loaded.name}, {asked.name}: {shown}")
    print("\n".join(outcome_lines(outcomes, baseline)))
