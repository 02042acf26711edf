"""The faults that `make mutants` makes: of code from which results follow, one at a time."""

import ast
import itertools
import json

import mutant_runs
import pytest
from mutant_runs import Watch
from mutations import Mutation, mutations_of
from nearest_tests import ROOT, Nearness

pytest_plugins = "pytester"

MAKES = {
    "x = a < b": {"x = a <= b", "x = a > b"},
    "x = a == b": {"x = a != b"},
    "x = n + 1": {"x = n - 1", "x = n + 2", "x = n + 0"},
    "x = -1": {"x = 0", "x = -2", "x = -0"},
    "x = 0.5 * y": {"x = 1.0 * y", "x = 0.5 / y"},
    "x = ~mask": {"x = mask"},
    "x = a and b": {"x = a or b", "x = a", "x = b"},
    "x = where(m, a, b)": {"x = a", "x = where(m, b, a)"},
    "x = y.amax(dim=k)": {"x = y.amin(dim=k)", "x = y.amax()"},
    "x = y.clamp(min=k)": {"x = y", "x = y.clamp()"},
    "x = a if p else b": {"x = b if p else a"},
    "x = y[a:b]": {"x = y[a + 1:b]", "x = y[a:b - 1]"},
    "x = sorted(y)": {"x = list(y)"},
    "side = 'below'": {"side = 'above'"},
    "check(x)": {"pass"},
    "n += k": {"n -= k"},
    "if bad():\n    raise ValueError": {"if False:\n    raise ValueError"},
    "def f(n: int = k(), *, on=True):\n    return n": {
        "def f(n: int = k(), *, on=False):\n    return n"
    },
    "def f(x) -> int | None:\n    return x": {"def f(x) -> int | None:\n    return None"},
}


@pytest.mark.parametrize(("source", "faulty"), MAKES.items(), ids=[s[:24] for s in MAKES])
def test_a_line_has_the_faults_that_it_can_have(source, faulty):
    found = mutations_of("file.py", source)
    trees = {ast.dump(ast.parse(one.source)) for one in found}
    assert trees == {ast.dump(ast.parse(one)) for one in faulty}
    for one in found:
        assert one.line <= source.count("\n") + 1
        assert one.diff.startswith(("-", "+"))


@pytest.mark.parametrize(
    "source",
    [
        '"""A text of 3 words."""',
        "def f():\n    'Up to 3 and < 4.'",
        "raise ValueError(f'{n + 1} is < 3')",
        "assert n + 1 < 3",
        "x = f'{n + 1}'",
        "warn('it is so', stacklevel=2)",
        "MAX_LOGITS = 2 ** 26",
        "def f(x: Literal[1, 2]) -> tuple[int, 3]: ...",
        "x = isinstance(y, Tensor | Model)",
        "from a import b",
        "def f(*, progress=True): ...",
        "def __repr__(self):\n    return self.n + 1",
        "def bytes_per_token(self, longest):\n    return 4 * longest",
    ],
)
def test_what_changes_no_result_is_left_alone(source):
    assert mutations_of("file.py", source) == []


def test_the_tests_that_are_about_a_file_come_first():
    near = Nearness(without=set())
    for path, first in {
        "inactive_heads/scores/registry.py": "tests/scores/test_registry.py",
        "inactive_heads/analysis/curves/paired.py": "tests/analysis/curves/test_paired.py",
        "inactive_heads/engines/attention/blockwise.py": "tests/engines/attention/test_blockwise.py",
    }.items():
        assert near.tests(path)[0] == first
        assert len(near.tests(path)) > 5
    without = Nearness(without={"tests/scores/test_registry.py"})
    assert "tests/scores/test_registry.py" not in without.tests("inactive_heads/scores/registry.py")


