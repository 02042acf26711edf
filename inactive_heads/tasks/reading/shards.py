"""Tables that are stored in several files: test-00000-of-00002.parquet and so on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# The hub's older files have a digest after the numbers.
_NAME = re.compile(r"(.+)-(\d{5,6})-of-(\d{5,6})(?:-[0-9a-f]{16})?((?:\.\w+)+)")


class Shard(NamedTuple):
    """What a shard's name says.

    Attributes:
        stem: the name before the numbers.
        place: which shard it is, from 0.
        number: how many there are.
        ending: the file's endings.
    """

    stem: str
    place: int
    number: int
    ending: str


def shard_of(file: Path) -> Shard | None:
    """What a file's name says if it is a shard's; otherwise None.

    Args:
        file: the file.
    """
    if (match := _NAME.fullmatch(file.name)) is None:
        return None
    stem, place, number, ending = match.groups()
    return Shard(stem, int(place), int(number), ending)


def shard_faults(files: Sequence[Path]) -> list[str]:
    """What is wrong with tables that are not whole.

    Args:
        files: the files of a data set; those that are no shards are passed over.

    Returns:
        For each table that lacks a shard or has one twice, what is wrong and what to do.
    """
    tables = defaultdict(list)
    for file in files:
        if shard := shard_of(file):
            tables[file.parent, shard.stem, shard.number, shard.ending].append(shard.place)
    faults = []
    for (folder, stem, number, _), found in tables.items():
        whole = f"{folder} has {len(found)} of {number} files {stem}-…-of-{number:05d}"
        if missing := sorted(set(range(number)) - set(found)):
            faults.append(f"{whole}; get {stem}-{missing[0]:05d}-of-{number:05d} too")
        elif len(found) > number:
            faults.append(f"{whole}; remove those of an older version")
    return faults
