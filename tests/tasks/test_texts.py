import json
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model


@pytest.fixture(scope="module")
def model():
    """A tiny model whose tokens are the bytes of a text, modulo its vocabulary."""
    engine = LensEngine(bridge_of(tiny_llama(), "tiny"))
    return Model(engine, None, {"model": "tiny"}, lambda text: [b % 97 for b in text.encode()])


def test_texts_of_the_hub_are_streamed_in_the_seeds_order(monkeypatch):
    rows = datasets.Dataset.from_dict({"text": [f"text {index}" for index in range(1500)]})
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return rows.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for n, seed in ((3, 0), (5, 7), (None, 7)):
        order = rows.to_iterable_dataset().shuffle(seed=seed, buffer_size=1000)
        expected = [row["text"] for row in order.take(n or 100)]
        assert ih.load_texts("fineweb-edu", n=n, seed=seed) == expected
    place = ("HuggingFaceFW/fineweb-edu", "sample-10BT")
    assert asked == [(place, {"split": "train", "streaming": True})] * 3


def test_files_and_folders(tmp_path):
    (tmp_path / "a.txt").write_text("one text\nof two lines", "utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n{"text": "three <b>"}\n', "utf-8")
    pd.DataFrame({"text": ["four", "fünf"]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "ignored.md").write_text("no")
    expected = ["one text\nof two lines", "two", "three <b>", "four", "fünf"]
    assert ih.load_texts(tmp_path) == expected
    assert ih.load_texts(tmp_path / "b.jsonl", n=2) in (expected[1:3], expected[2:0:-1])
    with pytest.raises(ih.UserError, match="has 2 texts, 3 were asked for"):
        ih.load_texts(tmp_path / "b.jsonl", n=3)


def test_other_refusals(tmp_path):
    pd.DataFrame({"body": ["x"]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ih.UserError, match="row 0 of .*c.parquet has no field 'text', but"):
        ih.load_texts(tmp_path / "c.parquet")
    with pytest.raises(ih.UserError, match="no texts: 'nowhere' .*fineweb-edu"):
        ih.load_texts("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ih.UserError, match="empty has no .*.jsonl.* files"):
        ih.load_texts(tmp_path / "empty")
    with pytest.raises(ih.UserError, match="at least 1, not 0"):
        ih.load_texts(n=0)
    with pytest.raises(ih.UserError, match="fineweb-edu could not be streamed"):
        ih.load_texts("fineweb-edu")


def test_cutting_is_at_random_seeded_and_within_its_bounds(model):
    texts = [json.dumps(list(range(n))) for n in (9, 20, 400)]
    cut = ih.cut_at_random(model, texts, shortest=5, longest=40, seed=1)
    assert cut == ih.cut_at_random(model, texts, shortest=5, longest=40, seed=1)
    assert all(5 <= len(tokens) <= 40 for tokens in cut)
    assert all(
        tokens == model.encode(text)[: len(tokens)] for tokens, text in zip(cut, texts, strict=True)
    )
    lengths = {len(ih.cut_at_random(model, texts[2:], seed=seed)[0]) for seed in range(40)}
    assert min(lengths) >= 10
    assert max(lengths) <= model.shape.n_ctx
    assert len(lengths) > 10
    with pytest.raises(ih.UserError, match="text 0 has 2 tokens, fewer than 10"):
        ih.cut_at_random(model, ["ab"])


def test_cutting_reaches_its_bounds(model):
    text = list(range(6))
    lengths = {
        len(ih.cut_at_random(model, [text], shortest=4, longest=9, seed=s)[0]) for s in range(40)
    }
    assert lengths == {4, 5, 6}
    assert ih.cut_at_random(model, [text], shortest=6, longest=6) == [text]
    assert ih.cut_at_random(model, [text], shortest=1, longest=1) == [[0]]
    assert len(ih.cut_at_random(model, [[1] * 70], shortest=64, longest=70)[0]) == 64
    for shortest, longest in ((0, 5), (6, 5)):
        with pytest.raises(ih.UserError, match=f"between {shortest} and {longest} tokens"):
            ih.cut_at_random(model, [text], shortest=shortest, longest=longest)


def test_lengths_are_drawn_as_in_the_paper():
    model = SimpleNamespace(shape=SimpleNamespace(n_ctx=10**6))
    texts = [[7] * 5000, [7] * 12, [7] * 5000]
    for seed in (None, 0, 3):
        with unchecked():
            options = {} if seed is None else {"seed": seed}
            cut = ih.cut_at_random(model, texts, **options)
        draw = np.random.default_rng(seed or 0)
        assert [len(tokens) for tokens in cut] == [
            draw.integers(10, most + 1) for most in (3000, 12, 3000)
        ]


def test_a_fixed_length_keeps_the_first_tokens(model):
    assert ih.cut_to(model, [[5, 6, 7], [8]], 2) == [[5, 6], [8]]
    assert ih.cut_to(model, [[5, 6, 7], [8]], 1) == [[5], [8]]
    with pytest.raises(ih.UserError, match="cut to at least 1 token, not 0"):
        ih.cut_to(model, [[5, 6, 7]], 0)


def test_nothing_is_cut_unless_asked(model):
    with pytest.raises(ih.UserError, match="sample 1 has 70 tokens, the model's context is 64"):
        ih.cut_to(model, ["ab", "x" * 70], None)
    assert [len(tokens) for tokens in ih.cut_to(model, ["ab", "x" * 70], 30)] == [2, 30]
