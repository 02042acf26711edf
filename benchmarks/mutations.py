"""Small faults that could be made in Python code: a comparison turned, a constant off by one, …

Each is one replacement of one expression or statement. What changes no result is left alone:
docstrings, annotations, messages, assertions, what is shown of progress, and names of limits on
memory and speed.
"""

from __future__ import annotations

import ast
import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

TURNED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {
    one: other
    for pair in [
        ("min", "max"),
        ("amin", "amax"),
        ("argmin", "argmax"),
        ("idxmin", "idxmax"),
        ("minimum", "maximum"),
        ("any", "all"),
        ("mean", "sum"),
        ("floor", "ceil"),
        ("tril", "triu"),
        ("at_first_token", "at_last_token"),
        ("removeprefix", "removesuffix"),
        ("zeros", "ones"),
        ("logsumexp", "sum"),
    ]
    for one, other in (pair, pair[::-1])
}
WORDS = {"below": "above", "above": "below", "left": "right", "right": "left"}
WORDS |= {"mean": "sum", "sum": "mean", "any": "all", "fixed": "per-input"}
METHODS = "clamp clip abs float double masked_fill sqrt square dropna transpose flip cumsum exp log"
METHODS += " strip removeprefix sort_values reset_index T"
DROPPED_METHODS = frozenset(METHODS.split())
"""Methods without which their object itself remains."""
DROPPED_FUNCTIONS = frozenset(["abs", "sqrt", "square", "log", "exp", "minimum", "maximum"])
"""Functions in whose place their first argument remains."""
QUIET_KEYWORDS = frozenset(
    ["strict", "repr", "device", "stacklevel", "show", "progress", "encoding"]
)
QUIET_CALLS = "warn progress_bar advance cast field dataclass lru_cache cache hexdigest empty_cache"
QUIET_CALLS += " print add_task"
QUIET_NAMES = re.compile(r"MAX_|CHUNK|BYTES|FASTEST|TOKENS|TYPE_CHECKING|FORMAT")
QUIET_FUNCTIONS = frozenset(["__repr__", "__hash__", "_repr_html_", "bytes_per_token"])


@dataclass(frozen=True)
class Mutation:
    """One fault in one file.

    Attributes:
        path: the file, from the root of the project.
        line: the line where it starts, counted from 1.
        kind: what was done, in a few words.
        source: the whole file with the fault in it.
        diff: the lines that changed, before and after.
    """

    path: str
    line: int
    kind: str
    source: str
    diff: str


