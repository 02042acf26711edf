"""The bundled texts: what they are, which are chosen, and that results name them."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from importlib.resources import files

import pytest
from helpers.places import ROOT

import inactive_heads as ih
from inactive_heads.tasks.bundled_texts import VERSION, about_texts, bundled_texts, kinds_of

KINDS = ["explanation", "story", "dialogue", "news", "instructions", "code"]
HASHES = {1: "7e3b13b9fdbcd5ebcd53631d5251c3a4e0a05079bb5c9efae81aeed63c250e83"}
"""Each version's SHA-256: a changed text needs a new version, with a line of its own here."""

FILE = files("inactive_heads").joinpath("data/texts.jsonl")
ROWS = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
CODE = {row["id"]: row["text"] for row in ROWS if row["kind"] == "code"}


def kind_counts(texts):
    return Counter(row["kind"] for row in ROWS for text in texts if row["text"] == text)


def test_they_are_enough_and_of_six_kinds_evenly():
    counts = Counter(row["kind"] for row in ROWS)
    assert list(counts) == KINDS
    assert len(set(counts.values())) == 1
    assert len(ROWS) >= 60
    assert all(set(row) == {"id", "kind", "text"} for row in ROWS)
    assert all(row["id"].startswith(f"{row['kind']}-") for row in ROWS)
    assert ih.load_texts() == [row["text"] for row in ROWS]
    assert [(one.id, one.kind) for one in bundled_texts()] == [(r["id"], r["kind"]) for r in ROWS]


def test_none_is_there_twice_and_none_repeats_another():
    assert len({row["id"] for row in ROWS}) == len({row["text"] for row in ROWS}) == len(ROWS)
    found_in = {}
    for row in ROWS:
        words = row["text"].split()
        for place in range(len(words) - 7):
            run = tuple(words[place : place + 8])
            assert found_in.setdefault(run, row["id"]) == row["id"], " ".join(run)


def test_their_lengths_by_the_bundled_models_tokenizer(demo_model):
    lengths = {row["id"]: len(demo_model.encode(row["text"])) for row in ROWS}
    assert {name: n for name, n in lengths.items() if not 150 <= n <= 600} == {}
    assert len(set(lengths.values())) > 40  # they vary


def test_they_are_clean():
    for row in ROWS:
        text = row["text"]
        assert text == text.strip(), row["id"]
        assert all(line == line.rstrip() for line in text.split("\n")), row["id"]
        assert "\r" not in text, row["id"]


@pytest.mark.parametrize("name", [name for name in CODE if name.startswith("code-python")])
def test_the_python_programs_run_and_their_own_checks_pass(name):
    done = subprocess.run([sys.executable, "-c", CODE[name]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_queries_run():
    statements = [one for one in CODE["code-sql-library-loans"].split(";") if one.strip()]
    database = sqlite3.connect(":memory:")
    results = [database.execute(one).fetchall() for one in statements]
    database.close()
    assert results[-2] == [("A Field Guide to Mosses", 1), ("Knots", 2), ("The Tin Harbour", 0)]
    assert results[-1] == [
        ("Amina", "The Tin Harbour", 26),
        ("Jorge", "A Field Guide to Mosses", 2),
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_number_of_them_is_spread_over_the_kinds(seed):
    whole = ih.load_texts(n=len(ROWS), seed=seed)
    assert Counter(whole) == Counter(ih.load_texts())
    for n in (1, 5, 6, 10, 16, 61):
        chosen = ih.load_texts(n=n, seed=seed)
        assert chosen == whole[:n]
        counts = kind_counts(chosen)
        assert sum(counts.values()) == n
        assert len(counts) == min(n, 6)
        assert max(counts.values()) - min(counts[kind] for kind in KINDS) <= 1


def test_the_seed_draws_them_everywhere_alike():
    """Named one by one: no set's order, and no version of Python or numpy, may change them."""
    ids = {row["text"]: row["id"] for row in ROWS}
    assert [ids[text] for text in ih.load_texts(n=8)] == [
        "explanation-sourdough",
        "story-translation",
        "dialogue-two-sisters",
        "news-library-robot",
        "instructions-sourdough-care",
        "code-c-utf8-length",
        "explanation-refrigerator",
        "story-bees-in-the-wall",
    ]
    draws = {tuple(ih.load_texts(n=6, seed=seed)) for seed in range(20)}
    assert len(draws) == 20
    with pytest.raises(ih.UserError, match=f"bundled has {len(ROWS)} texts, 100 were asked for"):
        ih.load_texts(n=100)


def test_the_version_and_the_hash_are_the_files():
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert HASHES[VERSION] == digest, "the texts have changed: give them a new VERSION"
    assert max(HASHES) == VERSION
    about = {"texts": "bundled", "texts_version": VERSION, "texts_sha256": digest}
    assert about_texts("bundled") == about
    assert about_texts("mine.jsonl") == {"texts": "mine.jsonl"}
    task = ih.load_task("text-loss", limit=3, seed=1)
    assert task.about == {**about, "limit": 3, "seed": 1}


def test_a_task_knows_the_kinds_of_whole_bundled_texts():
    task = ih.load_task("text-loss", limit=14)
    assert task.kinds() == (KINDS * 3)[:14]
    assert task.part(4, 9).kinds() == (KINDS * 3)[4:9]
    assert ih.TextTask("t", task.samples).kinds() == task.kinds()
    mixed = ih.TextTask("t", ["mine", task.samples[0], [1, 2]], {"texts": "stories"})
    assert mixed.kinds() == ["stories", "explanation", "stories"]
    assert mixed.part(1, 2).kinds() == ["explanation"]
    assert kinds_of([task.samples[2], "else"], otherwise="t") == ["dialogue", "t"]


def test_kinds_can_be_given_for_any_texts():
    cut = [[1, 2], [3, 4], [5, 6]]
    task = ih.TextTask("t", cut, {"texts": "stories"}, text_kinds=("a", "b", "a"))
    assert task.kinds() == ["a", "b", "a"]
    assert task.part(1, 3).kinds() == ["b", "a"]
    assert task.part(1, 3).start == 1
    assert ih.TextTask("t", cut).kinds() == ["t"] * 3
    with pytest.raises(ih.UserError, match="2 text_kinds were given for 3 samples; give one for"):
        ih.TextTask("t", cut, text_kinds=["a", "b"])
    with pytest.raises(ih.UserError, match="text_kinds is one text, 'abc'; give a list"):
        ih.TextTask("t", cut, text_kinds="abc")


def test_the_wheel_has_the_data_files():
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is missing")
    included = builders.WheelBuilder(str(ROOT)).recurse_included_files()
    names = {file.distribution_path.replace("\\", "/") for file in included}
    assert {
        f"inactive_heads/data/{name}" for name in ("texts.jsonl", "quiz.jsonl", "README.md")
    } <= names
