"""Multiple-choice tasks of lm-evaluation-harness in our evaluation."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.harness_files import GAPS, QUESTIONS, task_folder, write
from helpers.models_on_disk import save_folder
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return task_folder(tmp_path_factory.mktemp("harness") / "tasks")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ih.load_model(save_folder(tmp_path_factory.mktemp("model"), tiny_llama()))


def load(tasks, name, **options):
    return ih.load_task(f"lm-eval:{name}", data=tasks, **options)


def edited(tasks, tmp_path, name, **changes):
    """A folder with one task of the others', changed."""
    tmp_path.mkdir(exist_ok=True)
    task = yaml.safe_load((tasks / f"{name}.yaml").read_text()) | changes
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return tmp_path


def test_a_task_is_asked_as_its_file_says(tasks):
    task = load(tasks, "words")
    assert (task.name, task.scoring, task.num_fewshot) == ("lm-eval:words", "acc_norm", 0)
    assert [item.context for item in task.items] == [one["ask"] for one in QUESTIONS]
    assert [item.answer for item in task.items] == [one["label"] for one in QUESTIONS]
    assert task.items[0].continuations == (" far", " mat", " the cat and a dog")
    assert task.items[0].lengths == (3, 3, 17)
    assert task.about["task_versions"] == {"words": 2.0}
    letters = load(tasks, "letters")
    assert (letters.scoring, letters.num_fewshot) == ("acc", 1)
    assert letters.items[0].context.startswith("the cat and the dog\n\nthe cat sat on far mat")


def test_choices_that_differ_in_their_contexts(tasks, model):
    task = load(tasks, "gaps")
    item, gap = task.items[1], GAPS[1]
    assert item.context == tuple(f"{gap['before']} {option}" for option in gap["options"])
    assert item.continuations == (f" {gap['after']}",) * 2
    assert item.answer == gap["gap"]
    (row,) = ih.evaluate(model, ih.ChoiceTask("one", [item], "acc", 0)).items.to_dict("records")
    for context, found in zip(item.context, row["choice_logprobs"], strict=True):
        start, whole = model.encode(context), model.encode(context + item.continuations[0])
        expected = 0.0
        for at in range(len(start), len(whole)):
            logits = ih.ablate(model, [whole[:at]], None).logits[0].log_softmax(dim=0)
            expected += float(logits[whole[at]])
        assert found == pytest.approx(expected, abs=1e-4)
    assert row["correct"] == (int(np.argmax(row["choice_logprobs"])) == gap["gap"])


def test_scoring_says_how_answers_are_judged(tasks, model):
    plain, normalized = (load(tasks, "words", scoring=how) for how in ("letter", "cloze"))
    assert (plain.scoring, normalized.scoring) == ("acc", "acc_norm")
    one, other = (ih.evaluate(model, task).items for task in (plain, normalized))
    assert one["choice_logprobs"].tolist() == other["choice_logprobs"].tolist()
    for row, long, item in zip(one["correct"], other["correct"], plain.items, strict=True):
        values = np.array(one["choice_logprobs"][plain.items.index(item)])
        assert row == (values.argmax() == item.answer)
        assert long == ((values / item.lengths).argmax() == item.answer)
    assert (one["correct"] != other["correct"]).any()


def test_a_group_has_its_tasks_for_subjects(tasks):
    task = load(tasks, "all_words")
    assert [item.subject for item in task.items] == ["words"] * 12 + ["letters"] * 12
    assert task.scoring == "acc"  # letters has no other
    some = load(tasks, "all_words", limit=6, seed=1)
    assert sorted(item.subject for item in some.items) == ["letters"] * 3 + ["words"] * 3
    assert {item.id for item in some.items} < {item.id for item in task.items}
    alone = load(tasks, "all_words", subjects=["letters"])
    assert {item.subject for item in alone.items} == {"letters"}
    with pytest.raises(ih.UserError, match="unknown subject 'gaps'; there are: words, letters"):
        load(tasks, "all_words", subjects=["gaps"])


def test_what_is_saved_of_a_group_has_its_subjects_in_alphabetical_order(tasks, tmp_path):
    names = ["elm", "ash", "fir", "box", "yew", "oak"]
    for name in names:
        edited(tasks, tmp_path, "words", task=name)
        (tmp_path / "words.yaml").rename(tmp_path / f"{name}.yaml")
    (tmp_path / "trees.yaml").write_text(yaml.safe_dump({"group": "trees", "task": names}))
    task = load(tmp_path, "trees", limit=6)
    assert [item.subject for item in task.items] == names
    assert task.about["subjects"] == sorted(names)


