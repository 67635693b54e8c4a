"""Which calls may suspend: those whose callee is not plainly a builtin.

Goal    a call that cannot reach durable code costs nothing; any other is checked where it is made (`calls`).
Keeps   every callee that a user can have given the name of a builtin one: a method `append` is not checked only where
        its object is, by the function's own text, a list.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable

from ray_durable.compiler.passes.scopes import Scope
from ray_durable.compiler.passes.walking import children
from ray_durable.compiler.unit import Kind, Mode

HARMLESS = frozenset(name for name in dir(builtins) if callable(getattr(builtins, name))) - {"__import__", "input"}
MAKES_BUILTIN = frozenset({"bytearray", "bytes", "dict", "frozenset", "list", "set", "sorted", "str", "tuple"})
DISPLAYS = (
    ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Set, ast.SetComp, ast.Tuple, ast.JoinedStr, ast.Constant,
)  # fmt: skip
BUILTIN_METHODS = frozenset(
    name
    for kind in (list, dict, set, str, bytes, tuple, frozenset, bytearray)
    for name in dir(kind)
    if not name.startswith("__")
)


def may_suspend(definition: ast.AST, scope: Scope, kind: Kind, mode: Mode) -> Callable[[ast.Call], bool]:
    """The question whether a call of this function may suspend: in twins and async functions."""
    if mode == "native" and kind not in ("coroutine", "async_generator"):
        return lambda call: False
    own = frozenset([*scope.bound, *scope.free])
    shared = {*scope.free, *scope.parameters, *scope.captured, *scope.globals, *scope.nonlocals}
    builtin = names_of_builtins(definition, own - shared)

    def is_builtin(value: ast.expr) -> bool:
        return (isinstance(value, ast.Name) and value.id in builtin) or makes_builtin(value, own)

    def may(call: ast.Call) -> bool:
        if getattr(call, "suspends", None) is False:
            return False
        function = call.func
        if isinstance(function, ast.IfExp):
            return False  # a helper of ours
        if isinstance(function, ast.Name) and function.id in HARMLESS:
            return function.id in own
        if isinstance(function, ast.Attribute) and function.attr in BUILTIN_METHODS:
            return not is_builtin(function.value)
        return not isinstance(function, ast.Constant | ast.JoinedStr)

    return may


def makes_builtin(value: ast.expr, own: frozenset[str]) -> bool:
    """Whether an expression gives an object of a builtin type, by its form alone."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in MAKES_BUILTIN and value.func.id not in own
    return isinstance(value, DISPLAYS)


def names_of_builtins(definition: ast.AST, candidates: frozenset[str]) -> frozenset[str]:
    """Those variables of a function that every assignment gives a new object of a builtin type."""
    stored: dict[str, int] = {}
    made: dict[str, int] = {}
    stack = children(definition)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Assign) and makes_builtin(node.value, candidates):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    made[target.id] = made.get(target.id, 0) + 1
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                stored[node.id] = stored.get(node.id, 0) + 1
        else:
            for bound in (value for name, value in ast.iter_fields(node) if name in BINDING and type(value) is str):
                stored[bound.partition(".")[0]] = stored.get(bound.partition(".")[0], 0) + 1
        stack += children(node)
    return frozenset(name for name, count in made.items() if name in candidates and stored.get(name) == count)


BINDING = frozenset({"asname", "name", "rest"})  # of imports, handlers, patterns and definitions