def mutations_of(path: str, source: str) -> list[Mutation]:
    """Every fault of the kinds known here, from the top of a file to its end.

    Args:
        path: the file, from the root of the project.
        source: its text.
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = {}
    for node, kind, text in _replacements(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        whole = source.encode()
        changed = (whole[:begin] + text.encode() + whole[end:]).decode()
        try:
            same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
        except SyntaxError:
            continue
        if not same:
            diff = [
                line.rstrip()
                for line in difflib.ndiff(source.splitlines(), changed.splitlines())
                if line[0] in "+-"
            ]
            found.setdefault(changed, Mutation(path, node.lineno, kind, changed, "\n".join(diff)))
    return sorted(found.values(), key=lambda one: one.line)


def _replacements(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """A node, what is done to it, and what stands in its place."""
    for node in _counting(tree):
        if isinstance(node, ast.expr):
            for kind, other in _other_expressions(node):
                yield node, kind, f"({ast.unparse(other)})"
        else:
            yield from _other_statements(node)


def _counting(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes from which results follow."""
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.FunctionDef) and node.name in QUIET_FUNCTIONS:
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Assign) and QUIET_NAMES.search(ast.unparse(node.targets[0])):
        return
    if isinstance(node, ast.Assign) and "Literal[" in ast.unparse(node.value):
        return
    if isinstance(node, ast.Call) and _called(node) in QUIET_CALLS.split():
        return
    if isinstance(node, ast.Subscript) and "hexdigest" in ast.unparse(node.value):
        return
    if isinstance(node, ast.keyword) and node.arg in QUIET_KEYWORDS:
        return
    if isinstance(node, ast.arguments):  # of what is shown, no default counts
        for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            if default is not None and argument.arg not in QUIET_KEYWORDS:
                yield from _counting(default)
        for default in node.defaults:
            yield from _counting(default)
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "ctx", "op", "ops"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _counting(child)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of a node with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _other_expressions(node: ast.expr) -> Iterator[tuple[str, ast.AST]]:
    """Expressions that someone might have written by mistake."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in TURNED.get(type(operator), ()):
                    ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                    yield "comparison turned", _with(node, ops=ops)
        case ast.BoolOp():
            yield "and/or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for place in range(len(node.values)):
                rest = [*node.values[:place], *node.values[place + 1 :]]
                yield "condition dropped", _with(node, values=rest) if rest[1:] else rest[0]
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield "not dropped", node.operand
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
            yield "constant off by one", ast.Constant(1 - number)
            yield "constant off by one", ast.Constant(-number - 1)
        case ast.UnaryOp(op=ast.USub()):
            yield "minus dropped", node.operand
        case ast.BinOp() if type(node.op) in SWAPPED and not _of_types_or_text(node):
            yield "operator swapped", _with(node, op=SWAPPED[type(node.op)]())
        case ast.Constant(value=bool() as value):
            yield "truth turned", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield "constant off by one", ast.Constant(value + 1)
            yield "constant off by one", ast.Constant(value - 1)
        case ast.Constant(value=float() as value) if 1e-3 < abs(value) < 1e6:
            yield "constant doubled", ast.Constant(2 * value)
        case ast.Constant(value=str() as value) if value in WORDS:
            yield "word turned", ast.Constant(WORDS[value])
        case ast.IfExp():
            yield "branches swapped", _with(node, body=node.orelse, orelse=node.body)
        case ast.Subscript(slice=ast.Slice() as part):
            if part.lower is not None and not isinstance(part.lower, ast.Constant | ast.UnaryOp):
                later = ast.BinOp(part.lower, ast.Add(), ast.Constant(1))
                yield "slice off by one", _with(node, slice=_with(part, lower=later))
            if part.upper is not None and not isinstance(part.upper, ast.Constant | ast.UnaryOp):
                sooner = ast.BinOp(part.upper, ast.Sub(), ast.Constant(1))
                yield "slice off by one", _with(node, slice=_with(part, upper=sooner))
        case ast.Call():
            yield from _other_calls(node)


def _other_calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = _called(node)
    if name in NAMES:
        function = node.func
        if isinstance(function, ast.Attribute):
            yield "function swapped", _with(node, func=_with(function, attr=NAMES[name]))
        elif name in ("min", "max", "any", "all"):
            yield "function swapped", _with(node, func=ast.Name(NAMES[name]))
    if isinstance(node.func, ast.Attribute) and name in DROPPED_METHODS:
        yield "call dropped", node.func.value
    if name in DROPPED_FUNCTIONS and node.args:
        yield "call dropped", node.args[0]
    if name == "where" and len(node.args) == 3:
        condition, one, other = node.args
        yield "mask dropped", one
        yield "mask turned", _with(node, args=[condition, other, one])
    if name == "sorted" and len(node.args) == 1 and not node.keywords:
        yield "order dropped", ast.Call(ast.Name("list"), node.args, [])
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in QUIET_KEYWORDS:
            rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
            yield "argument dropped", _with(node, keywords=rest)


def _of_types_or_text(node: ast.BinOp) -> bool:
    """Whether an operator joins types (``str | None``) or texts, where another one means nothing."""
    sides = (node.left, node.right)
    if any(isinstance(side, ast.JoinedStr) for side in sides):
        return True
    constants = [side.value for side in sides if isinstance(side, ast.Constant)]
    if any(isinstance(value, str | None) for value in constants):
        return True
    return isinstance(node.op, ast.BitOr) and bool(
        re.search(r"\b(str|int|float|bool|[A-Z]\w+)$", ast.unparse(node.right))
    )


def _other_statements(node: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """Statements that someone might have left out or turned."""
    match node:
        case ast.If(body=[ast.Raise(), *_]):
            yield node.test, "refusal dropped", "False"
        case ast.If() | ast.While() if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            yield node.test, "condition turned", f"not {ast.unparse(node.test)}"
        case ast.comprehension(ifs=[test, *_]):
            yield test, "condition dropped", "True"
        case ast.Expr(value=ast.Call() as call) if _called(call) not in QUIET_CALLS.split():
            yield node, "call dropped", "pass"
        case ast.Continue():
            yield node, "loop ended", "break"
        case ast.AugAssign() if type(node.op) in SWAPPED:
            other = _with(node, op=SWAPPED[type(node.op)]())
            yield node, "operator swapped", ast.unparse(other)
        case ast.FunctionDef(returns=ast.expr() as kind) if "None" in ast.unparse(kind):
            for part in ast.walk(node):  # of another type, the types would say so
                if isinstance(part, ast.Return) and part.value is not None:
                    yield part, "nothing returned", "return None"
