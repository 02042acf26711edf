"""Damages inputs of every kind, seeded, and loads what it made, each in a process of its own.

    python tests/damaged_inputs.py --inputs 1000 --seed 0

Every damaged input has to load, or to be refused in one line.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from helpers.damage import damage
from helpers.inputs import KINDS, model
from helpers.own_process import isolated
from rich.progress import track

import inactive_heads as ih

LONGEST_MESSAGE = 600
SECONDS, MEMORY = 300, 6 * 2**30
"""Beyond these, an input counts as one that hangs or takes the machine's memory."""


@dataclass(frozen=True)
class Outcome:
    """What came of one damaged input: "loads", "refused", or what is wrong with how it failed."""

    kind: str
    seed: int
    words: str
    result: str
    message: str = ""

    @property
    def wrong(self) -> bool:
        return self.result not in ("loads", "refused")


def try_one(kind: str, seed: int) -> Outcome:
    """Damage an input and load it, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix=f"damaged-{kind}-") as folder:
        words = make(kind, seed, Path(folder))
        found = isolated(_load, kind, Path(folder), seconds=SECONDS, memory=MEMORY)
    result, message = (found, "") if isinstance(found, str) else found
    return Outcome(kind, seed, words, result, message)


def make(kind: str, seed: int, folder: Path) -> str:
    """Write a damaged input to a folder; returns what is wrong with it."""
    KINDS[kind].write(folder)
    dice = random.Random(f"{kind} {seed}")
    file = dice.choice([one for one in sorted(folder.glob(KINDS[kind].files)) if one.is_file()])
    return f"{file.relative_to(folder)}: {damage(file, dice)}"


def _load(kind: str, folder: Path) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[kind].load(folder)
        return "loads", ""
    except ih.UserError as error:
        message = str(error)
        one_line = "\n" not in message and len(message) <= LONGEST_MESSAGE
        return "refused" if one_line else "refused at length", message
    except BaseException as error:  # noqa: BLE001  a user would see its traceback
        where = traceback.extract_tb(error.__traceback__)
        own = [
            f"{Path(f.filename).name}:{f.lineno}" for f in where if "inactive_heads" in f.filename
        ]
        return f"{type(error).__name__} at {' '.join(own[-2:])}", str(error)[:300]


def try_many(kinds: list[str], n: int, seed: int, processes: int = 2) -> Iterator[Outcome]:
    """Damage and load ``n`` inputs, as many of each kind, and yield what came of each."""
    model()  # before the processes fork
    with contextlib.ExitStack() as stack:
        for kind in kinds:  # an undamaged input has to load, or the rest shows nothing
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            KINDS[kind].write(folder)
            KINDS[kind].load(folder)
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        asked = [(kinds[i % len(kinds)], seed * n + i // len(kinds)) for i in range(n)]
        yield from pool.map(lambda one: try_one(*one), asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many to damage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, with commas")
    parser.add_argument("--show", action="store_true", help="print every refusal")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that fail")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    found = list(
        track(
            try_many(kinds, options.inputs, options.seed),
            total=options.inputs,
            description="damaged inputs",
            disable=not sys.stdout.isatty(),
        )
    )
    for one in found:
        if one.wrong or options.show:
            print(f"{one.kind} {one.seed} [{one.words}] {one.result}: {one.message}")
        if one.wrong and options.keep:
            folder = options.keep / f"{one.kind}-{one.seed}"
            folder.mkdir(parents=True)
            make(one.kind, one.seed, folder)
    for kind in kinds:
        results = Counter("wrong" if o.wrong else o.result for o in found if o.kind == kind)
        print(f"{kind:20}", dict(sorted(results.items())))
    wrong = sum(one.wrong for one in found)
    print(f"{len(found)} damaged inputs, {wrong} neither loaded nor refused in one line")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
