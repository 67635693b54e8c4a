"""Walking trees, several times faster than the `ast` module: most of compiling is asking nodes for their children.

Contexts (`Load`, …) and operators are no children here: no pass asks for them, and they are every second node.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

LEAVES = frozenset({"ctx", "op", "ops", "kind", "type_comment", "conversion", "is_async", "level", "simple"})
FIELDS: dict[type, tuple[str, ...]] = {ast.Constant: (), ast.Name: ()}
POSITION = ("lineno", "col_offset", "end_lineno", "end_col_offset")


def fields(kind: type[ast.AST]) -> tuple[str, ...]:
    """The fields of a node that may hold nodes."""
    found = FIELDS.get(kind)
    if found is None:
        found = FIELDS[kind] = tuple(name for name in kind._fields if name not in LEAVES)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below `node`, in the order of the source."""
    kind = node.__class__
    names = FIELDS.get(kind)
    found: list[ast.AST] = []
    values = node.__dict__
    for name in fields(kind) if names is None else names:
        value = values.get(name)
        if value.__class__ is list:
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all that is below it, in no particular order."""
    stack = [node]
    while stack:
        here = stack.pop()
        stack += children(here)
        yield here


class Visitor:
    """Calls `visit_<type>` for a node, or visits its children where there is no such method."""

    def visit(self, node: ast.AST) -> None:
        method: Callable[[Any], None] = getattr(self, "visit_" + node.__class__.__name__, self.visit_children)
        method(node)

    def visit_children(self, node: ast.AST) -> None:
        for child in children(node):
            self.visit(child)


def fill_positions(root: ast.AST) -> None:
    """Give each node that has no position that of the node above it."""
    stack: list[tuple[ast.AST, tuple[int, int, int, int]]] = [(root, (1, 0, 1, 0))]
    while stack:
        node, above = stack.pop()
        values = node.__dict__
        if "lineno" in values:
            line, column = values["lineno"], values["col_offset"]
            here = (line, column, values.get("end_lineno") or line, values.get("end_col_offset") or column)
            if "end_lineno" not in values:
                values["end_lineno"], values["end_col_offset"] = here[2:]
        else:
            here = above
            if node._attributes:
                values["lineno"], values["col_offset"], values["end_lineno"], values["end_col_offset"] = above
        stack += [(child, here) for child in children(node)]
