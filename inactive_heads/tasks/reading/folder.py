"""Which files of a folder are data: hidden files, backups and second snapshots are not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from inactive_heads.errors import Notice, UserError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""The endings of compressed files, after the ending of their content."""

DESCRIPTIONS = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
"""Files that `datasets` and the hub keep beside the data."""

ABOUT = {"readme", "license", "licence"}
"""Names, without the ending, of files about the data."""

UNREAD = {".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".lz4"} | {
    *(".xlsx", ".xls", ".feather", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".sqlite", ".db")
}
"""Endings of files that may hold data, and are not read."""


def given_path(source: str | os.PathLike[str]) -> Path:
    """The file or folder that a user names. Every character stands for itself, but "~/" for home.

    Args:
        source: the path.

    Returns:
        The path, which exists.

    Raises:
        UserError: there is no such file or folder, or it cannot be looked up.
    """
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise UserError(f"{source!r:.60} is not the path of a file or folder")
    path = Path(source)
    try:
        if not path.exists() and path.parts[0].startswith("~"):
            path = path.expanduser()
        if path.exists():
            return path
        if path.is_symlink():
            raise UserError(f"{str(path)!r} is a link to {os.readlink(path)!r}, which is not there")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{str(source)[:80]!r} cannot be read: {reason}") from error
    raise UserError(f"{str(source)!r:.200} cannot be read: there is no such file or folder")


def ending_of(file: Path) -> str:
    """What the content of a file is, by its name.

    Args:
        file: the file.

    Returns:
        Its ending in lower case without that of a compression: ".jsonl" for "a.JSONL.gz".
    """
    name = file.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix or file.suffix.lower()


def data_files(folder: Path, endings: Collection[str]) -> list[Path]:
    """The data files of a folder and all folders below it, links to folders included.

    Left out are what is hidden (a name that starts with "."), backups ("~" at the end), descriptions
    of data sets, README and LICENSE. Of a hub cache folder, only the snapshot is read that
    ``refs/main`` names. A Notice names files that may hold data and are not read, such as archives.

    Args:
        folder: the folder.
        endings: the endings of files to read, in lower case, without compressions.

    Returns:
        The files, in the order of their paths.

    Raises:
        UserError: a folder cannot be read, a link leads nowhere, there are several snapshots and no
            ``refs/main``, or there is no data file.
    """
    if folder.name == "snapshots" and _is_hub_cache(folder.parent):
        folder = folder.parent
    files, unread, scripts = [], [], []
    for file in _files(folder, set()):
        ending = ending_of(file)
        if ending in endings:
            files.append(file)
        elif ending in UNREAD or ending_of(file.with_suffix("")) in UNREAD:
            unread.append(file)
        elif ending == ".py":
            scripts.append(file)
    known = ", ".join(sorted(endings))
    if not files:
        names = [str(file.relative_to(folder)) for file in (*unread, *scripts)]
        why = f"; {', '.join(names[:3])} is not read (nor run)" if names else ""
        raise UserError(f"the folder {folder} has no {known} files{why}")
    if unread:
        names = [str(file.relative_to(folder)) for file in unread]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            f"{', '.join(names[:3])}{more} in {folder} not read; unpack or convert to {known}",
            Notice,
            stacklevel=2,
        )
    return files


def _files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The files below a folder in the order of their paths; a folder with two names is read once."""
    if _is_hub_cache(folder):
        folder = _snapshot(folder)
    try:
        if (real := folder.resolve()) in seen:
            return
        seen.add(real)
        inside = sorted(folder.iterdir())
    except (OSError, RuntimeError) as error:  # before Python 3.13, circles of links are the latter
        raise UserError(f"the folder {folder} cannot be read: {error}") from error
    for path in inside:
        name = path.name
        backup = name.endswith("~") or name.startswith("~$")
        if name.startswith(".") or backup or name in ("__MACOSX", "__pycache__"):
            continue
        if path.is_dir():
            yield from _files(path, seen)
        elif not path.exists():
            raise UserError(f"{path} is a link to nowhere; get the file again, or remove the link")
        # `datasets` keeps the results of `map` and `filter` in files cache-….arrow.
        elif not (
            name in DESCRIPTIONS
            or path.stem.lower() in ABOUT
            or (name.startswith("cache-") and path.suffix == ".arrow")
        ):
            yield path


def _is_hub_cache(folder: Path) -> bool:
    beside = (folder / "refs", folder / "blobs")
    return (folder / "snapshots").is_dir() and any(path.is_dir() for path in beside)


def _snapshot(cache: Path) -> Path:
    snapshots = sorted(path for path in (cache / "snapshots").iterdir() if path.is_dir())
    main = cache / "refs" / "main"
    if main.is_file():
        named = cache / "snapshots" / main.read_text("utf-8").strip()
        if named in snapshots:
            return named
    if len(snapshots) != 1:
        names = ", ".join(path.name for path in snapshots)
        raise UserError(
            f"{cache} has {len(snapshots)} snapshots and no refs/main that names one of them; give "
            f"the folder of one: {names or 'there is none'}"
        )
    return snapshots[0]
