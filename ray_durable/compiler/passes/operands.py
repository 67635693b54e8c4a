"""Operands: what is evaluated before a yield point is kept in named locals, from left to right.

The base of `expressions`: where lowered statements go, and how a list of operands is evaluated in order.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ray_durable.compiler.passes.build import assign, call, constant, is_helper, load, located
from ray_durable.compiler.passes.yieldpoints import Context, suspends

Lower = Callable[[list[ast.stmt]], list[ast.stmt]]


class Spread(ast.Starred):
    """`**value` in a display or call, among the operands that are evaluated in order."""

    def __init__(self, value: ast.expr) -> None:
        super().__init__(value, ast.Load())
        located(self, value)


class Operands:
    """Lowers the expressions of one statement; `out` collects the statements that come before it."""

    def __init__(self, context: Context, lower: Lower, at: ast.AST) -> None:
        self.context = context
        self.lower = lower
        self.at = at
        self.out: list[ast.stmt] = []
        self.made: dict[str, None] = {}

    # ---- where statements go -----------------------------------------------------------------------------------------
    def emit(self, statement: ast.stmt, at: ast.AST | None = None) -> None:
        self.out.append(located(statement, at or self.at))

    def inside(self, produce: Callable[[], None]) -> list[ast.stmt]:
        """The statements that `produce` emits, as a block of their own."""
        outer, self.out = self.out, []
        produce()
        block, self.out = self.out, outer
        return block

    def new(self) -> str:
        name = self.context.names.value()
        self.made[name] = None
        return name

    def suspends(self, node: ast.expr | None) -> bool:
        return node is not None and suspends(node, self.context)

    # ---- values ------------------------------------------------------------------------------------------------------
    def value(self, node: ast.expr) -> ast.expr:
        """An expression for the value of `node` that cannot suspend, to be evaluated next, and once."""
        if not self.suspends(node):
            return node
        handler = getattr(self, "value_" + type(node).__name__, None)
        assert handler is not None, f"no lowering for {ast.dump(node)}"
        result: ast.expr = handler(node)
        return result

    def keep(self, node: ast.expr) -> ast.expr:
        """Evaluate `node` now; the expression for its value stays good over the yield points that follow."""
        if isinstance(node, ast.Slice):
            bounds = [bound or constant(None) for bound in (node.lower, node.upper, node.step)]
            node = located(call("slice", *self.values(bounds)), node)
        value = self.value(node)
        if (
            isinstance(value, ast.Constant)
            or (isinstance(value, ast.Name) and value.id in self.made)
            or is_helper(value)
        ):
            return value
        name = self.new()
        self.emit(assign(name, value), node)
        return located(load(name), node)

    def values(self, nodes: list[ast.expr]) -> list[ast.expr]:
        """Lower operands that are evaluated from left to right, right before the operation on them."""
        last = max((index for index, node in enumerate(nodes) if self.suspends(node)), default=-1)
        found: list[ast.expr] = []
        for index, node in enumerate(nodes):
            if index > last:
                found.append(node.value if isinstance(node, Spread) else node)
            elif isinstance(node, Spread):
                found.append(self.spread(node, index < last))
            elif isinstance(node, ast.Starred):
                found.append(self.starred(node, index < last))
            else:
                found.append(self.keep(node) if index < last else self.value(node))
        return found

    def starred(self, node: ast.Starred, keep: bool) -> ast.expr:
        # *a, (yield)   =>   _v1 = [*a]; *_v1, (yield)        `a` is run through at its place
        value = self.value(node.value)
        if keep:
            value = self.keep(located(ast.List([located(ast.Starred(value, ast.Load()), node)], ast.Load()), node))
        return located(ast.Starred(value, ast.Load()), node)

    def spread(self, node: Spread, keep: bool) -> ast.expr:
        # {**m, k: (yield)}   =>   _v1 = {**m}; {**_v1, …}
        value = self.value(node.value)
        return self.keep(located(ast.Dict([None], [value]), node)) if keep else value
