"""Which faults would the tests let through? Makes them one by one, and runs the tests on each.

    make mutants                                                # about 20 minutes
    python benchmarks/mutants.py --only inactive_heads/core --minutes 5 --seed 3

A seeded sample of lines of the modules that numbers come from; on each line one small fault (see
`mutations`): a comparison turned, a constant off by one, a mask dropped. The faulty file stands in
a copy of the project; the tests that are about it run there, nearest first, until one fails. A
fault that none notices is listed with its file, line and difference: it needs a test, or it
changes nothing. At the end the tests that caught faults are run without any, for a test that fails
anyway has caught nothing.

Third-party modules are imported once, and a process is forked for every fault.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutations import Mutation, mutations_of
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).parents[1]
CORE = "core scores ablation evaluation analysis engines tasks sweeps/grid.py sweeps/unit.py"
CORE += " models/batching.py"
LATE = re.compile(r"explorer|plots|report|cli|benchmarks|notebooks|docs|structure|families|gemma")
"""Tests that take long and are seldom about one line."""
PARTS = ("inactive_heads", "tests", "benchmarks", "docs", "notebooks")


@dataclass
class Run:
    """A process that runs tests on one fault."""

    mutation: Mutation
    copy: Path
    started: float


class Watch:
    """A pytest plugin: says which test failed first, and stops when time is up.

    Args:
        result: the file to write what was found to.
        seconds: of processor time, after which no further test begins.
    """

    def __init__(self, result: Path, seconds: float) -> None:
        self.result, self.seconds = result, seconds
        self.failed: list[str] = []
        self.passed = 0

    def pytest_collectreport(self, report: object) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: object) -> None:
        self._note(report)
        self.passed += report.when == "call" and report.passed

    def _note(self, report: object) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
            self.result.write_text(json.dumps({"failed": self.failed, "passed": self.passed}))

    def pytest_runtest_protocol(self, item: object) -> None:
        if time.process_time() > self.seconds:
            item.session.shouldstop = "time is up"

    def pytest_sessionfinish(self) -> None:
        self.result.write_text(json.dumps({"failed": self.failed, "passed": self.passed}))


def main() -> None:
    """Make faults until time is up, and print what came out."""
    options = argument_parser().parse_args()
    sample = sample_of(options.only, options.seed, options.line)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [copy_of_project(Path(folder) / str(slot)) for slot in range(options.processes)]
        import_third_party()
        nearest = Nearness(without=compile_all(copies))
        judged = run_sample(sample, copies, nearest, options)
        caught_by = {found["failed"][0] for _, found in judged if found["failed"]}
        broken = fail_anyway(sorted(caught_by - {TIMED_OUT, CRASHED}), copies[0], options)
    print_result(judged, broken, options.seed, len(sample))


def argument_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the sample; another one makes other faults")
    add("--minutes", type=float, default=20, help="when no further fault is begun (20)")
    add("--number", type=int, default=10_000, help="the most faults to make (no limit)")
    add("--only", nargs="+", default=CORE.split(), metavar="PATH", help="files or folders (core)")
    add("--line", type=int, help="every fault of this line alone, of the one file of --only")
    add("--processes", type=int, default=2, help="faults at a time, one core each (2)")
    add("--patience", type=float, default=60, help="seconds of tests for one fault (60)")
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


def copy_of_project(folder: Path) -> Path:
    """A copy in which a file may be changed, beside a link to the data that tests use."""
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__", "_build", ".ipynb_checkpoints")
        shutil.copytree(ROOT / part, folder / "project" / part, ignore=ignored)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy2(file, folder / "project" / file.name)
    if (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return folder / "project"


def import_third_party() -> None:
    """Import what the package imports, and not the package itself: every process has its own."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        sys.path.insert(0, str(ROOT))
        for file in sorted((ROOT / "inactive_heads").rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] not in ("__init__", "__main__"):
                importlib.import_module(".".join(parts))
        known = [name for name in sys.modules if name.split(".")[0] != "inactive_heads"]
        os.write(writing, "\n".join(known).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as names:
        for name in names.read().split():
            with contextlib.suppress(Exception):  # some are made at run time
                importlib.import_module(name)
    os.waitpid(pid, 0)
    for name in ("hypothesis", "beartype", "pytest"):
        importlib.import_module(name)


TIMED_OUT = "(a test that never ended)"
CRASHED = "(no test could be run)"


def run_sample(
    sample: Sequence[Mutation],
    copies: Sequence[Path],
    nearest: Nearness,
    options: argparse.Namespace,
) -> list[tuple[Mutation, dict]]:
    """Each fault that was made, with the tests that failed."""
    waiting, running, judged = list(reversed(sample[: options.number])), {}, []
    stop = time.monotonic() + 60 * options.minutes
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("Faults caught", total=len(waiting))
        while running or (waiting and time.monotonic() < stop):
            free = [copy for copy in copies if copy not in [run.copy for run in running.values()]]
            if free and waiting and time.monotonic() < stop:
                mutation = waiting.pop()
                tests = options.tests or nearest.tests(mutation.path)
                put_in(mutation, free[0])
                pid = fork_tests(free[0], ["-x", *tests], seconds=options.patience, faulty=True)
                running[pid] = Run(mutation, free[0], time.monotonic())
                continue
            for pid, run in list(running.items()):
                too_long = time.monotonic() - run.started > 60 + 6 * options.patience
                if ended(pid, kill=too_long):
                    del running[pid]
                    how = TIMED_OUT if too_long else CRASHED
                    found = result_of(run.copy) or {"failed": [how], "passed": 0}
                    take_out(run.mutation, run.copy)
                    judged.append((run.mutation, found))
                    if not found["failed"]:
                        text = listed(run.mutation, found)
                        bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
                    caught = sum(bool(found["failed"]) for _, found in judged)
                    bar.update(task, completed=len(judged), description=f"Caught {caught}, made")
            time.sleep(0.05)
    return judged


def put_in(mutation: Mutation, copy: Path) -> None:
    """Put a fault into a copy of the project; the file without it stays beside it."""
    file = copy / mutation.path
    shutil.copy2(file, file.with_suffix(".right"))
    file.write_text(mutation.source, "utf-8")


def take_out(mutation: Mutation, copy: Path) -> None:
    """Put the file back as it was, its time of change too, by which compiled files go."""
    file = copy / mutation.path
    file.with_suffix(".right").replace(file)


def compile_all(copies: Sequence[Path]) -> set[str]:
    """Collect all tests in every copy, which compiles them and the package once and for all.

    Returns:
        Test files that cannot be collected, with or without a fault.
    """
    broken = set()
    collect = ["--collect-only", "--continue-on-collection-errors", "tests"]
    for pid, copy in [(fork_tests(copy, collect), copy) for copy in copies]:
        while not ended(pid, kill=False):
            time.sleep(0.05)
        if (found := result_of(copy)) is None:
            raise SystemExit((copy / "log.txt").read_text("utf-8"))
        broken |= set(found["failed"])
    for test in sorted(broken):
        print(f"{test} cannot be collected without any fault either: it is left out")
    return broken


def fork_tests(
    copy: Path, arguments: Sequence[str], *, seconds: float = 1e6, faulty: bool = False
) -> int:
    """The id of a process that runs tests in a copy of the project.

    Args:
        copy: the copy.
        arguments: pytest's.
        seconds: of processor time, after which no further test begins.
        faulty: whether a file of the copy is faulty: what is compiled of it is not kept.
    """
    (copy / "result.json").unlink(missing_ok=True)
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir(copy)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = faulty
    import pytest

    given = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    watch = Watch(copy / "result.json", time.process_time() + seconds)
    try:
        pytest.main([*given, *arguments], plugins=[watch])
    finally:
        sys.stdout.flush()
        os._exit(0)


def ended(pid: int, *, kill: bool) -> bool:
    """Whether a process has ended; what is left of its own processes ends with it."""
    done = os.waitpid(pid, os.WNOHANG)[0] == pid
    if done or kill:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if kill and not done:
        os.waitpid(pid, 0)
    return done or kill


def result_of(copy: Path) -> dict | None:
    """What the tests in a copy have written; None if they came to no end."""
    file = copy / "result.json"
    return json.loads(file.read_text()) if file.exists() else None


class Nearness:
    """Which test files are about a module: by their place, and by the names that they mention."""

    def __init__(self, without: set[str]) -> None:
        package = ROOT / "inactive_heads"
        self.names: dict[str, set[str]] = {}
        self.imports: dict[str, set[str]] = {}
        for file in package.rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            path = str(file.relative_to(ROOT))
            self.names[path] = set(_defined(tree))
            self.imports[path] = {
                str(Path(*node.module.split(".")).with_suffix(".py"))
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("inactive_")
            }
        self.words = {
            str(file.relative_to(ROOT)): set(re.findall(r"\w+", file.read_text("utf-8")))
            for file in (ROOT / "tests").rglob("test_*.py")
            if str(file.relative_to(ROOT)) not in without
        }

    def tests(self, path: str) -> list[str]:
        """The test files in which a fault of a file may show, the nearest first."""
        module = Path(path)
        users, level = {path: 1.0}, {path}
        for step in (1, 2, 3):  # who uses it, and who uses those
            level = {user for user, used in self.imports.items() if used & level} - users.keys()
            users |= dict.fromkeys(level, 0.25**step)
        near = {}
        for test, words in self.words.items():
            place = Path(test)
            # A rare name says more than many that half the tests mention.
            shared = [(weight, len(self.names[user] & words)) for user, weight in users.items()]
            near[test] = sum(weight * min(n, 4) for weight, n in shared)
            if place.parent.relative_to("tests") == module.parent.relative_to("inactive_heads"):
                near[test] += 2
                near[test] += 20 * (place.stem == f"test_{module.stem}")
            near[test] *= 0.1 if LATE.search(test) and not LATE.search(path) else 1
        return sorted((test for test in near if near[test] > 0), key=near.get, reverse=True)


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = (one.name for one in node.body if isinstance(one, ast.FunctionDef))
            yield from (name for name in methods if len(name) > 6 and not name.startswith("__"))


def fail_anyway(tests: Sequence[str], copy: Path, options: argparse.Namespace) -> set[str]:
    """Those of the tests that fail without any fault too."""
    if not tests:
        return set()
    pid = fork_tests(copy, tests)
    while not ended(pid, kill=False):
        time.sleep(0.1)
    found = result_of(copy)
    return set(tests) if found is None else set(found["failed"])


def listed(mutation: Mutation, found: dict) -> str:
    """A fault that no test noticed."""
    place = f"{mutation.path}:{mutation.line}: {mutation.kind}"
    return f"{place} ({found['passed']} tests passed)\n{mutation.diff}\n"


def print_result(
    judged: Sequence[tuple[Mutation, dict]], broken: set[str], seed: int, possible: int
) -> None:
    """The share of faults caught, and every fault that no test noticed."""
    for test in sorted(broken):
        print(f"fails without any fault, so what it caught is not counted: {test}")
    counted = [(one, found) for one, found in judged if not broken & set(found["failed"])]
    missed = [(one, found) for one, found in counted if not found["failed"]]
    for one, found in sorted(missed, key=lambda pair: (pair[0].path, pair[0].line)):
        print(listed(one, found))
    caught = len(counted) - len(missed)
    share = f"{caught / len(counted):.1%}" if counted else "none"
    print(f"{caught} of {len(counted)} faults caught ({share}); seed {seed}, {possible} lines")


if __name__ == "__main__":
    main()