def test_shots_are_drawn_as_the_harness_draws_them(tasks, model):
    from lm_eval.tasks import TaskManager

    task = load(tasks, "words", shots=2)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    (known,) = manager.load(["words"])["tasks"].values()
    known.set_config(key="num_fewshot", value=2)
    known.set_fewshot_seed(seed=1234)
    known.build_all_requests()
    contexts = [request.args[0] for request in known.instances[::3]]
    assert [str(item.context) for item in task.items] == contexts
    with pytest.raises(ih.UserError, match="task 'gaps' .* takes no examples"):
        load(tasks, "gaps", shots=1)
    with pytest.raises(ih.UserError, match="cannot be asked with 9 shots .*; give fewer shots"):
        load(tasks, "words", shots=9)
    with pytest.raises(ih.UserError, match="shots .* must be at least 0, not -1"):
        load(tasks, "words", shots=-1)


def test_a_prompt_goes_to_other_processes_whole(tasks):
    item = load(tasks, "letters").items[0]
    sent = pickle.loads(pickle.dumps(item))  # noqa: S301
    assert sent == item
    assert sent.context.turns == item.context.turns
    assert [turn["role"] for turn in sent.context.turns] == ["system", "user", "assistant", "user"]


def test_an_empty_prompt_follows_bos(tasks, model, tmp_path):
    folder = edited(tasks, tmp_path / "empty", "words", doc_to_text="", target_delimiter="")
    (row, *_) = ih.evaluate(model, load(folder, "words", scoring="acc")).items.to_dict("records")
    words = model.encode(QUESTIONS[0]["choices"][2])
    tokens = [model.tokenizer.bos_token_id, *words]
    expected = sum(
        float(ih.ablate(model, [tokens[:at]], None).logits[0].log_softmax(dim=0)[tokens[at]])
        for at in range(1, len(tokens))
    )
    assert row["choice_logprobs"][2] == pytest.approx(expected, abs=1e-4)


def test_what_is_not_multiple_choice_says_so(tasks, tmp_path):
    for name, kind in (("said", "generate_until"), ("last", "loglikelihood")):
        with pytest.raises(
            ih.UserError, match=f"'{name}' .* is not multiple choice but {kind}; run"
        ):
            load(tasks, name)
    rules = "def judge(doc, results):\n    return {'acc': 1.0}\n"
    folder = edited(tasks, tmp_path / "rules", "words")
    (folder / "judge.py").write_text(rules)
    with (folder / "words.yaml").open("a") as file:
        file.write("process_results: !function judge.judge\n")
    with pytest.raises(ih.UserError, match="judges answers by rules of its own; run it with the"):
        load(folder, "words")
    folder = edited(tasks, tmp_path / "several", "words", doc_to_target="{{[0, 1]}}")
    with pytest.raises(ih.UserError, match="has several right answers"):
        load(folder, "words")
    for kind in ("image", "audio"):
        folder = edited(tasks, tmp_path / kind, "words", **{f"doc_to_{kind}": "ask"})
        with pytest.raises(ih.UserError, match="task 'words' .* asks about images or sound; run"):
            load(folder, "words")
    folder = edited(tasks, tmp_path / "none", "words", doc_to_target="nothing")
    with pytest.raises(
        ih.UserError, match="document 0 of the task 'words' has no right answer: 'nothing'"
    ):
        load(folder, "words")


@pytest.mark.parametrize(
    ("changes", "start", "message"),
    [
        ({"choices": ["far", None, "mat"]}, 1, "document 1 .*None.*, not a list of texts; mend"),
        ({"label": 3}, 1, "document 1 .* has no right answer: 3; it needs the index or the text"),
        ({"label": -1}, 1, "document 1 .* has no right answer: -1; it needs the index"),
        ({"choices": ["far", "", "mat"]}, 1, "'words-1' has an answer without characters"),
        ({"choices": []}, 1, "document 1 .* has no right answer: .; it needs"),
        # A column has one type, so that all documents have these.
        ({"choices": "far"}, 0, "document 0 .* has the choices 'far', not a list of texts; mend"),
        ({"choices": {"A": "far", "B": "mat"}}, 0, "not be loaded .*, and has the fields that the"),
        ({"choices": [1, 2, 3]}, 0, "not be loaded .*, and has the fields that the task's file"),
        ({"label": True}, 0, "document 0 .* has no right answer: True; it needs the index"),
        ({"label": 1.5}, 0, "document 0 .* has no right answer: 1.5; it needs the index"),
        ({"label": "cat"}, 0, "document 0 .* has no right answer: 'cat'; it needs the index"),
    ],
    ids=str,
)
def test_a_document_that_is_not_clear_is_named(changes, start, message, tasks, tmp_path):
    rows = [*QUESTIONS[:start], *({**one, **changes} for one in QUESTIONS[start:])]
    file = write(tmp_path, "changed", rows)
    kwargs = {"data_files": {"test": file}}
    folder = edited(tasks, tmp_path / "changed", "words", dataset_kwargs=kwargs, fewshot_split=None)
    with pytest.raises(ih.UserError, match=message) as error:
        load(folder, "words")
    assert "\n" not in str(error.value)


