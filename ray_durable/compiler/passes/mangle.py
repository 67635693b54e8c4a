"""Private names: `__x` inside a class means `_Class__x`.

A definition is compiled outside its class, so CPython would not know. Class bodies inside it are left to CPython.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.walking import children


def mangle(definition: ast.FunctionDef | ast.AsyncFunctionDef, class_name: str | None) -> None:
    """Replace private names in place."""
    prefix = (class_name or "").lstrip("_")
    if prefix:
        mangler = Mangle("_" + prefix)
        for part in [definition.args, *definition.body]:
            mangler.visit(part)


class Mangle:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def name(self, name: str) -> str:
        return self.prefix + name if name.startswith("__") and not name.endswith("__") and "." not in name else name

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                node.id = self.name(node.id)
            case ast.Attribute():
                node.attr = self.name(node.attr)
            case ast.arg():
                node.arg = self.name(node.arg)
            case ast.keyword() if node.arg is not None:
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
                for part in [*node.decorator_list, *node.bases, *node.keywords]:
                    self.visit(part)
                return
        for child in children(node):
            self.visit(child)
