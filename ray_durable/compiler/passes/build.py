"""Building syntax trees: short constructors, and references to the compiler's run-time helpers.

A node built here has no position; `located` gives the root of a new statement the position of the node that it stands
for, and `emit` lets everything below inherit it. So tracebacks, carets and line events are those of the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from ray_durable.compiler.passes.walking import POSITION

PointKind = Literal["yield", "from", "await"]
Node = TypeVar("Node", bound=ast.AST)
HELPER_MARK = (
    "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}ray_durable helper\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "
)


class Suspend(ast.Expr):
    """A yield point in its final form, a statement: `target = yield operand` (or `yield from`, `await`).

    The passes from `expressions` on know no other; `number` and `temporaries` are given by `yieldpoints` at the end.
    """

    _fields = ("operand",)
    _field_types: ClassVar[dict[str, object]] = {"operand": ast.expr | None}
    _attributes = ("lineno", "col_offset", "end_lineno", "end_col_offset")

    def __init__(self, kind: PointKind, operand: ast.expr | None, target: str | None = None) -> None:
        super().__init__()  # type: ignore[call-arg]
        self.kind = kind
        self.operand = operand
        self.target = target
        self.number = 0
        self.temporaries: tuple[str, ...] = ()
        self.operands: tuple[str, ...] = ()
        self.is_call = False  # of a plain function, whose twin it delegates to
        self.watched = False  # whether a StopIteration of that function can be seen here (`stopping`)


def located(new: Node, old: ast.AST) -> Node:
    """`new` at the position of `old`."""
    source, target = old.__dict__, new.__dict__
    for name in POSITION:
        if name in source:
            target[name] = source[name]
    return new


NOWHERE = ast.Pass(lineno=-1, col_offset=-1, end_lineno=-1, end_col_offset=-1)  # CPython's "no line": no line event


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


def constant(value: Any) -> ast.Constant:
    return ast.Constant(value)


def helper(name: str) -> ast.expr:
    """A reference to a function of `support`, compiled to one LOAD_CONST; `emit` puts the object there.

    `X if True else None` is what the compiler folds to X without the warning that it has for calls of a constant.
    """
    return ast.IfExp(constant(True), constant(HELPER_MARK + name), constant(None))


def is_helper(node: ast.expr) -> bool:
    """Whether an expression is such a reference."""
    return (
        isinstance(node, ast.IfExp)
        and isinstance(node.body, ast.Constant)
        and str(node.body.value).startswith(HELPER_MARK)
    )


def call(function: str | ast.expr, *arguments: ast.expr) -> ast.Call:
    """A call; a function given by name is a helper."""
    return ast.Call(helper(function) if isinstance(function, str) else function, list(arguments), [])


def assign(target: str | ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([store(target) if isinstance(target, str) else target], value)


def clear(names: Iterable[str]) -> list[ast.stmt]:
    """`a = b = None`, or nothing."""
    targets: list[ast.expr] = [store(name) for name in names]
    return [ast.Assign(targets, constant(None))] if targets else []


def if_(test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt] = ()) -> ast.If:
    return ast.If(test, list(body) or [ast.Pass()], list(orelse))


def not_(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.Compare:
    return ast.Compare(left, [operator], [right])


def while_true(body: Sequence[ast.stmt]) -> ast.While:
    loop = ast.While(constant(True), list(body), [])
    loop.edged = True  # type: ignore[attr-defined]
    return loop


def try_(
    body: Sequence[ast.stmt],
    handlers: Sequence[ast.ExceptHandler] = (),
    orelse: Sequence[ast.stmt] = (),
    finalbody: Sequence[ast.stmt] = (),
) -> ast.Try:
    return ast.Try(list(body), list(handlers), list(orelse), list(finalbody))


def child_blocks(statement: ast.stmt) -> list[tuple[Any, str]]:
    """The blocks inside a compound statement of this scope, as (owner, field); none for `def` and `class`."""
    names = BLOCKS.get(statement.__class__)
    if names is None:
        return []
    if isinstance(statement, ast.Try | ast.TryStar):
        handlers = [(handler, "body") for handler in statement.handlers]
        return [(statement, "body"), *handlers, (statement, "orelse"), (statement, "finalbody")]
    if isinstance(statement, ast.Match):
        return [(case, "body") for case in statement.cases]
    return [(statement, name) for name in names]


def own_points(statement: ast.stmt) -> tuple[list[Suspend], list[Suspend]]:
    """The yield points that a compound statement has of its own: those before its blocks, and those after."""
    if isinstance(statement, ast.AsyncFor):
        return [statement.step], []  # type: ignore[attr-defined]
    if isinstance(statement, ast.AsyncWith):
        return [statement.enter], [statement.leave]  # type: ignore[attr-defined]
    return [], []


BLOCKS: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((ast.If, ast.For, ast.AsyncFor, ast.While), ("body", "orelse")),
    **dict.fromkeys((ast.With, ast.AsyncWith), ("body",)),
    **dict.fromkeys((ast.Try, ast.TryStar, ast.Match), ()),
}
