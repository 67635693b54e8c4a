"""Conditions: short circuits, conditional expressions and chained comparisons, as `if` statements.

Keeps   which operands are evaluated, and how often a truth value is asked for: once per operand where CPython jumps.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ray_durable.compiler.passes.build import assign, constant, if_, load, located, not_
from ray_durable.compiler.passes.operands import Operands
from ray_durable.compiler.passes.yieldpoints import any_suspends


class Conditions(Operands):
    """Lowers what decides."""

    def test(self, node: ast.expr) -> ast.expr:
        """Like `value`, for an expression whose truth is asked for: each operand is asked once, as CPython does it."""
        if not self.suspends(node):
            return node
        match node:
            case ast.BoolOp():
                return self.test_all(node, node.values)
            case ast.UnaryOp(op=ast.Not()):
                return located(not_(self.test(node.operand)), node)
            case ast.Compare() if len(node.ops) > 1:
                return self.chain(node, asks_truth=True)
            case ast.IfExp():
                return self.choice(node, lambda branch: asked_once(self.test(branch)))
        return self.value(node)

    def test_all(self, node: ast.BoolOp, operands: list[ast.expr]) -> ast.expr:
        # a and b   =>   _v1 = False; if a: _v1 = b           a or b   =>   _v1 = True; if not a: _v1 = b
        if len(operands) == 1:
            return self.test(operands[0])
        first = self.test(operands[0])
        if not any_suspends(operands[1:], self.context):
            return located(ast.BoolOp(node.op, [first, *operands[1:]]), node)
        result = self.new()
        is_and = isinstance(node.op, ast.And)
        more = self.inside(lambda: self.emit(assign(result, asked_once(self.test_all(node, operands[1:])))))
        self.emit(
            if_(first, more, [located(assign(result, constant(False)), node)])
            if is_and
            else if_(first, [located(assign(result, constant(True)), node)], more)
        )
        return load(result)

    def value_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        # a and b           =>   _v1 = a; if _v1: _v1 = b
        # (a and b) or c asks for the truth of a false a twice, as the language says; 3.11 threads its jumps
        result = self.new()

        def operand(index: int) -> None:
            self.emit(assign(result, self.value(node.values[index])), node.values[index])
            if index + 1 < len(node.values):
                more = self.inside(lambda: operand(index + 1))
                self.emit(if_(load(result) if isinstance(node.op, ast.And) else not_(load(result)), more), node)

        operand(0)
        return located(load(result), node)

    def value_IfExp(self, node: ast.IfExp) -> ast.expr:
        return self.choice(node, self.value)

    def choice(self, node: ast.IfExp, lower: Callable[[ast.expr], ast.expr]) -> ast.expr:
        # a if t else b   =>   if t: _v1 = a
        #                      else: _v1 = b
        test = self.test(node.test)
        if not self.suspends(node.body) and not self.suspends(node.orelse):
            return located(ast.IfExp(test, node.body, node.orelse), node)
        result = self.new()
        then, otherwise = (
            self.inside(lambda branch=branch: self.emit(assign(result, lower(branch)), branch))  # type: ignore[misc]
            for branch in (node.body, node.orelse)
        )
        self.emit(if_(test, then, otherwise), node)
        return located(load(result), node)

    def value_Compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1:
            left, right = self.values([node.left, node.comparators[0]])
            return located(ast.Compare(left, node.ops, [right]), node)
        return self.chain(node, asks_truth=False)

    def chain(self, node: ast.Compare, asks_truth: bool) -> ast.expr:
        # a < b < c   =>   _v1 = a; _v2 = b; _v3 = _v1 < _v2; if _v3: _v3 = _v2 < c
        result = self.new()

        def link(left: ast.expr, index: int) -> None:
            last = index + 1 == len(node.ops)
            right = self.value(node.comparators[index]) if last else self.keep(node.comparators[index])
            compared = located(ast.Compare(left, [node.ops[index]], [right]), node)
            if last:
                self.emit(assign(result, compared), node)
                return
            more = self.inside(lambda: link(right, index + 1))
            if asks_truth:
                self.emit(if_(compared, more, [located(assign(result, constant(False)), node)]), node)
            else:
                self.emit(assign(result, compared), node)
                self.emit(if_(load(result), more), node)

        link(self.keep(node.left), 0)
        return located(load(result), node)


def asked_once(test: ast.expr) -> ast.expr:
    """A test whose result is kept before it decides: CPython asks each operand once only where it jumps at once."""
    # x and y   =>   True if x and y else False
    if isinstance(test, ast.BoolOp | ast.IfExp | ast.UnaryOp) or (isinstance(test, ast.Compare) and len(test.ops) > 1):
        return located(ast.IfExp(test, constant(True), constant(False)), test)
    return test
