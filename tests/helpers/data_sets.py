"""Data sets on disk: texts, and questions in the layouts in which MMLU is found."""

import json
from pathlib import Path

import pandas as pd

QUESTION = {
    "subject": "s",
    "split": "test",
    "question": "Which of these purrs?",
    "choices": ["fish", "bird", "cat", "snail"],
    "answer": 2,
}


def line(text: str) -> str:
    """A row of a .jsonl file of texts."""
    return json.dumps({"text": text}, ensure_ascii=False)


def put(path: Path, content: str | bytes) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def questions(subject: str, split: str, numbers: range = range(5)) -> list[dict]:
    """Rows as the hub's MMLU has them; each is told by its subject, split and number."""
    return [
        {
            "question": f'{split} of {subject}, "{number}"?',
            "subject": subject,
            "choices": [f"{letter}{number}, or" for letter in "wxyz"],
            "answer": number % 4,
        }
        for number in numbers
    ]


def put_rows(path: Path, rows: list[dict]) -> Path:
    """Rows as a file of the kind that the path's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    return path


SUBJECTS = ("anatomy", "virology")


def put_mmlu(folder: Path, ending: str = ".parquet") -> Path:
    """A whole download of the hub's MMLU: 5 examples and 5 questions of two subjects, each twice."""
    for split in ("dev", "test", "validation"):
        name = f"{split}-00000-of-00001{ending}"
        put_rows(folder / "all" / name, [row for one in SUBJECTS for row in questions(one, split)])
        for subject in SUBJECTS:
            put_rows(folder / subject / name, questions(subject, split))
    train = questions("", "train", range(9))
    put_rows(folder / "all" / f"auxiliary_train-00000-of-00001{ending}", train)
    put_rows(folder / "auxiliary_train" / f"train-00000-of-00001{ending}", train)
    for name in ("README.md", ".gitattributes", "dataset_infos.json"):
        put(folder / name, "{}")
    return folder


def put_first_mmlu(folder: Path) -> Path:
    """The same as MMLU was published first: folders of .csv files without headers."""
    for split, name in (("dev", "dev"), ("test", "test"), ("validation", "val")):
        for subject in SUBJECTS:
            rows = [
                [row["question"], *row["choices"], "ABCD"[row["answer"]]]
                for row in questions(subject, split)
            ]
            path = put(folder / name / f"{subject}_{name}.csv", "")
            pd.DataFrame(rows).to_csv(path, index=False, header=False)
    put(folder / "auxiliary_train" / "law_90s.csv", "Q?,1,2,3,4,A\n")
    for name in ("README.txt", "possibly_contaminated_urls.txt"):
        put(folder / name, "Not a question.")
    return folder


def put_hub_cache(folder: Path, fill, revisions=("1" * 40,), main: str | None = "1" * 40) -> Path:
    """A folder of the hub's cache: snapshots of links to blobs, and the revision of main."""
    for revision in revisions:
        snapshot = fill(folder / "snapshots" / revision)
        for file in sorted(path for path in snapshot.rglob("*") if path.is_file()):
            blob = folder / "blobs" / f"{revision[:4]}{abs(hash(file)):x}"
            blob.parent.mkdir(exist_ok=True)
            file.rename(blob)
            file.symlink_to(blob)
    if main is not None:
        put(folder / "refs" / "main", main)
    return folder
