"""`locals()`, `vars()` and `dir()` show the user's variables, not the compiler's.

locals()    =>    users(locals(), "_")          where the name is the builtin
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import call, constant, located
from ray_durable.compiler.passes.scopes import Scope

LOOKS = ("locals", "vars", "dir")


def hide_names(body: list[ast.stmt], scope: Scope, prefix: str) -> list[ast.stmt]:
    """Run the pass over a function's statements."""
    if not any(name in scope.used and name not in scope.bound for name in LOOKS):
        return body
    hide = Hide(scope, prefix)
    return [hide.visit(statement) for statement in body]


class Hide(ast.NodeTransformer):
    def __init__(self, scope: Scope, prefix: str) -> None:
        self.scope, self.prefix = scope, prefix

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="locals" | "vars" | "dir" as name), args=[], keywords=[]):
                if name not in self.scope.bound and name not in self.scope.free:
                    node.suspends = False  # type: ignore[attr-defined]
                    return located(call("users", node, constant(self.prefix)), node)
        return node

    def leave_alone(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = leave_alone
