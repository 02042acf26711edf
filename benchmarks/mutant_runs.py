"""Copies of the project with a fault in them, and processes that run tests there."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from mutations import Mutation

ROOT = Path(__file__).parents[1]
PARTS = ("inactive_heads", "tests", "benchmarks", "docs", "notebooks")
SHARE = 1 / 3
"""Of the time for one fault, what one test file may take."""


class Watch:
    """A pytest plugin: orders the tests, says which failed first, and stops when time is up.

    Args:
        result: the file to write what was found to.
        seconds: of processor time, after which no further test begins.
        first: file and name of the test functions to begin with.
        without: the ids of tests to leave out.
    """

    def __init__(
        self,
        result: Path,
        seconds: float,
        first: Sequence[tuple[str, str]] = (),
        without: Collection[str] = (),
    ) -> None:
        self.result, self.seconds, self.without = result, seconds, frozenset(without)
        self.stop = time.process_time() + seconds
        self.first = dict(zip(first, range(len(first)), strict=True))
        self.failed: list[str] = []
        self.passed: list[str] = []
        self.taken: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # The functions to begin with keep the order of their files: what a file's tests share is
        # made twice at most.
        ours = [item for item in items if item.nodeid not in self.without]
        items[:] = sorted(ours, key=lambda item: _function_of(item) not in self.first)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
            self._write()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.process_time()
        if began > self.stop:
            item.session.shouldstop = "time is up"
        try:
            return (yield)
        finally:
            self.taken[_file_of(item)] += time.process_time() - began

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.taken[_file_of(item)] > SHARE * self.seconds:
            pytest.skip("its file has taken its share of the time")

    def pytest_sessionfinish(self) -> None:
        self._write()

    def _write(self) -> None:
        self.result.write_text(json.dumps({"failed": self.failed, "passed": self.passed}))


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _function_of(item: pytest.Item) -> tuple[str, str]:
    return _file_of(item), item.nodeid.rpartition("::")[2].partition("[")[0]


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
    for name in ("hypothesis", "beartype"):
        importlib.import_module(name)


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
    copy: Path,
    arguments: Sequence[str],
    *,
    seconds: float = 1e6,
    first: Sequence[tuple[str, str]] = (),
    without: Collection[str] = (),
    faulty: bool = False,
) -> int:
    """The id of a process that runs tests in a copy of the project.

    Args:
        copy: the copy.
        arguments: pytest's.
        seconds: of processor time, after which no further test begins.
        first: file and name of the test functions to begin with.
        without: the ids of tests to leave out.
        faulty: whether a file of the copy is faulty: what is compiled of it is not kept.
    """
    (copy / "result.json").unlink(missing_ok=True)
    (copy / "log.txt").write_text("")
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
    given = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    watch = Watch(copy / "result.json", seconds, first, without)
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


def seconds_silent(copy: Path) -> float:
    """How long ago the tests in a copy last said something: they do at the end of each."""
    return time.time() - (copy / "log.txt").stat().st_mtime


def result_of(copy: Path) -> dict | None:
    """What the tests in a copy have written; None if they came to no end."""
    file = copy / "result.json"
    return json.loads(file.read_text()) if file.exists() else None


def fail_anyway(tests: Sequence[str], copy: Path) -> set[str]:
    """Those of the tests that fail without any fault too."""
    if not tests:
        return set()
    pid = fork_tests(copy, tests)
    while not ended(pid, kill=False):
        time.sleep(0.1)
    found = result_of(copy)
    return set(tests) if found is None else set(found["failed"])
