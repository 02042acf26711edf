"""Copies of MMLU as people have them: every question is asked once, or one line says why not."""

import shutil
import sys

import datasets
import pytest
from helpers.data_sets import (
    QUESTION,
    SUBJECTS,
    put,
    put_first_mmlu,
    put_hub_cache,
    put_mmlu,
    put_rows,
    questions,
)

import inactive_heads as ih
from inactive_heads.errors import Notice

EXPECTED = [(subject, row) for subject in SUBJECTS for row in questions(subject, "test")]


def asked(row):
    choices = [f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=True)]
    return "\n".join([row["question"], *choices, "Answer:"])


def prompt(subject, row, shots):
    examples = questions(subject, "dev")[:shots]
    shown = [f"{asked(one)} {'ABCD'[one['answer']]}\n\n" for one in examples]
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return head + "".join(shown) + asked(row)


def check(source, shots=2):
    """The ten questions of `put_mmlu`, with their examples, to the letter."""
    items = ih.load_task("mmlu", data=source, shots=shots).items
    assert len({item.id for item in items}) == len(items)
    found = sorted((item.subject, str(item.context), item.answer) for item in items)
    assert found == sorted(
        (subject, prompt(subject, row, shots), row["answer"]) for subject, row in EXPECTED
    )


def only(*kept):
    def fill(folder):
        put_mmlu(folder)
        for path in list(folder.iterdir()):
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path)
        return folder

    return fill


def beside_each_other(folder):
    """Parquet and .csv of the same split, and the same again in data/."""
    for split in ("dev", "test"):
        rows = [row for subject in SUBJECTS for row in questions(subject, split)]
        for name in (f"{split}.parquet", f"{split}.csv", f"data/{split}-00000-of-00001.parquet"):
            put_rows(folder / name, rows)
    return folder


def in_shards(folder):
    put_rows(folder / "dev.jsonl", [row for one in SUBJECTS for row in questions(one, "dev")])
    for shard, subject in enumerate(SUBJECTS):
        name = f"test-0000{shard}-of-00002-0123456789abcde{shard}.parquet"
        put_rows(folder / name, questions(subject, "test"))
    put_rows(folder / "train-00001-of-00007.parquet", questions("a", "train"))
    return folder


def converted(folder):
    """The layout of the hub's branch refs/convert/parquet."""
    for split in ("dev", "test", "validation"):
        for number, subject in enumerate(SUBJECTS):
            rows = questions(subject, split)
            put_rows(folder / "all" / split / f"000{number}.parquet", rows)
    return folder


def saved_to_disk(folder):
    splits = {
        split: datasets.Dataset.from_list([r for one in SUBJECTS for r in questions(one, split)])
        for split in ("dev", "test", "validation")
    }
    datasets.disable_progress_bars()
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return folder


def hidden_copies(folder):
    put_mmlu(folder)
    for name in (".cache/huggingface/download/all", ".ipynb_checkpoints", "__MACOSX/all"):
        put_rows(folder / name / "test-00000-of-00001.parquet", questions("anatomy", "hidden"))
    put(folder / "all" / "._test-00000-of-00001.parquet", "Mac")
    return folder


def cache(**options):
    return lambda folder: put_hub_cache(folder / "datasets--cais--mmlu", put_mmlu, **options)


