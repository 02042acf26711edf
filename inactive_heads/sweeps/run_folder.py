"""Run folders, which keep finished units of work so that a killed run can be resumed.

Besides the results that a run writes at its end, the folder holds

- ``run.json``: the settings that determine the results, and their digest;
- ``units/*.unit``: one file per finished unit of work. Its first line is the SHA-256 of the
  rest: a line of JSON, then float32 numbers in the shape that the JSON gives.

Files are written under a temporary name, synced to disk and renamed, so a run may be killed at any
moment.
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

SHOWN = 6
"""The most differing settings that an error message lists."""


@dataclass(frozen=True, eq=False)
class Finished:
    """The results of a finished unit of work.

    Attributes:
        facts: values by name that JSON can represent.
        array: float32 numbers; empty if the unit has none.
    """

    facts: dict[str, Any]
    array: np.ndarray


class RunFolder:
    """The finished units of a run, on disk; from `open_run`.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, unit: str) -> Finished | None:
        """The saved results of a unit.

        A damaged file is removed with a `Notice`, and its unit counts as unfinished.

        Args:
            unit: the unit's name.

        Returns:
            The results; None if the unit is not finished.
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
        """Save the results of a unit.

        Args:
            unit: the unit's name.
            finished: its results.

        Raises:
            UserError: the file cannot be written, for example on a full disk.
        """
        facts = finished.facts | {"array_shape": list(finished.array.shape)}
        numbers = np.ascontiguousarray(finished.array, dtype="<f4").tobytes()
        body = json.dumps(facts).encode() + b"\n" + numbers
        seal = hashlib.sha256(body).hexdigest().encode()
        write_whole(self._path(unit), seal + b"\n" + body)

    @property
    def n_finished(self) -> int:
        """The number of finished units."""
        return len(list((self.folder / UNITS).glob("*.unit")))

    def _path(self, unit: str) -> Path:
        return self.folder / UNITS / f"{file_name(unit)}.unit"


class RunMemory:
    """The finished units of a run that is not saved, in memory."""

    def __init__(self) -> None:
        self._units: dict[str, Finished] = {}

    def read(self, unit: str) -> Finished | None:
        """The results of a unit; None if it is not finished.

        Args:
            unit: the unit's name.
        """
        return self._units.get(unit)

    def write(self, unit: str, finished: Finished) -> None:
        """Keep the results of a unit.

        Args:
            unit: the unit's name.
            finished: its results.
        """
        self._units[unit] = finished


UnitStore = RunFolder | RunMemory
"""Where finished units of work are kept: on disk or in memory."""


@contextmanager
def open_run(out: str | Path, settings: Mapping[str, Any]) -> Iterator[RunFolder]:
    """A context that starts a run in a folder, or resumes the run that is there.

        with open_run("runs/quiz", settings) as run:
            run.n_finished

    The folder is locked while the block runs; a crash releases the lock.

    Args:
        out: the folder; created if it does not exist.
        settings: everything that determines the run's results, in a form that JSON can represent.

    Yields:
        The run's finished units.

    Raises:
        UserError: another process is using the folder, it holds a run with other settings (the
            message lists them), ``run.json`` is damaged or was edited, or the folder cannot be
            written.
    """
    folder, own = writable_folder(out), _as_json(settings)
    with _locked(folder):
        if (folder / SETTINGS).exists():
            _check_settings(folder, own)
        else:
            content = {"digest": digest_of(own), "settings": own}
            write_whole(folder / SETTINGS, json.dumps(content, indent=1) + "\n")
        (folder / UNITS).mkdir(exist_ok=True)
        for partial in (folder / UNITS).glob("*.part"):  # left by a killed process
            partial.unlink()
        yield RunFolder(folder)


def finished_in(out: str | Path, settings: Mapping[str, Any]) -> int:
    """The number of units that a run in a folder would find finished; nothing is written.

    Args:
        out: the folder, which may not exist.
        settings: as for `open_run`.

    Returns:
        The number; 0 if the folder holds no run.

    Raises:
        UserError: `open_run` would refuse the folder: it is in use, holds a run with other settings,
            or its ``run.json`` is damaged or was edited.
    """
    folder = Path(out)
    if not (folder / SETTINGS).exists():
        return 0
    with _locked(folder):
        _check_settings(folder, _as_json(settings))
        return RunFolder(folder).n_finished


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another process is working in {str(folder)!r}; wait for it, or give another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return found


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    try:
        content = json.loads(path.read_text("utf-8"))
        before, digest = content["settings"], content["digest"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
    """The settings that differ, one ``name was before, now after`` for each."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted({*before, *now})
        pairs = [(f"{where}.{name}".lstrip("."), before.get(name), now.get(name)) for name in names]
        return [line for name, a, b in pairs for line in _differences(a, b, name)]
    return [] if before == now else [f"{where} was {_short(before)}, now {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"
