"""The scores that a report writes are those of `score_heads`, with all that it says of them."""

import numpy as np
import pytest
import xarray as xr
from helpers.layers_that_differ import MODELS, PRUNED
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.analysis.heads.per_input import cache_shares
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.report.build import build_reports
from inactive_heads.report.from_files import read_scores
from inactive_heads.report.options import ReportOptions
from inactive_heads.report.text_groups import scores_by_kind
from inactive_heads.scores.paper import get_scores
from inactive_heads.specs import ModelSpec, TaskSpec, TextsSpec
from inactive_heads.sweeps.grid import make_grid
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.local_executor import InProcess
from inactive_heads.sweeps.run_folder import RunMemory
from inactive_heads.sweeps.sweep import run_sweep

TEXTS = ["the cat sat on a mat", "a dog ran far and the cat sat"]
BY_LAYER = ("n_heads", "n_key_value_heads", "d_head")


def assert_says_the_same(own: xr.DataArray, expected: xr.DataArray):
    """All attributes and coordinates; a report adds where its texts are from."""
    beside = {"texts", "created"}
    said, should = (
        {k: v for k, v in one.attrs.items() if k not in beside} for one in (own, expected)
    )
    assert said == should
    assert set(own.coords) == set(expected.coords)
    for name in expected.coords:
        np.testing.assert_array_equal(own[name], expected[name])
    np.testing.assert_array_equal(own, expected)
    assert own.dtype == expected.dtype


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A folder with a model whose four query heads share two key/value heads."""
    place = tmp_path_factory.mktemp("grouped")
    return save_folder(place / "llama", tiny_llama(vocab_size=len(WORDS)), word_tokenizer())


@pytest.mark.parametrize("task", ["text-loss", "quiz"])
def test_a_report_writes_what_score_heads_returns(grouped, tmp_path, task):
    """With text loss the scores are those of its sweep, otherwise they have a run of their own."""
    (tmp_path / "texts.csv").write_text("\n".join(["text", *TEXTS]))
    (tmp_path / "quiz.csv").write_text(QUIZ)
    data = tmp_path / "quiz.csv" if task == "quiz" else None
    asked = ReportOptions(
        model=ModelSpec(str(grouped)),
        out=str(tmp_path / "out"),
        texts=TextsSpec(str(tmp_path / "texts.csv")),
        tasks=[TaskSpec(task, data)],
        scores=["AHON (LN)", "Random"],
        percents=[30],
    )
    build_reports([asked], asked.out)
    own = read_scores(tmp_path / "out" / "scores.nc")
    names = [*ih.PAPER_SCORES, "RON"]
    expected = ih.score_heads(ih.load_model(grouped), TEXTS, scores=names, progress=False)
    assert expected.attrs["n_key_value_heads"] == 2
    assert_says_the_same(own, expected)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "KV cache" in page


QUIZ = "id,subject,split,question,choices,answer\n" + "".join(
    f'{n},cats,test,the cat {n},"[""sat"", ""ran"", ""on"", ""mat""]",{n % 4}\n' for n in range(4)
)


def test_scores_of_a_sweep_know_the_sizes_of_layers_that_differ():
    engine = FlashEngine(MODELS["pruned llama"].make(), "pruned")
    about = {"model": "pruned", "dtype": "float32", "device": "cpu", "revision": "-"}
    model = ih.Model(engine, None, about, list)
    task = ih.TextTask("texts", [[1, 2, 3, 4], [9, 8, 7, 6, 5, 4]])
    names = ["AHON (LN)", "AWFT"]
    prepared = PreparedTask.of(model, task)
    job = Job(model, {"texts": prepared}, {one.name: one for one in get_scores(names)})
    grid = make_grid(model, scores=names, percents=[40], mode="per-input")
    found = run_sweep(job, "texts", grid, RunMemory(), InProcess(), progress=False)
    expected = ih.score_heads(model, task.samples, scores=names, progress=False)
    assert found.scores is not None
    assert_says_the_same(found.scores, expected)
    assert "n_key_value_heads" not in expected.attrs
    numbers = [n for _, n in PRUNED]
    assert found.scores["n_key_value_heads"].to_numpy().tolist() == numbers
    grouped = scores_by_kind([prepared], [found], names)
    inactive = ih.inactive_heads(grouped, ih.choose_thresholds(expected, [40]))
    for name in BY_LAYER:
        assert (name in grouped.coords) == (name in expected.coords)
    shares = cache_shares(inactive.squeeze("percent"))
    assert set(shares["score"]) == set(names)
