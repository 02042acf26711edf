"""Files that a crash leaves whole, and names and digests for them."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or all of the new.

    Raises:
        UserError: it cannot be written (a full disk, say); the old content is still there.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(
            f"{str(path)!r} cannot be written: {error.strerror}; what is finished is kept: "
            "mend that and start again with the same settings"
        ) from error


def writable_folder(out: str | Path) -> Path:
    """The folder, made if it was not there.

    Raises:
        UserError: it is a file, or cannot be written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to the folder {str(out)!r}: {error.strerror}") from error
    return folder


def file_name(name: str) -> str:
    """A name for a file or folder that no other name has, whatever characters it is made of."""
    last = name.rpartition("/")[2]
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in last)[:80].lstrip(".")
    return f"{readable}.{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def digest_of(settings: Any) -> str:
    """A digest of anything that JSON can say, the same for equal content."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder last; not all systems let one open a folder."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
