"""lm-evaluation-harness with our model, against its own ``hf`` model and our own evaluation."""

import json
import logging
from functools import partial

import numpy as np
import pytest
import torch
from helpers.harness_files import QUESTIONS, task_folder
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked
from typer.testing import CliRunner

import inactive_heads as ih

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from inactive_heads.ablation.generation import generate
from inactive_heads.cli.app import app
from inactive_heads.evaluation.lm_eval_model import HarnessModel

CHAT = (
    "{% for m in messages %}the {{ m['role'] }} mat {{ m['content'] }} </s>{% endfor %}"
    "{% if add_generation_prompt %}the assistant mat {% endif %}"
)
EVERY = ["words", "letters", "gaps", "last", "said", "story"]
SCORE, PERCENT = "AHON (LN)", 20


@pytest.fixture(autouse=True)
def no_survey(monkeypatch):
    """The harness lists what is installed here after every run, which takes seconds."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return task_folder(tmp_path_factory.mktemp("harness") / "tasks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = word_tokenizer(words=[*WORDS, *(f"w{i}" for i in range(97 - len(WORDS)))])
    tokenizer.chat_template = CHAT
    network = tiny_llama(max_position_embeddings=96)
    return save_folder(tmp_path_factory.mktemp("model"), network, tokenizer)


@pytest.fixture(scope="module")
def model(folder):
    return ih.load_model(folder)


@pytest.fixture(scope="module")
def cut(model, tasks):
    """A threshold that zeroes about a fifth of the heads."""
    found = ih.sweep(
        model, ih.load_task("lm-eval:words", data=tasks), scores=[SCORE], percents=[PERCENT]
    )
    return float(found["threshold"].iloc[-1])


def run_harness(model, tasks, names, **options):
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(
        model, tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True, **options
    )


def said(lm, tasks, **settings):
    """What a generation task got."""
    return run_harness(lm, tasks, ["said"], gen_kwargs=settings)["samples"]["said"]


def test_without_zeroing_it_is_the_harness_own_model(folder, tasks):
    hf = HFLM(pretrained=str(folder), batch_size=4, device="cpu", dtype="float32")
    theirs = run_harness(hf, tasks, EVERY)
    ours = run_harness(HarnessModel(folder), tasks, EVERY)
    for name in EVERY:
        for one, other in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            assert one["arguments"] == other["arguments"]
            if name == "said":
                assert one["resps"] == other["resps"]
                continue
            found, expected = np.array(one["resps"]).T, np.array(other["resps"]).T
            np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
            assert np.array_equal(found[1:], expected[1:])  # whether it is greedy
        own, known = (
            {key: value for key, value in found["results"][name].items() if "," in key}
            for found in (ours, theirs)
        )
        assert own.keys() == known.keys()
        for metric, value in known.items():
            assert own[metric] == (value if value == "N/A" else pytest.approx(value, rel=1e-5))
    assert ours["config"]["percent_zeroed"] == dict.fromkeys(EVERY, 0.0)


@pytest.fixture
def command_line(tasks, folder, tmp_path, monkeypatch):
    """Runs the harness's command line on the folder's tasks, as `inactive-heads lm-eval` does."""
    # Its own 14,000 take ten seconds to list.
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))

    def run(names, model_args, *options):
        asked = ["lm-eval", "run", "--model", "inactive-heads", "--tasks", names]
        asked += ["--model_args", f"pretrained={folder},{model_args}"]
        asked += ["--include_path", str(tasks), "--output_path", str(tmp_path), *options]
        return CliRunner().invoke(app, asked)

    yield run
    logging.getLogger("lm_eval").handlers.clear()  # they write to what was captured here


def test_the_command_line_zeroes_heads_as_our_sweep_does(model, tasks, cut, tmp_path, command_line):
    score = f"score={SCORE},threshold={cut!r}"
    done = command_line("words,letters,gaps", score, "--batch_size", "auto")
    assert done.exit_code == 0, done.output
    assert "|words " in done.output
    (path,) = tmp_path.rglob("results_*.json")
    found = json.loads(path.read_text())
    for name in ("words", "letters", "gaps"):
        task = ih.load_task(f"lm-eval:{name}", data=tasks, scoring="acc")
        own = ih.evaluate(model, task, ih.PerInput(SCORE, cut))
        assert found["results"][name]["acc,none"] == pytest.approx(own.summary()["accuracy"] / 100)
        assert found["config"]["percent_zeroed"][name] == pytest.approx(own.percent_zeroed)
    sweep = ih.sweep(
        model,
        ih.load_task("lm-eval:words", data=tasks),
        scores=[SCORE],
        percents=[PERCENT],
    ).iloc[-1]
    assert sweep["threshold"] == cut
    assert found["results"]["words"]["acc_norm,none"] == pytest.approx(sweep["accuracy"] / 100)
    assert found["config"]["percent_zeroed"]["words"] == pytest.approx(sweep["percent_zeroed"])
    assert 10 < sweep["percent_zeroed"] < 30
    assert found["config"]["inactive_heads"]["model"] == model.name


@pytest.mark.parametrize("name", ["words", "letters", "gaps"])
@pytest.mark.parametrize("kind", ["random", "heads"])
def test_random_and_fixed_heads(folder, model, tasks, tmp_path, kind, name):
    ablation = ih.Random(0.3, seed=2) if kind == "random" else ih.Fixed([(0, 1), (2, 3)])
    asked = {"random": 30, "seed": 2}
    if kind == "heads":
        ablation.save(tmp_path / "heads.json")
        asked = {"heads": str(tmp_path / "heads.json")}
    found = run_harness(HarnessModel(folder, **asked), tasks, [name])
    own = ih.evaluate(model, ih.load_task(f"lm-eval:{name}", data=tasks, scoring="acc"), ablation)
    ours = np.concatenate(own.items["choice_logprobs"].to_numpy())
    theirs = [
        answer[0] for one in found["samples"][name] for answer in np.array(one["resps"])[:, 0]
    ]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert found["config"]["percent_zeroed"][name] == pytest.approx(own.percent_zeroed)
    assert own.percent_zeroed > 0


@pytest.mark.parametrize("decide", ["every-step", "prompt"])
def test_generation_tasks(folder, model, tasks, cut, decide):
    lm = HarnessModel(folder, score=SCORE, threshold=cut, decide=decide)
    found = run_harness(lm, tasks, ["said"])
    prompts = [one["arguments"][0][0] for one in found["samples"]["said"]]
    own = generate(model, prompts, ih.PerInput(SCORE, cut), decide=decide, max_new_tokens=6)
    texts = model.tokenizer.batch_decode(own.tokens, skip_special_tokens=True)
    assert [one["resps"][0][0] for one in found["samples"]["said"]] == [
        text.split("far")[0] for text in texts
    ]
    if not any("far" in text for text in texts):
        percent = pytest.approx(own.percent_zeroed.mean())
        assert found["config"]["percent_zeroed"]["said"] == percent


def test_what_ends_a_text_and_what_is_sampled(folder, tasks):
    lm = HarnessModel(folder, seed=1)
    greedy = [sample["resps"][0][0] for sample in said(lm, tasks)]
    word = next(text.split()[1] for text in greedy if len(text.split()) > 2)
    ended = [sample["resps"][0][0] for sample in said(lm, tasks, until=[word])]
    cut_short = [text.split(word)[0] for text in greedy]
    assert ended == cut_short != greedy
    sampled = {"do_sample": True, "temperature": 1.5, "top_p": 0.9}
    one, other = (
        [sample["resps"][0][0] for sample in said(lm, tasks, **sampled)]
        for lm in (lm, HarnessModel(folder, seed=1, batch_size=1))
    )
    assert one == other != greedy
    with pytest.raises(ih.UserError, match="cannot generate with num_beams: it takes until"):
        said(lm, tasks, num_beams=4)


@pytest.mark.parametrize("name", ["words", "letters", "gaps"])
def test_prompts_by_a_chat_template(folder, tasks, name):
    found = run_harness(
        HarnessModel(folder),
        tasks,
        [name],
        apply_chat_template=True,
        num_fewshot=2 if name == "words" else None,
    )
    chat = ih.load_model(folder, chat_template="on")
    task = ih.load_task(
        f"lm-eval:{name}", data=tasks, scoring="acc", shots=2 if name == "words" else None
    )
    own = ih.evaluate(chat, task)
    theirs = [
        answer[0] for one in found["samples"][name] for answer in np.array(one["resps"])[:, 0]
    ]
    np.testing.assert_allclose(theirs, np.concatenate(own.items["choice_logprobs"]), atol=1e-4)
    assert "the user mat" in found["samples"][name][0]["arguments"][0][0]


def test_a_batch_that_does_not_fit_is_halved_and_says_so(folder, tasks, cut, monkeypatch):
    from inactive_heads.engines.flash import FlashEngine

    run, run_row = FlashEngine.run, FlashEngine.run_row

    def limited(self, batch, *args):
        if len(batch.rows) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, batch, *args)

    def limited_row(self, row, *args):
        if len(row.tokens) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_row(self, row, *args)

    models = [HarnessModel(folder, score=SCORE, threshold=cut), HarnessModel(folder)]
    expected = [run_harness(model, tasks, ["words"])["results"] for model in models]
    monkeypatch.setattr(FlashEngine, "run", limited)
    with pytest.warns(ih.Notice, match="inputs of .* do not fit in the memory .* going on with"):
        assert run_harness(models[0], tasks, ["words"])["results"] == expected[0]
    monkeypatch.setattr(FlashEngine, "run", run)
    monkeypatch.setattr(FlashEngine, "run_row", limited_row)
    with pytest.warns(ih.Notice, match="begin with alike does not fit .* every input whole"):
        assert run_harness(models[1], tasks, ["words"])["results"] == expected[1]


def test_what_the_model_cannot_do_is_said(folder, tasks):
    with pytest.raises(ih.UserError, match="takes no 'treshold' among its --model_args; it takes"):
        HarnessModel(folder, score=SCORE, treshold=0.4)
    with pytest.raises(ih.UserError, match="score and threshold go together"):
        HarnessModel(folder, score=SCORE)
    with pytest.raises(ih.UserError, match="give one of score, heads and random"):
        HarnessModel(folder, random=10, heads="heads.json")
    wrong = "decide must be every-step or prompt, not 'never'"
    with unchecked(), pytest.raises(ih.UserError, match=wrong):
        HarnessModel(folder, decide="never")
    with pytest.raises(ih.UserError, match="batch_size must be a positive number or"):
        HarnessModel(folder, batch_size="many")
    assert HarnessModel(folder, batch_size="auto:4").batch_size == "auto"
    with pytest.raises(ih.UserError, match="--max_batch_size is not used"):
        HarnessModel(folder, max_batch_size=8)
    lm = HarnessModel(folder)
    long = r"prompt of document 0 of the task words has 1\d\d tokens, the model's context is 96"
    with pytest.raises(ih.UserError, match=long):
        run_harness(lm, tasks, ["words"], system_instruction="the cat " * 60)
    full = "document 0 of the task said has .* up to 95 are to be written .* context is 96"
    with pytest.raises(ih.UserError, match=full):
        said(lm, tasks, max_gen_toks=95)


def test_by_its_name_from_python_and_with_a_cache_of_answers(folder, tasks, cut, tmp_path):
    asked = f"pretrained={folder},score={SCORE},threshold={cut!r},batch_size=3"
    options = {"model_args": asked, "use_cache": str(tmp_path / "answers")}
    first, again = (
        run_harness("inactive-heads", tasks, ["words", "said", "story"], **options)
        for _ in range(2)
    )
    assert first["results"].keys() == again["results"].keys()
    for name, known in first["results"].items():
        # A text that is asked twice is run twice, each in its own place of a batch, and kept once.
        assert again["results"][name] == {
            key: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            for key, value in known.items()
        }
    assert set(first["config"]["percent_zeroed"]) == {"words", "said", "story"}
    assert again["config"]["percent_zeroed"] == {}  # nothing was run


def test_errors_of_the_command_line_are_one_line(command_line):
    done = command_line("words", "a=1")
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if line.startswith("error:")]
    assert "takes no 'a' among its --model_args" in line


def test_the_command_line_shows_what_was_zeroed(command_line, model, tasks, cut):
    done = command_line("said", f"score={SCORE},threshold={cut!r},decide=prompt", "-L", "2")
    assert done.exit_code == 0, done.output
    prompts = [f"{one['ask']}" for one in QUESTIONS[:2]]
    own = generate(model, prompts, ih.PerInput(SCORE, cut), decide="prompt", max_new_tokens=6)
    assert f"heads zeroed: said {own.percent_zeroed.mean():.2f}%" in done.output
