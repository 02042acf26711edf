"""Every architecture of transformers' causal-LM mapping by both engines, each in a process of its own.

    python tests/architectures.py                 # a few minutes; writes docs/architectures.md
    python tests/architectures.py --only qwen3_next,gemma4_text --show

Each is a tiny model with random weights. Everything that an engine shows of it has to be right, or
refused with a reason. docs/architectures.md says what is checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
import transformers
from helpers.architecture_checks import CRASHED, ENGINES, WRONG, Build, Outcome, check
from helpers.architecture_table import PAGE, write
from helpers.own_process import isolated
from helpers.tiny_architectures import architectures, tiny_architecture
from helpers.tiny_presets import preset_models, tiny_preset
from rich.progress import track

SECONDS, MEMORY = 240, 6 * 2**30
"""Beyond these, an architecture counts as one that hangs or takes the machine's memory."""


def try_one(name: str, engine: str, build: Build) -> Outcome:
    """Check an architecture by an engine, in a process of its own."""
    found = isolated(check, name, engine, build, seconds=SECONDS, memory=MEMORY)
    return found if isinstance(found, Outcome) else Outcome(name, engine, crashed=f"it {found}")


def try_many(asked: list[tuple[str, Build]], processes: int = 2) -> Iterator[Outcome]:
    """Check architectures by every engine, and yield what came of each."""
    with ThreadPoolExecutor(processes) as pool:
        both = [(name, engine, build) for name, build in asked for engine in ENGINES]
        yield from pool.map(lambda one: try_one(*one), both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", help="these architectures or presets, with commas; writes no page"
    )
    parser.add_argument("--show", action="store_true", help="print every result")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    names = {name: partial(tiny_architecture, name) for name in architectures()}
    names |= {name: partial(tiny_preset, name) for name in preset_models()}
    chosen = list(names) if options.only is None else options.only.split(",")
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    for engine in ENGINES:  # what a first run imports, the processes need not
        check("llama", engine, names["llama"])
    found = list(
        track(
            try_many([(name, names[name]) for name in chosen]),
            total=len(ENGINES) * len(chosen),
            description="architectures",
            disable=not sys.stdout.isatty(),
        )
    )
    failed = [one for one in found if one.status in (WRONG, CRASHED)]
    for one in found:
        if options.show or one in failed:
            print(f"{one.model_type} by {one.engine}: {one.status} {one.reason}")
    if options.only is None:
        write(found)
        print(f"{PAGE.name} is written")
    print(f"{len(found)} results, {len(failed)} wrong or crashed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
