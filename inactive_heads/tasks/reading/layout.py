"""Which files of a data set hold its examples, and which the questions to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.tasks.reading.folder import COMPRESSIONS, data_files, ending_of
from inactive_heads.tasks.reading.rows import ROW_ENDINGS
from inactive_heads.tasks.reading.shards import shard_faults, shard_of

_OTHERS = ("val", "valid", "validation", "train", "auxiliary_train")
SPLITS = {"dev": "dev", "test": "test", **dict.fromkeys(_OTHERS, "other")}
"""What becomes of a split, by its name: examples, questions to ask, or neither, as in MMLU."""


@dataclass(frozen=True)
class SplitFile:
    """A file of questions.

    Attributes:
        file: the file.
        split: "dev", "test" or "other"; None if its name does not say, and its rows have to.
        group: equal for the shards of one table.
        subject: the file's name without its split, which is the subject in MMLU's first layout.
    """

    file: Path
    split: str | None
    group: str
    subject: str

    @staticmethod
    def of(file: Path, folder: Path | None = None) -> SplitFile:
        """The split of a file, by its name or that of the folder it is in.

        Args:
            file: the file, such as test-00000-of-00001.parquet, anatomy_test.csv or test/0000.parquet.
            folder: the data set's folder, whose own name says nothing.
        """
        shard = shard_of(file)
        stem = shard.stem if shard else _stem(file)
        start, *_ = stem.replace("-", "_").split("_")
        before, _, end = stem.replace("-", "_").rpartition("_")
        split = SPLITS.get(stem.lower()) or SPLITS.get(end.lower()) or SPLITS.get(start.lower())
        if split is None and folder not in (None, file.parent):
            split = SPLITS.get(file.parent.name.lower())
        table = "" if stem.isdigit() else f"{stem}-of-{shard.number if shard else 1}"
        group = str(file.parent / f"{table}{ending_of(file)}")
        return SplitFile(file, split, group, before if end.lower() in SPLITS else stem)


def split_files(folder: Path) -> list[SplitFile]:
    """The files of a folder that hold examples or questions to ask.

    Args:
        folder: a copy of a data set, in the layout of the hub (``all/test-00000-of-00001.parquet``),
            of MMLU's first publication (``test/anatomy_test.csv``) or of `save_to_disk`
            (``test/data-00000-of-00001.arrow``), or with one file for each split (``test.jsonl``).

    Returns:
        The files of the split dev, those whose rows have the split, and those of the split test, in
        the order of their paths; but what is in a folder ``all`` comes first.

    Raises:
        UserError: the folder has no such files, or lacks a shard.
    """
    files = [SplitFile.of(file, folder) for file in data_files(folder, ROW_ENDINGS)]
    used = [one for one in files if one.split != "other"]
    if not any(one.split in ("test", None) for one in used):
        names = ", ".join(str(one.file.relative_to(folder)) for one in files)
        raise UserError(
            f"{folder} has no questions of the split test, only {names:.100}; it needs files such as "
            "test-00000-of-00001.parquet, test.jsonl or test/anatomy_test.csv"
        )
    if faults := shard_faults([one.file for one in used]):
        raise UserError(faults[0])
    order = {"dev": 0, None: 1, "test": 2}

    def place(one: SplitFile) -> tuple[int, bool, Path]:
        return order[one.split], "all" not in one.file.relative_to(folder).parts, one.file

    return sorted(used, key=place)


def _stem(file: Path) -> str:
    name = file.name
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).stem
