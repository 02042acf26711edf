"""Which faults would the tests let through? Makes them one by one, and runs the tests on each.

    make mutants                                                # about 20 minutes
    python benchmarks/mutants.py --only inactive_heads/core --minutes 5 --seed 3

A seeded sample of lines of the modules that numbers come from; on each line one small fault (see
`mutations`): a comparison turned, a constant off by one, a mask dropped. The faulty file stands in
a copy of the project; the tests that are about it run there, nearest first (see `nearest_tests`),
until one fails. If none fails within `--patience`, the tests that were not reached get a second
look, with more patience. A fault that none notices is listed with its file, line and difference:
it needs a test, or it changes nothing. At the end the tests that caught faults are run without
any, for a test that fails anyway has caught nothing.

Third-party modules are imported once, and a process is forked for every fault.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutant_runs import (
    compile_all,
    copy_of_project,
    ended,
    fail_anyway,
    fork_tests,
    import_third_party,
    put_in,
    result_of,
    seconds_silent,
    take_out,
)
from mutations import Mutation, mutations_of
from nearest_tests import Nearness
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).parents[1]
CORE = "core scores ablation evaluation analysis engines tasks sweeps/grid.py sweeps/unit.py"
CORE += " models/batching.py"
TIMED_OUT = "(a test that never ended)"
CRASHED = "(no test could be run)"
SILENT = 400
"""Seconds without the end of a test after which one is taken to never end."""
NEAREST, ALIKE = 12, 12
"""Of a first look: the test files nearest to the faulty module, for collecting all takes long; and
the test functions to begin with, which speak most like the faulty line."""


@dataclass
class Look:
    """The tests that run on a fault, and what they found.

    Attributes:
        mutation: the fault.
        seconds: of processor time, after which no further test begins.
        passed: the ids of the tests that have passed.
        failed: those that have failed: one, or none.
        second: whether this is the second look.
    """

    mutation: Mutation
    seconds: float
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    second: bool = False


def main() -> None:
    """Make faults until time is up, and print what came out."""
    options = argument_parser().parse_args()
    sample = sample_of(options.only, options.seed, options.line)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [copy_of_project(Path(folder) / str(slot)) for slot in range(options.processes)]
        import_third_party()
        nearest = Nearness(without=compile_all(copies))
        judged = run_sample(sample, copies, nearest, options)
        caught_by = {one.failed[0] for one in judged if one.failed}
        broken = fail_anyway(sorted(caught_by - {TIMED_OUT, CRASHED}), copies[0])
    print_result(judged, broken, options.seed, len(sample))


def argument_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the sample; another one makes other faults")
    add("--minutes", type=float, default=20, help="for all of it, about (20)")
    add("--number", type=int, default=10_000, help="the most faults to make (no limit)")
    add("--only", nargs="+", default=CORE.split(), metavar="PATH", help="files or folders (core)")
    add("--line", type=int, help="every fault of this line alone, of the one file of --only")
    add("--processes", type=int, default=2, help="faults at a time, one core each (2)")
    add("--patience", type=float, default=60, help="seconds of tests for one fault (60)")
    add("--second", type=float, default=240, help="seconds of a second look at a survivor (240)")
    add("--tests", nargs="+", help="the test files to run, in place of those nearest to the fault")
    return parser


def sample_of(only: Sequence[str], seed: int, line: int | None) -> list[Mutation]:
    """Faults in random order, one for every line that can have any."""
    files: list[Path] = []
    for name in only:
        path = next(p for p in (ROOT / name, ROOT / "inactive_heads" / name) if p.exists())
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    drawn = random.Random(seed)
    sample = []
    for file in files:
        by_line: dict[int, list[Mutation]] = {}
        for one in mutations_of(str(file.relative_to(ROOT)), file.read_text("utf-8")):
            by_line.setdefault(one.line, []).append(one)
        if line is not None:
            return by_line.get(line, [])
        sample += [drawn.choice(those) for those in by_line.values()]
    drawn.shuffle(sample)
    return sample


def run_sample(
    sample: Sequence[Mutation],
    copies: Sequence[Path],
    nearest: Nearness,
    options: argparse.Namespace,
) -> list[Look]:
    """Each fault that was made, with the tests that failed.

    The last fifth of the time is for second looks: every fault that was made has had its own.
    """
    waiting = [Look(one, options.patience) for one in reversed(sample[: options.number])]
    survived: list[Look] = []
    running: dict[int, tuple[Look, Path]] = {}
    judged: list[Look] = []
    stop = time.monotonic() + 0.8 * 60 * options.minutes
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("Faults caught", total=len(waiting))
        while running or survived or (waiting and time.monotonic() < stop):
            free = [one for one in copies if one not in [copy for _, copy in running.values()]]
            if free and (survived or (waiting and time.monotonic() < stop)):
                look = survived.pop() if survived else waiting.pop()
                pid = begin(look, free[0], options.tests, nearest)
                running[pid] = look, free[0]
                continue
            for pid, (look, copy) in list(running.items()):
                too_long = seconds_silent(copy) > SILENT
                if not ended(pid, kill=too_long):
                    continue
                del running[pid]
                found = result_of(copy) or {
                    "failed": [TIMED_OUT if too_long else CRASHED],
                    "passed": [],
                }
                take_out(look.mutation, copy)
                passed = look.passed + found["passed"]
                if not found["failed"] and not look.second:
                    survived.append(Look(look.mutation, options.second, passed, second=True))
                    continue
                judged.append(Look(look.mutation, look.seconds, passed, found["failed"]))
                if not found["failed"]:
                    text = listed(judged[-1])
                    bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
                caught = sum(bool(one.failed) for one in judged)
                bar.update(task, completed=len(judged), description=f"Caught {caught}, made")
            time.sleep(0.05)
    return judged


def begin(look: Look, copy: Path, tests: Sequence[str] | None, nearest: Nearness) -> int:
    """Put a fault into a copy, and run the tests that have not passed on it yet.

    Returns:
        The id of the process in which they run.
    """
    alike = nearest.functions_about(look.mutation, ALIKE)
    near, about = nearest.tests(look.mutation.path), nearest.files_about(look.mutation)
    files = [*near[:2], *about, *near[2:]]
    if not look.second:
        files = [*near[:2], *about[:NEAREST], *near[2:NEAREST], *(file for file, _ in alike)]
    files = list(dict.fromkeys(files))
    put_in(look.mutation, copy)
    return fork_tests(
        copy,
        ["-x", *(tests or files)],
        seconds=look.seconds,
        first=alike,
        without=look.passed,
        faulty=True,
    )


def listed(look: Look) -> str:
    """A fault that no test noticed."""
    fault = look.mutation
    place = f"{fault.path}:{fault.line}: {fault.kind}"
    return f"{place} ({len(look.passed)} tests passed)\n{fault.diff}\n"


def print_result(judged: Sequence[Look], broken: set[str], seed: int, possible: int) -> None:
    """The share of faults caught, and every fault that no test noticed."""
    for test in sorted(broken):
        print(f"fails without any fault, so what it caught is not counted: {test}")
    counted = [one for one in judged if not broken & set(one.failed)]
    missed = [one for one in counted if not one.failed]
    for one in sorted(missed, key=lambda look: (look.mutation.path, look.mutation.line)):
        print(listed(one))
    caught = len(counted) - len(missed)
    share = f"{caught / len(counted):.1%}" if counted else "none"
    print(f"{caught} of {len(counted)} faults caught ({share}); seed {seed}, {possible} lines")


if __name__ == "__main__":
    main()
