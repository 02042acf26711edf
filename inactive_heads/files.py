"""Atomic file writes, UTF-8 text, safe file names and content digests."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader, or a crash, finds all of the old content or of the new.

    Args:
        path: the file; its folder must exist. ``path`` + ".part" is used in between.
        content: text is encoded as UTF-8.

    Raises:
        UserError: the file cannot be written, for example on a full disk. The old content stays.
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


def decoded_text(content: bytes, name: str) -> str:
    """The text of a file's content in UTF-8, without a byte order mark. Line ends stay as they are.

    Args:
        content: the file's bytes.
        name: the file's name, used in error messages.

    Returns:
        The text.

    Raises:
        UserError: it is UTF-16 or UTF-32, has bytes that are not UTF-8, or has a NUL character; the
            message names the encoding or the line.
    """
    for mark, encoding in _OTHER_MARKS:
        if content.startswith(mark):
            raise UserError(f"{name} is {encoding}; save it as UTF-8")
    try:
        text = content.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"line {line} of {name} is not UTF-8 (byte 0x{content[error.start]:02x}); "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(
            f"line {line} of {name} has a NUL character: the file is damaged, or not UTF-8; get it "
            "again, or save it as UTF-8"
        )
    return text


_OTHER_MARKS = (  # UTF-32's little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def writable_folder(out: str | Path) -> Path:
    """A folder to write to, created with its parents if it does not exist.

    Args:
        out: the folder's path.

    Returns:
        The same path.

    Raises:
        UserError: it is a file, or cannot be written to.
    """
    folder = Path(out)
    with _refused(out):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    return folder


def check_writable(out: str | Path) -> None:
    """Check that a folder can be written to or created, and leave it as it is.

    Args:
        out: the folder's path.

    Raises:
        UserError: the path or one above it is a file, or is not writable.
    """
    folder = Path(out)
    with _refused(out):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _refused(out: str | Path) -> Iterator[None]:
    """A context in which an error of the system is about the folder ``out``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to the folder {str(out)!r}: {error.strerror}") from error


def existing_file(path: str | Path, what: str) -> Path:
    """A file that a user names.

    Args:
        path: the file's path.
        what: what it should hold, used in the error message.

    Returns:
        The path.

    Raises:
        UserError: there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"there is no file of {what} at {str(path)!r}")
    return file


def file_name(name: str) -> str:
    """A valid name for a file or folder, unique to any text.

        file_name("org/AHON (LN)")  # 'AHON__LN_.' and 12 hex digits

    Args:
        name: any text, such as a model's or a score's name.

    Returns:
        The part after the last "/" with anything but letters, digits, "-" and "." replaced by "_",
        cut to 80 characters, then "." and 12 hex digits of the whole text's SHA-256.
    """
    last = name.rpartition("/")[2]
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in last)[:80].lstrip(".")
    return f"{readable}.{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def digest_of(settings: Any) -> str:
    """A digest that is equal for equal content, regardless of the order of keys.

    Args:
        settings: anything that `json.dumps` takes.

    Returns:
        16 hex digits of the SHA-256 of its JSON.

    Raises:
        TypeError: JSON cannot represent it.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    """Flush a rename in the folder to disk. Not all systems allow opening a folder."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
