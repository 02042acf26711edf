"""The faults that `make mutants` makes: of code from which results follow, one at a time."""

import ast

import pytest
from mutants import Nearness
from mutations import mutations_of

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