def test_a_right_answer_that_is_there_twice_is_said(tasks, tmp_path):
    twice = {"doc_to_choice": "{{[choices[0], choices[1], choices[label]]}}"}
    folder = edited(tasks, tmp_path / "twice", "words", **twice)
    n = sum(one["label"] != 2 for one in QUESTIONS)
    with pytest.warns(
        Notice, match=f"^{n} questions of lm-eval:words have their right answer twice"
    ):
        task = load(folder, "words")
    assert len(task) == len(QUESTIONS)


def test_tasks_that_cannot_be_found_or_loaded(tasks, tmp_path):
    with pytest.raises(ih.UserError, match="there is no folder 'nowhere' of task files"):
        ih.load_task("lm-eval:words", data="nowhere")
    wrong = "scoring must be acc or acc_norm for lm-eval:words"
    with unchecked(), pytest.raises(ih.UserError, match=wrong):
        load(tasks, "words", scoring="f1")
    missing = {"data_files": {"test": str(tmp_path / "none.jsonl")}}
    folder = edited(tasks, tmp_path / "missing", "gaps", dataset_kwargs=missing)
    with pytest.raises(
        ih.UserError, match="task 'gaps' .* could not be loaded .*; see whether its data set can"
    ):
        load(folder, "gaps")


def test_the_harness_own_tasks():
    with pytest.raises(
        ih.UserError, match=r"'gsm8k' .* is not multiple choice but generate_until;"
    ):
        ih.load_task("lm-eval:gsm8k")
    with pytest.raises(ih.UserError, match="has no task 'winogrand'; similar names: .*winogrande"):
        ih.load_task("lm-eval:winogrand")


def test_without_the_harness_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ih.UserError, match=r"pip install 'inactive-heads\[lm-eval\]'"):
        ih.load_task("lm-eval:piqa")


def test_a_sweep_of_a_harness_task(tasks, model, tmp_path):
    task = load(tasks, "gaps")
    curves = ih.sweep(model, task, scores=["AHON (LN)"], percents=[0, 20], out=tmp_path / "run")
    assert curves["task"].unique().tolist() == ["lm-eval:gaps"]
    assert curves["n"].tolist() == [len(GAPS)] * 2
    again = ih.sweep(model, task, scores=["AHON (LN)"], percents=[0, 20], out=tmp_path / "run")
    assert again.equals(curves)
    json.dumps(task.about)


def test_a_report_has_the_thresholds_of_several_tasks(tasks, model, tmp_path):
    from inactive_heads.evaluation.prepared_task import PreparedTask
    from inactive_heads.report.build import build_reports
    from inactive_heads.report.options import ReportOptions
    from inactive_heads.specs import ModelSpec, TaskSpec, TextsSpec

    names = ("lm-eval:words", "lm-eval:gaps")
    folder = str(model.provenance["source"])
    asked = ReportOptions(
        model=ModelSpec(folder),
        out=str(tmp_path / "report"),
        tasks=[TaskSpec(name, data=str(tasks)) for name in names],
        scores=["AHON (LN)"],
        percents=[10, 30],
        texts=TextsSpec(
            str(write(tmp_path, "texts", [{"text": "the cat sat on a mat " * 3}] * 2)),
            num_texts=2,
            max_tokens=12,
        ),
    )
    path, _ = build_reports([asked], asked.out)
    found = pd.read_csv(tmp_path / "report" / "thresholds.csv")
    assert len(found) == 2 * len(ih.PAPER_SCORES) * 2
    for name in names:
        task = ih.load_task(name, data=tasks)
        inputs = [one.tokens for one in PreparedTask.of(model, task).inputs]
        cuts = ih.choose_thresholds(ih.score_heads(model, inputs), [10, 30])
        for row in found[found["task"] == name].itertuples():
            cut = float(cuts.sel(score=row.score, percent=row.percent))
            assert row.threshold == pytest.approx(cut, rel=1e-5), (name, row)
    wide = ih.threshold_stability(found)
    assert {*names, "spread"} < set(wide.columns)
    section = path.read_text("utf-8").partition("Does a threshold carry over?")[2]
    assert all(f">{name}<" in section for name in names)
    assert "LTHON (HN)" in section