LAYOUTS = {
    "all and subjects": put_mmlu,
    "as .csv": lambda folder: put_mmlu(folder, ".csv"),
    "as .jsonl": lambda folder: put_mmlu(folder, ".jsonl"),
    "all alone": only("all"),
    "subjects alone": only(*SUBJECTS),
    "beside each other": beside_each_other,
    "shards": in_shards,
    "converted": converted,
    "save_to_disk": saved_to_disk,
    "hidden copies": hidden_copies,
    "first published": put_first_mmlu,
    "first published, in data": lambda folder: put_first_mmlu(folder / "data").parent,
    "hub cache": cache(),
    "hub cache, two snapshots": cache(revisions=("1" * 40, "2" * 40)),
    "hub cache, no refs": cache(main=None),
    "snapshots": lambda folder: cache(revisions=("1" * 40, "2" * 40))(folder) / "snapshots",
    "whole hub cache": lambda folder: cache()(folder).parent,
    "one folder twice": lambda folder: (
        (put_mmlu(folder / "a") and (folder / "b").symlink_to(folder / "a")) or folder
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_question_is_asked_once(layout, tmp_path):
    check(layout(tmp_path / "data"))


NAMES = ["a[b]", "a*", "what?", "{x,y}", "#1 ü 漢", "~", "a=b", "%20", "-x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_no_pattern(name, tmp_path, monkeypatch):
    put_rows(tmp_path / "a" / "test.parquet", [QUESTION])  # what some of them would match
    put_mmlu(tmp_path / name)
    check(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    check(name if name != "~" else "./~")


def test_local_data_need_no_library_with_a_cache(tmp_path, monkeypatch):
    put_mmlu(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    check(tmp_path)
    check(tmp_path / "all", shots=5)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_single_file(ending, tmp_path):
    file = put_mmlu(tmp_path, ending) / "all" / f"test-00000-of-00001{ending}"
    check(file, shots=0)
    with pytest.raises(ih.UserError, match="1 shots were asked for, subject 'anatomy' has 0 exam"):
        ih.load_task("mmlu", data=file, shots=1)
    dev = file.with_name(f"dev-00000-of-00001{ending}")
    with pytest.raises(
        ih.UserError, match="no question of the split test, but 10 rows of the .* d"
    ):
        ih.load_task("mmlu", data=dev, shots=0)


def test_ids_are_the_same_with_and_without_copies(tmp_path):
    put_mmlu(tmp_path)
    whole, alone = (ih.load_task("mmlu", data=path) for path in (tmp_path, tmp_path / "all"))
    assert whole.items == alone.items
    assert [item.id for item in whole.items][:6] == [
        *(f"anatomy-test-{n}" for n in range(10, 15)),
        "virology-test-15",
    ]


def test_published_questions_that_stand_twice_in_one_file_stay(tmp_path):
    rows = [*questions("anatomy", "test"), *questions("anatomy", "test", range(2))]
    for folder in ("all", "anatomy"):
        put_rows(tmp_path / folder / "test-00000-of-00001.parquet", rows)
    assert len(ih.load_task("mmlu", data=tmp_path, shots=0).items) == 7


def other_version(folder):
    put_rows(folder / "v1" / "test.parquet", questions("anatomy", "test"))
    put_rows(folder / "v2" / "test.parquet", questions("anatomy", "test", range(1, 6)))


def other_answers(folder):
    rows = questions("anatomy", "test")
    put_rows(folder / "v1" / "test.parquet", rows)
    put_rows(folder / "v2" / "test.jsonl", [{**row, "answer": 3} for row in rows])


def part_of_it(folder):
    put_mmlu(folder)
    put_rows(folder / "few" / "test.csv", questions("anatomy", "test", range(2)))


def shard(*names):
    def fill(folder):
        for name in names:
            put_rows(folder / f"{name}.parquet", questions("anatomy", name))

    return fill


def broken_link(folder):
    put_mmlu(folder)
    (folder / "all" / "test-00001-of-00002.parquet").symlink_to(folder / "blobs" / "gone")


def script(folder):
    put(folder / "mmlu.py", "raise RuntimeError('run')")
    put(folder / "data.tar", "")


def two_revisions(**options):
    return lambda folder: put_hub_cache(folder, put_mmlu, ("1" * 40, "2" * 40), **options)


def no_subject(folder):
    put_rows(folder / "test.csv", [{"question": "?", "A": 1, "B": 2, "C": 3, "D": 4, "answer": 0}])


def six_cells(folder):
    put(folder / "data.csv", "Q?,1,2,3,4,A\n")


REFUSED = {
    "two versions": (other_version, "questions of 'anatomy' from row 0 of .*v1.* partly the same"),
    "other answers": (other_answers, "questions of 'anatomy' from row 0 of .*v1.* partly the same"),
    "a part": (part_of_it, r"from line 2 of .*few/test\.csv on are partly the same; give the f"),
    "a missing shard": (
        shard("test-00000-of-00002"),
        "has 1 of 2 files .*; get test-00001-of-00002",
    ),
    "a missing example": (
        shard("test", "dev-00001-of-00003"),
        "has 1 of 3 files .*; get dev-00000-of-00003 too",
    ),
    "a shard twice": (
        shard("test-00000-of-00001", f"test-00000-of-00001-{'ab' * 8}"),
        "has 2 of 1 files .*; remove those of an older version",
    ),
    "no test": (shard("dev", "validation"), "no questions of the split test, only dev.*validation"),
    "no split": (
        shard("questions"),
        r"row 0 of .*questions\.parquet lacks split; it needs subject",
    ),
    "no data": (lambda folder: put(folder / "README.md", ""), "has no .*parquet.* files$"),
    "a script": (script, r"has no .* files; data\.tar, mmlu\.py is not read \(nor run\)"),
    "a broken link": (broken_link, r"test-00001-of-00002\.parquet is a link to nowhere; get the"),
    "two snapshots": (two_revisions(main=None), "2 snapshots and no refs/main .*: 1111.*, 2222"),
    "an unknown revision": (two_revisions(main="3" * 40), "2 snapshots and no refs/main"),
    "no subject": (no_subject, r"line 2 of .*test\.csv lacks subject; it needs subject, split"),
    "no header": (six_cells, r"line 1 of .*data\.csv is neither a header .*; give a header"),
    "nothing": (lambda folder: None, "cannot be read: there is no such file or folder"),
}


@pytest.mark.parametrize(("fill", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_clear_is_refused_in_one_line(fill, message, tmp_path):
    fill(tmp_path / "data")
    with pytest.raises(ih.UserError, match=message) as error:
        ih.load_task("mmlu", data=tmp_path / "data", shots=0)
    assert "\n" not in str(error.value)


def test_archives_are_named(tmp_path):
    put_mmlu(tmp_path)
    put(tmp_path / "data.tar.gz", "")
    with pytest.warns(Notice, match=r"^data\.tar\.gz in .* not read; unpack or convert to"):
        check(tmp_path)


def test_a_folder_of_ones_own_questions(tmp_path):
    put_rows(tmp_path / "test.csv", questions("knots", "test"))
    put_rows(tmp_path / "dev.jsonl", questions("knots", "dev"))
    task = ih.load_task("quiz", data=tmp_path, shots=1)
    assert [item.answer for item in task.items] == [0, 1, 2, 3, 0]
    assert task.items[1].continuations == (" w1, or", " x1, or", " y1, or", " z1, or")
    assert 'dev of knots, "0"?\nAnswer: w0, or\n' in task.items[0].context
