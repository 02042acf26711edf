"""Files of texts as editors, exports and half-finished downloads leave them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from helpers.data_sets import line, put, put_hub_cache
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.errors import Notice

SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=ascii)
def test_lines_end_at_line_feeds_only(separator, end, tmp_path):
    texts = [f"one{separator}two", "three", separator + "four" + separator]
    rows = [f'{{"text": "{text}"}}' for text in texts]
    put(tmp_path / "a.jsonl", end.join([*rows, "", " ", ""]))
    put(tmp_path / "b.txt", texts[0])
    assert ih.load_texts(tmp_path / "a.jsonl") == texts
    assert ih.load_texts(tmp_path / "b.txt") == texts[:1]
    escaped = "\n".join(json.dumps({"text": text}) for text in texts)
    assert ih.load_texts(put(tmp_path / "c.jsonl", escaped)) == texts


def zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def as_parquet(rows):
    sink = io.BytesIO()
    pd.DataFrame(rows).to_parquet(sink)
    return sink.getvalue()


def as_csv(rows, delimiter=","):
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["id", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows({"id": index, **row} for index, row in enumerate(rows))
    return sink.getvalue().encode()


TEXTS = ['one, "two"\nthree', "None", "NA", "1.10", "fünf 😀", "x" * 200_000]
ROWS = [{"text": text} for text in TEXTS]
JSONL = "\n".join(map(line, TEXTS)).encode()
MARK = b"\xef\xbb\xbf"
UNDERSTOOD = {
    "a.jsonl": JSONL,
    "a.JSONL": JSONL,
    "a.ndjson": JSONL + b"\r\n\r\n",
    "mark.jsonl": MARK + JSONL,
    "a.jsonl.gz": gzip.compress(JSONL),
    "two.jsonl.gz": gzip.compress(JSONL[:9]) + gzip.compress(JSONL[9:]),
    "a.jsonl.bz2": bz2.compress(JSONL),
    "a.jsonl.xz": lzma.compress(JSONL),
    "a.jsonl.zst": zst(JSONL),
    "two.jsonl.zst": zst(JSONL[:9]) + zst(JSONL[9:]),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "mark.json": MARK + json.dumps(ROWS).encode(),
    "lines.json": JSONL,
    "a.csv": as_csv(ROWS),
    "mark.csv": MARK + as_csv(ROWS),
    "a.csv.gz": gzip.compress(as_csv(ROWS)),
    "a.tsv": as_csv(ROWS, "\t"),
    "a.parquet": as_parquet(ROWS),
    "a.PARQUET": as_parquet(ROWS),
    "categories.parquet": as_parquet({"text": pd.Categorical(TEXTS)}),
}


@pytest.mark.parametrize(("name", "content"), UNDERSTOOD.items(), ids=UNDERSTOOD)
def test_rows_are_read_to_the_letter(name, content, tmp_path):
    put(tmp_path / "folder" / name, content)
    before = csv.field_size_limit()
    assert ih.load_texts(tmp_path / "folder" / name) == TEXTS
    assert ih.load_texts(tmp_path / "folder") == TEXTS
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\ntwo", "one\ntwo"),
        (MARK + b"one", "one"),
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        (b"\n one \n", "\n one \n"),
    ],
)
def test_a_txt_file_is_one_text(content, expected, tmp_path):
    assert ih.load_texts(put(tmp_path / "a.txt", content)) == [expected]


def broken(name, content, message):
    return pytest.param(name, content, message, id=f"{name}: {content[:30]!r}")


ONE = line("one") + "\n"
REFUSED = [
    broken("a.txt", "ab".encode("utf-16"), r"a\.txt is UTF-16; save it as UTF-8"),
    broken("a.jsonl", line("ab").encode("utf-16"), r"a\.jsonl is UTF-16; save it as UTF-8"),
    broken("a.csv", "text\nab".encode("utf-32"), r"a\.csv is UTF-32; save it as UTF-8"),
    broken("a.txt", "ab\ncd".encode("utf-16-le"), r"line 1 of .*a\.txt has a NUL character"),
    broken("a.txt", b"one\ntwo \xff", r"line 2 of .*a\.txt is not UTF-8 \(byte 0xff\); save"),
    broken("a.jsonl", ONE.encode() + b'{"text": "\xe9"}', "line 2 of .* is not UTF-8 .byte 0xe9"),
    broken("a.csv", "text\n\nfünf".encode("latin-1"), "line 3 of .* is not UTF-8 .byte 0xfc"),
    broken("a.jsonl", ONE + '{"text": "a\0"}', "line 2 of .* has a NUL character"),
    broken("a.txt", "one\n\0\0\0", "line 2 of .* has a NUL character: the file is damaged"),
    broken("a.jsonl", ONE + '{"text": "a \\ud83d b"}', r"line 2 .* has \\ud83d, half of a surr"),
    broken("a.jsonl", ONE + '{"text": "a \\ude00\\ud83d"}', r"line 2 .* has \\ude00, half of a"),
    broken("a.json", '[{"text": "\\udead"}]', r"item 0 of .*text has \\udead, half of a surr"),
    broken("a.txt", "", "a.txt: text is empty"),
    broken("a.txt", " \n", "a.txt: text is empty"),
    broken("a.jsonl", "", "a.jsonl has no texts in it"),
    broken("a.jsonl", "\n \r\n", "a.jsonl has no texts in it"),
    broken("a.json", "[]", "a.json has no texts in it"),
    broken("a.csv", "text\n", "a.csv has no texts in it"),
    broken("a.csv", "", "a.csv has no texts in it"),
    broken("a.jsonl", ONE + "\n" + line(" \u00a0"), "line 3 of .*: text is empty; give a text"),
    broken("a.csv", "text,b\n,1\n", "line 2 of .*: text is empty"),
    *(
        broken(
            "a.jsonl", ONE + f'{{"text": {value}}}', f"line 2 of .*: text is {shown}, not a text"
        )
        for value, shown in [
            ("null", "null"),
            ("3", "3"),
            ("1.5", "1.5"),
            ("NaN", "nan"),
            ("true", r"true or false \(True\)"),
            ('["a"]', "a list .*"),
            ('{"a": 1}', "an object .*"),
        ]
    ),
    broken("a.jsonl", ONE + '{"body": "b"}', "line 2 of .* has no field 'text', but body"),
    broken("a.jsonl", ONE + "{}", "line 2 of .* has no field 'text', but nothing"),
    broken("a.csv", "text;b\na;1\n", "line 2 of .* has no field 'text', but text;b"),
    broken("a.jsonl", ONE + '{"text": "a", "text": "b"}', "line 2 .* 'text' stands twice"),
    broken("a.jsonl", "[1]", "line 1 of .* is not an object but an array"),
    broken("a.jsonl", ONE + '"abc"', "line 2 of .* is not an object but 'abc'"),
    broken("a.json", '["abc"]', "item 0 of .* is not an object but 'abc'"),
    broken("a.jsonl", ONE + "{", "line 2 of .* is not JSON .*; mend it, or remove it"),
    broken("a.jsonl", line("a") + "\r" + line("b"), r"line 1 of .* is not JSON \(Extra data at"),
    broken("a.json", '[{"text": "a"},\n {]', "a.json is not JSON .* at line 2, column 3"),
    broken("a.jsonl", '{"text": ' + "[" * 99_999, "line 1 of .* is not JSON"),
    broken("a.csv", "text,b\none,1,2\n", "line 2 of .* has 3 cells, the header has 2"),
    broken("a.csv", 'text,b\n"a\nb",2\none\n', "line 4 of .* has 1 cells, the header has 2"),
    broken("a.csv", 'text,b\n"one,1\ntwo,2\n', "line 2 of .* is not CSV: .*; see its quotes"),
    broken("a.csv", "text,text\none,two\n", "has two columns 'text'; rename one"),
    broken("a.jsonl.gz", ONE, r"a\.jsonl\.gz cannot be read \(BadGzipFile"),
    broken("a.jsonl.gz", gzip.compress(ONE.encode() * 9, mtime=0)[:-9], "cannot be read .EOFError"),
    broken("a.jsonl.zst", zst(ONE.encode() * 9)[:-9], "cannot be read .OSError: Truncated"),
    broken("a.parquet", b"PAR1", r"a\.parquet cannot be read \(ArrowInvalid.*; get it again"),
    broken("a.arrow", b"ARROW1", r"a\.arrow cannot be read .*; get it again"),
    broken("a.parquet", as_parquet({"text": ["a", None]}), "row 1 of .*: text is null, not a te"),
    broken("a.parquet", as_parquet({"text": [b"a"]}), "row 0 of .*: text is bytes"),
    broken("a.parquet", as_parquet({"body": ["a"]}), "row 0 of .* has no field 'text', but body"),
    broken("a.zip", b"PK", r"a\.zip has none of the endings \.txt, \.jsonl, .*; convert it"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_what_is_no_text_is_refused_with_its_line(name, content, message, tmp_path):
    path = put(tmp_path / name, content)
    with pytest.raises(ih.UserError, match=message) as error:
        ih.load_texts(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 200


def test_two_columns_of_one_name_are_refused(tmp_path):
    parquet.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(ih.UserError, match="has two columns 'text'; rename one of them"):
        ih.load_texts(tmp_path / "a.parquet")


NOT_READ = [
    *(".a.jsonl", "._a.jsonl", "a.jsonl~", "#a.jsonl#", "~$a.csv", "a.jsonl.bak", "a.md"),
    *(".ipynb_checkpoints/a-checkpoint.jsonl", "__MACOSX/a.jsonl", ".cache/huggingface/a.txt"),
    *("README.txt", "README.md", "LICENSE.txt", "dataset_infos.json", "sub/.git/a.txt"),
]


def test_hidden_files_and_descriptions_are_not_read(tmp_path):
    for name in NOT_READ:
        put(tmp_path / ".hidden" / name, "not a text")
    put(tmp_path / ".hidden" / "sub" / "b.txt", "two")
    put(tmp_path / ".hidden" / "a.jsonl", ONE)
    # A folder that is hidden itself is read if it is given.
    assert ih.load_texts(tmp_path / ".hidden") == ["one", "two"]


def test_links_are_followed_once(tmp_path):
    put(tmp_path / "there" / "a.txt", "one")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "there")
    (folder / "again").symlink_to(tmp_path / "there")
    (folder / "circle").symlink_to(folder)
    assert ih.load_texts(folder) == ["one"]
    (folder / "b.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ih.UserError, match="here/b.txt is a link to nowhere"):
        ih.load_texts(folder)
    with pytest.raises(ih.UserError, match="b.txt' is a link to .*nowhere', which is not there"):
        ih.load_texts(folder / "b.txt")


@pytest.mark.parametrize("other", ["copy.csv", "data/a.jsonl", "old/c.parquet"])
def test_texts_in_two_files_are_used_once(other, tmp_path):
    put(tmp_path / "a.jsonl", ONE + ONE + line("two"))  # within a file, twice is meant
    rows = [{"text": text} for text in ("one", "three")]
    content = {"csv": as_csv, "jsonl": lambda rows: "\n".join(map(json.dumps, rows))}
    put(tmp_path / other, content.get(other.rpartition(".")[2], as_parquet)(rows))
    with pytest.warns(Notice, match=rf"has 1 texts in more than one file, .*{other}; each is used"):
        assert ih.load_texts(tmp_path) == ["one", "one", "two", "three"]


def test_missing_shards_are_named(tmp_path):
    put(tmp_path / "train-00001-of-00014.parquet", as_parquet(ROWS))
    with pytest.warns(Notice, match="has 1 of 14 files .*; get train-00000-of-00014 too, if its"):
        assert ih.load_texts(tmp_path) == TEXTS
    assert ih.load_texts(tmp_path / "train-00001-of-00014.parquet") == TEXTS


def test_one_snapshot_of_a_hub_cache_is_read(tmp_path):
    def fill(folder):
        put(folder / "sample" / "000_00000.parquet", as_parquet({"text": [folder.name[0]]}))
        return folder

    cache = put_hub_cache(tmp_path / "datasets--a--b", fill, ("1" * 40, "2" * 40), main="2" * 40)
    assert ih.load_texts(cache) == ih.load_texts(tmp_path) == ["2"]
    assert ih.load_texts(cache / "snapshots" / ("1" * 40)) == ["1"]
    (cache / "refs" / "main").unlink()
    with pytest.raises(ih.UserError, match="2 snapshots and no refs/main .*; give the folder of"):
        ih.load_texts(cache)


@pytest.mark.parametrize("name", ["a[x]b", "a*", "a?", "{a}", "#", "ü 漢 ", "~", "k=v", "s3:"])
def test_a_path_of_texts_is_no_pattern(name, tmp_path):
    put(tmp_path / name / f"{name}.jsonl", ONE)
    put(tmp_path / name / f"{name}.parquet", as_parquet({"text": ["two"]}))
    assert ih.load_texts(tmp_path / name) == ["one", "two"]
    assert ih.load_texts(tmp_path / name / f"{name}.parquet") == ["two"]


def test_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "a.txt", "at home")
    assert ih.load_texts("~/a.txt") == ["at home"]
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "~" / "a.txt", "in a folder of that name")
    assert ih.load_texts("~/a.txt") == ["in a folder of that name"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "'' is not the path of a file"),
        (None, "None is not the path of a file"),
        (["a.txt"], r"\['a.txt'\] is not the path"),
        ("The cat sat on the mat. " * 40, "'The cat sat .* cannot be read: File name too long"),
        ("~nobody-here/a.txt", "'~nobody-here/a.txt' cannot be read"),
        ("a\0b", "cannot be read"),
        ("https://example.org/a.jsonl", "cannot be read: there is no such file or folder; give"),
    ],
)
def test_what_is_no_path_is_refused(source, message):
    with unchecked(), pytest.raises(ih.UserError, match=message) as error:
        ih.load_texts(source)
    assert len(str(error.value)) < 300


def test_a_folder_or_a_pipe_with_the_name_of_a_file(tmp_path):
    put(tmp_path / "x.txt" / "y.txt", "inside")
    assert ih.load_texts(tmp_path / "x.txt") == ["inside"]
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ih.UserError, match="pipe.txt is no regular file; give a file that can"):
        ih.load_texts(tmp_path / "pipe.txt")


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "3"])
def test_the_number_of_texts_is_a_whole_number(n):
    with unchecked(), pytest.raises(ih.UserError, match="the number of texts must be"):
        ih.load_texts(n=n)