@pytest.mark.parametrize(
    ("path", "text", "file", "name"),
    [
        ("analysis/heads/per_input.py", "lengths -= lengths.mean()", "per_input.py", "spearman"),
        ("scores/registry.py", "if name in REGISTRY:", "scores/test_registering.py", "normalized"),
        ("analysis/curves/ties.py", "ranks[row] = rank", "curves/test_ties.py", "test_ranks"),
    ],
)
def test_functions_that_speak_of_a_line_come_before_the_rest(path, text, file, name):
    lines = (ROOT / "inactive_heads" / path).read_text("utf-8").splitlines()
    (line,) = (n for n, one in enumerate(lines, 1) if one.strip() == text)
    fault = Mutation(f"inactive_heads/{path}", line, "", "", "")
    found = Nearness(without=set()).functions_about(fault, 12)
    assert 3 < len(set(found)) == len(found) <= 12
    assert any(test.endswith(file) and name in function for test, function in found)
    elsewhere = {f"tests/{folder}" for folder in ("report", "cli", "plots")}
    assert not elsewhere & {test.rpartition("/")[0] for test, _ in found}


@pytest.mark.parametrize(
    ("path", "text", "file"),
    [
        (
            "engines/routing/hf_attention.py",
            "= for_every_head(mask, ",
            "attention/test_selected.py",
        ),
        ("engines/attention/selected.py", "n_blocks = -(-n_keys", "attention/test_selected.py"),
        ("analysis/curves/ties.py", "ranks[row] = rank", "curves/test_ties.py"),
    ],
)
def test_a_file_that_mentions_a_rare_name_of_the_line_is_about_it(path, text, file):
    lines = (ROOT / "inactive_heads" / path).read_text("utf-8").splitlines()
    (line,) = (n for n, one in enumerate(lines, 1) if text in one)
    found = Nearness(without=set()).files_about(
        Mutation(f"inactive_heads/{path}", line, "", "", "")
    )
    assert any(test.endswith(file) for test in found)
    assert len(found) < 12


TESTS = """
import pytest

@pytest.mark.parametrize("n", range({n}))
def test_many(n):
    pass

def test_one():
    assert {right}
"""


@pytest.fixture
def watched(pytester, monkeypatch):
    """Runs two files of tests under a clock that goes on by a second whenever it is read."""

    def run(*arguments, right=True, **options):
        pytester.makepyfile(
            test_a=TESTS.format(n=9, right=right), test_b=TESTS.format(n=2, right=1)
        )
        monkeypatch.setattr(mutant_runs.time, "process_time", itertools.count().__next__)
        result = pytester.path / "result.json"
        plugin = Watch(result, **options)
        pytester.inline_run("-p", "no:cacheprovider", *arguments, plugins=[plugin])
        return json.loads(result.read_text())

    return run


A = [f"test_a.py::test_many[{n}]" for n in range(9)]
B = [f"test_b.py::test_many[{n}]" for n in range(2)]
ONE = ["test_a.py::test_one", "test_b.py::test_one"]


def test_a_look_begins_with_the_functions_that_are_about_the_line(watched):
    first = [("test_b.py", "test_many"), ("test_a.py", "test_one")]
    found = watched(seconds=1000, first=first)
    assert found == {"failed": [], "passed": [ONE[0], *B, *A, ONE[1]]}


def test_a_slow_file_does_not_take_all_the_time_and_a_second_look_has_the_rest(
    watched, monkeypatch
):
    monkeypatch.setattr(mutant_runs, "SHARE", 0.1)
    found = watched(seconds=40)
    assert found["passed"] == [*A[:5], *B, ONE[1]]  # five seconds are over a tenth of forty
    again = watched(seconds=1000, without=found["passed"])
    assert again["passed"] == [*A[5:], ONE[0]]


def test_a_look_ends_when_time_is_up_or_a_test_fails(watched):
    assert watched(seconds=3)["passed"] == A[:2]
    found = watched("-x", seconds=1000, right=False)
    assert found == {"failed": [ONE[0]], "passed": A}
