"""A folder that a run can be killed in at any moment: finished units stay, half ones are not read.

Beside what a run writes at its end, the folder holds

- ``run.json``: the settings that decide its numbers, and their digest;
- ``units/*.unit``: one file per finished unit of work. Its first line is the SHA-256 of the
  rest: a line of JSON, then float32 numbers of the shape that the JSON says.

Files are written beside their place, synced to the disk and renamed.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from inactive_heads.errors import Notice, UserError
from inactive_heads.files import digest_of, file_name, writable_folder, write_whole

SETTINGS, LOCK, UNITS = "run.json", ".lock", "units"


SHOWN = 6  # differences of settings that an error lists


@dataclass(frozen=True, eq=False)
class Finished:
    """What a finished unit of work gave: facts as JSON has them, and an array of float32."""

    facts: dict[str, Any]
    array: np.ndarray


class RunFolder:
    """The finished units of a run, on disk; made by `open_run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, unit: str) -> Finished | None:
        """What the unit gave, or None where it is not finished.

        A file that is damaged counts as not finished: a `Notice` says so, and it is removed.
        """
        path = self._path(unit)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        seal, _, body = content.partition(b"\n")
        if seal.decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
            warnings.warn(
                f"{path} is damaged (its checksum does not match): that unit is done again",
                Notice,
                stacklevel=2,
            )
            path.unlink()
            return None
        line, _, numbers = body.partition(b"\n")
        facts = json.loads(line)
        shape = facts.pop("array_shape")
        return Finished(facts, np.frombuffer(numbers, dtype="<f4").reshape(shape))

    def write(self, unit: str, finished: Finished) -> None:
        """Keep what the unit gave."""
        facts = finished.facts | {"array_shape": list(finished.array.shape)}
        numbers = np.ascontiguousarray(finished.array, dtype="<f4").tobytes()
        body = json.dumps(facts).encode() + b"\n" + numbers
        seal = hashlib.sha256(body).hexdigest().encode()
        write_whole(self._path(unit), seal + b"\n" + body)

    @property
    def n_finished(self) -> int:
        """How many units are finished."""
        return len(list((self.folder / UNITS).glob("*.unit")))

    def _path(self, unit: str) -> Path:
        return self.folder / UNITS / f"{file_name(unit)}.unit"


class RunMemory:
    """The finished units of a run that is not kept."""

    def __init__(self) -> None:
        self._units: dict[str, Finished] = {}

    def read(self, unit: str) -> Finished | None:
        """What the unit gave, or None where it is not finished."""
        return self._units.get(unit)

    def write(self, unit: str, finished: Finished) -> None:
        """Keep what the unit gave."""
        self._units[unit] = finished


Run = RunFolder | RunMemory


@contextmanager
def open_run(out: str | Path, settings: Mapping[str, Any]) -> Iterator[RunFolder]:
    """The run with these settings in a folder: a new one, or the one that is there, continued.

    The folder is locked while the block runs; a crash releases the lock.

    Args:
        out: the folder; made if it was not there.
        settings: all that decides the run's numbers, as JSON has it.

    Raises:
        UserError: another process works in the folder; a run with other settings is in it (the
            message shows what differs); or it cannot be written.
    """
    folder = writable_folder(out)
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another process is working in {str(out)!r}; wait for it, or give another folder"
        ) from None
    try:
        _check_settings(folder, json.loads(json.dumps(dict(settings))))
        (folder / UNITS).mkdir(exist_ok=True)
        for left in (folder / UNITS).glob("*.part"):  # a write that was killed
            left.unlink()
        yield RunFolder(folder)
    finally:
        lock.release()


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if not path.exists():
        content = {"digest": digest_of(settings), "settings": settings}
        write_whole(path, json.dumps(content, indent=1) + "\n")
        return
    try:
        content = json.loads(path.read_text("utf-8"))
        before, digest = content["settings"], content["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): remove the folder, or give another"
        ) from error
    if digest != digest_of(before):
        raise UserError(f"{path} was changed by hand: remove the folder, or give another")
    if before != settings:
        found = _differences(before, settings)
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"{str(folder)!r} holds a run with other settings: {'; '.join(found[:SHOWN])}{more}. "
            "Give the same settings to continue it, or another folder"
        )


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """What differs, one ``name was before, now after`` each."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted({*before, *now})
        pairs = [(f"{where}.{name}".lstrip("."), before.get(name), now.get(name)) for name in names]
        return [line for name, a, b in pairs for line in _differences(a, b, name)]
    return [] if before == now else [f"{where} was {_short(before)}, now {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"
