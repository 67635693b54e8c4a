"""Private names: `__x` inside a class means `_Class__x`.

A definition is compiled outside its class, so CPython would not know; so is the resume body of a method of a class
inside it, whose names are replaced in the same way. What CPython mangles once more stays as it is.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.walking import children, walk


def mangle(definition: ast.FunctionDef | ast.AsyncFunctionDef, class_name: str | None) -> None:
    """Replace private names in place."""
    if class_name or any(isinstance(node, ast.ClassDef) for node in walk(definition)):
        mangler = Mangle(class_name)
        for part in [definition.args, *definition.body]:
            mangler.visit(part)


TYPE_PARAMETERS = ("TypeVar", "ParamSpec", "TypeVarTuple")  # from 3.12 on
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Mangle:
    def __init__(self, class_name: str | None) -> None:
        bare = (class_name or "").lstrip("_")
        self.prefix = "_" + bare if bare else ""
        self.kept: set[str] = set()

    def name(self, name: str) -> str:
        if name in self.kept:
            return name
        return self.prefix + name if name.startswith("__") and not name.endswith("__") and "." not in name else name

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                node.id = self.name(node.id)
            case ast.Attribute():
                node.attr = self.name(node.attr)
            case ast.arg():
                node.arg = self.name(node.arg)
            case ast.Global() | ast.Nonlocal():
                node.names = [self.name(name) for name in node.names]
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name is not None:
                node.name = self.name(node.name)
            case ast.MatchMapping() if node.rest is not None:
                node.rest = self.name(node.rest)
            case ast.alias():
                bound = node.asname or node.name.partition(".")[0]
                if self.name(bound) != bound:
                    node.asname = self.name(bound)
            case ast.ClassDef():
                node.called = node.name  # type: ignore[attr-defined]
                kept = self.kept
                self.kept = kept | {each.name for each in getattr(node, "type_params", [])}  # which CPython mangles
                for part in [*node.decorator_list, *node.bases, *node.keywords]:
                    self.visit(part)
                self.kept = kept
                inside = Mangle(node.name)
                for statement in node.body:
                    inside.visit(statement)  # what is defined there keeps its name, which CPython mangles
                    if isinstance(statement, DEFINITIONS):
                        statement.name = getattr(statement, "called", statement.name)
                node.name = self.name(node.name)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name != self.name(node.name):
                node.called = node.name  # type: ignore[union-attr]  # the variable is private, not the function's name
                node.name = self.name(node.name)
            case _ if node.__class__.__name__ in TYPE_PARAMETERS:
                node.name = self.name(node.name)  # type: ignore[attr-defined]
        for child in children(node):
            self.visit(child)
