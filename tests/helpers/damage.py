"""Damages whatever people give: bytes of any file, and values of JSON, TOML and CSV."""

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

VALUES = [
    *(None, True, False, "", " ", "x", "1", [], {}, [1.5], [[]], {"x": None}, ["x"] * 3),
    *(0, -1, 1, 3, 1.5, 2**31, 2**63, 10**30, -(10**30), 1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "\u2028", "\x00", "NaN", "../x", "é" * 2000),
]
"""What a value is replaced with: missing, of another type, empty, huge, negative, not a number."""

HEAD = 4096
"""Bytes at the start of a binary file that are damaged as often as all the rest."""


def damage(file: Path, dice: random.Random) -> str:
    """Damage a file in place; returns what was done, in words."""
    by_value = DAMAGES_OF_VALUES.get(file.suffix)
    if by_value is not None and dice.random() < 0.7:
        return by_value(file, dice)
    content = bytearray(file.read_bytes())
    kind = dice.choice(DAMAGES_OF_BYTES)
    words = kind(content, dice)
    file.write_bytes(content)
    return words


def _place(content: bytearray, dice: random.Random) -> int:
    end = len(content) if dice.random() < 0.5 else min(HEAD, len(content))
    return dice.randrange(max(1, end))


def _truncated(content: bytearray, dice: random.Random) -> str:
    keep = _place(content, dice)
    del content[keep:]
    return f"truncated to {keep} bytes"


def _emptied(content: bytearray, dice: random.Random) -> str:
    content.clear()
    return "emptied"


def _flipped(content: bytearray, dice: random.Random) -> str:
    places = [_place(content, dice) for _ in range(dice.choice([1, 1, 2, 8]))]
    for place in places if content else []:
        content[place] = dice.randrange(256)
    return f"bytes replaced at {places}"


def _cut_out(content: bytearray, dice: random.Random) -> str:
    start, n = _place(content, dice), dice.choice([1, 4, 64])
    del content[start : start + n]
    return f"{n} bytes cut out at {start}"


def _inserted(content: bytearray, dice: random.Random) -> str:
    start, extra = _place(content, dice), dice.randbytes(dice.choice([1, 4, 64]))
    content[start:start] = extra
    return f"{len(extra)} bytes inserted at {start}"


def _overwritten(content: bytearray, dice: random.Random) -> str:
    start = _place(content, dice) // 4 * 4
    number = dice.choice([0, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
    content[start : start + 8] = struct.pack("<Q", number)
    return f"{number} written over 8 bytes at {start}"


DAMAGES_OF_BYTES: list[Callable[[bytearray, random.Random], str]] = [
    *(_truncated, _emptied, _flipped, _cut_out, _inserted, _overwritten)
]


def change_value(tree: object, dice: random.Random) -> str:
    """Replace, remove or rename one value somewhere in a tree of lists and dicts, in place."""
    path = []
    while isinstance(tree, dict | list) and tree:
        key = dice.choice(list(tree)) if isinstance(tree, dict) else dice.randrange(len(tree))
        path.append(key)
        inner = tree[key]
        if not (isinstance(inner, dict | list) and inner and dice.random() < 0.8):
            return f"{'.'.join(map(str, path))} {_change(tree, key, dice)}"
        tree = inner
    return "nothing to change"


def _change(owner: dict | list, key: object, dice: random.Random) -> str:
    if dice.random() < 0.15:
        del owner[key]
        return "removed"
    if isinstance(owner, dict) and dice.random() < 0.1:
        owner[f"{key}_"] = owner.pop(key)
        return "renamed"
    value = dice.choice(VALUES)
    if isinstance(owner[key], int | float) and dice.random() < 0.3:
        value = owner[key] * dice.choice([-1, 2, 0.5, 1e6])
    owner[key] = value
    return f"set to {value!r:.40}"


def _json(file: Path, dice: random.Random) -> str:
    tree = json.loads(file.read_text("utf-8"))
    if dice.random() < 0.05:
        file.write_text("[" * 100_000, "utf-8")
        return "100,000 brackets"
    if dice.random() < 0.1:
        value = dice.choice(VALUES)
        file.write_text(json.dumps(value), "utf-8")
        return f"is {value!r:.40}"
    words = change_value(tree, dice)
    file.write_text(json.dumps(tree, ensure_ascii=False), "utf-8")
    return words


def _json_lines(file: Path, dice: random.Random) -> str:
    lines = file.read_text("utf-8").splitlines()
    row = dice.randrange(len(lines))
    value = json.loads(lines[row])
    words = change_value(value, dice)
    lines[row] = json.dumps(dice.choice(VALUES) if dice.random() < 0.1 else value)
    file.write_text("\n".join(lines), "utf-8")
    return f"line {row + 1}: {words}"


def _toml(file: Path, dice: random.Random) -> str:
    lines = file.read_text("utf-8").splitlines()
    row = dice.choice([row for row, line in enumerate(lines) if "=" in line])
    key = lines[row].split("=")[0].strip()
    value = dice.choice(["", "nan", "-inf", "-1", "1e400", str(10**30), '""', "[]", "{}", "true"])
    lines[row] = dice.choice([f"{key} = {value}", f"{key}_ = 1", f"{key} = 'x'", "", f"[{key}]"])
    file.write_text("\n".join(lines), "utf-8")
    return f"line {row + 1}: {lines[row]!r}"


def _csv(file: Path, dice: random.Random) -> str:
    lines = file.read_text("utf-8").splitlines()
    row = dice.randrange(len(lines))
    cells = lines[row].split(",")
    cell = dice.randrange(len(cells))
    cells[cell] = dice.choice(["", "nan", "inf", "-1", "1e308", "x", '"', "NA", "None", "é", "5;6"])
    lines[row] = ",".join(cells)
    file.write_text("\n".join(lines), "utf-8")
    return f"line {row + 1}, cell {cell + 1}: {cells[cell]!r}"


def _safetensors(file: Path, dice: random.Random) -> str:
    """A value of the header, which states every tensor's dtype, shape and place, or a weight."""
    content = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    if dice.random() < 0.3:
        start = 8 + length + dice.randrange((len(content) - 8 - length) // 4) * 4
        number = dice.choice([float("nan"), float("inf"), 1e38, -1e38, 0.0])
        content[start : start + 4] = struct.pack("<f", number)
        file.write_bytes(content)
        return f"the weight at byte {start} set to {number}"
    header = json.loads(content[8 : 8 + length])
    words = change_value(header, dice)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return words


def _text(file: Path, dice: random.Random) -> str:
    text = file.read_text("utf-8")
    strange = dice.choice(["\ufeff", "\x00", "\u2028", "\r", "\x1a", "\u202e", " " * 5000])
    words = re.split(r"( )", text)
    words.insert(dice.randrange(len(words) + 1), strange)
    file.write_text("".join(words), "utf-8")
    return f"{strange!r:.20} inserted"


DAMAGES_OF_VALUES: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".toml": _toml,
    ".csv": _csv,
    ".safetensors": _safetensors,
    ".txt": _text,
}
"""How a value inside a file is damaged, by the file's ending."""
