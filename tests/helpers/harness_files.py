"""Tasks of lm-evaluation-harness in a folder: words that `word_tokenizer` knows, nothing from a hub."""

import json
from pathlib import Path

import yaml

SUBJECTS, VERBS, PLACES = ["cat", "dog", "mat"], ["sat", "ran"], ["far", "mat", "a mat", "the dog"]

QUESTIONS = [
    {
        "ask": f"the {subject} {verb} on",
        "choices": [PLACES[i % 4], PLACES[(i + 1) % 4], "the cat and a dog"],
        "label": (i * i + turn) % 3,
    }
    for i, subject in enumerate(SUBJECTS)
    for turn, verb in enumerate(VERBS * 2)
]
GAPS = [
    {
        "before": f"the {subject} {verb} and",
        "options": ["the dog", "a cat far on the mat"],
        "after": "sat on a mat",
        "gap": (i + turn) % 2,
    }
    for i, subject in enumerate(SUBJECTS)
    for turn, verb in enumerate(VERBS)
]
LESS = {"higher_is_better": False}
MEAN = {"aggregation": "mean", "higher_is_better": True}


def task_folder(folder: Path) -> Path:
    """A folder with the tasks words, letters (both of the group all_words), gaps, last, said, story."""
    folder.mkdir(exist_ok=True)
    shots = [{**one, "label": 1} for one in QUESTIONS[:4]]
    questions = {"test": write(folder, "questions", QUESTIONS), "dev": write(folder, "dev", shots)}
    choice = {"output_type": "multiple_choice", "dataset_path": "json", "test_split": "test"}
    words = {
        **choice,
        "dataset_kwargs": {"data_files": questions},
        "fewshot_split": "dev",
        "doc_to_text": "{{ask}}",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
        "metadata": {"version": 2.0},
    }
    letters = {
        **words,
        "doc_to_text": "{{ask}} {{choices|join(' ')}} ",
        "doc_to_choice": ["cat", "dog", "mat"],
        "metric_list": [{"metric": "acc", **MEAN}],
        "fewshot_config": {"sampler": "first_n"},
        "description": "the cat and the dog\n\n",
        "num_fewshot": 1,
    }
    gaps = {
        **choice,
        "dataset_kwargs": {"data_files": {"test": write(folder, "gaps", GAPS)}},
        "doc_to_text": "{{gap}}",
        "doc_to_choice": "{{[before + ' ' + options[0], before + ' ' + options[1]]}}",
        "doc_to_target": "{{after}}",
        "metric_list": [{"metric": "acc", **MEAN}],
        "num_fewshot": 0,
    }
    last = {
        **words,
        "output_type": "loglikelihood",
        "doc_to_target": " {{choices[0]}}",
        "metric_list": [{"metric": "perplexity", **MEAN}, {"metric": "acc", **MEAN}],
    }
    del last["doc_to_choice"]
    said = {
        **last,
        "output_type": "generate_until",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["far"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match", **MEAN}],
    }
    story = {
        **last,
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{ask}} {{choices|join(' and ')}}",
        "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity"} | LESS],
    }
    names = ("words", "letters", "gaps", "last", "said", "story")
    for name, task in zip(names, (words, letters, gaps, last, said, story), strict=True):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task}))
    group = {"group": "all_words", "task": ["words", "letters"]}
    (folder / "group.yaml").write_text(yaml.safe_dump(group))
    return folder


def write(folder: Path, name: str, rows: list) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)
