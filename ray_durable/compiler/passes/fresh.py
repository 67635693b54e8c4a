"""The fresh body: what a call of the function runs.

Goal    before each yield point its number is stored, so that `capture` knows where a frame stands.
Keeps   everything else: no guard, no test; measured 1.00-1.06 of native in tight loops.
"""

from __future__ import annotations

import ast
import copy

from ray_durable.compiler.passes.build import Suspend, assign, child_blocks, constant, load, located
from ray_durable.compiler.passes.edges import flag
from ray_durable.compiler.passes.yieldpoints import Context


def fresh_body(body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    """The statements of the fresh body."""
    found = fresh_block(body, context)
    first = next((each for each in found if hasattr(each, "lineno")), None)
    own = [*flag(context), *remember_cells(context)]
    # where the user's code begins, so that who steps through it sees no line of ours
    return [*(own if first is None else (located(each, first) for each in own)), *found]


def remember_cells(context: Context) -> list[ast.stmt]:
    # _cells = (lambda: (n, m)).__closure__      110-190 ns, only in functions with shared cells; locals show values,
    #                                            and a resumed frame needs the cells themselves
    names = cell_names(context)
    if not names:
        return []
    variables = ast.Tuple([load(name) for name in names], ast.Load())
    nothing = ast.arguments([], [], None, [], [], None, [])
    return [assign(context.names.cells, ast.Attribute(ast.Lambda(nothing, variables), "__closure__", ast.Load()))]


def cell_names(context: Context) -> tuple[str, ...]:
    """The cells that a frame carries, in the order of a closure: the captured and the free variables, sorted."""
    return tuple(sorted({*context.scope.captured, *context.scope.free}))


def fresh_block(body: list[ast.stmt], context: Context, known: bool = False) -> list[ast.stmt]:
    """A block; `known`: its only yield point is in `_at` already."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, Suspend):
            found += [suspension(statement, statement.operand)] if known else arrive(statement, context)
        elif not known and isinstance(statement, ast.For | ast.While) and (only := only_point(statement)) is not None:
            # for T in X: yield v    =>    _at = 3; for T in X: yield v        one store for all passes
            found.append(located(assign(context.names.at, constant(only.number)), statement))
            found.append(with_blocks(statement, context, known=True))
        else:
            found.append(with_blocks(statement, context, known))
    return found


def only_point(statement: ast.stmt) -> Suspend | None:
    """The yield point of a loop that has just one."""
    found: list[Suspend] = []
    stack = [statement]
    while stack and len(found) < 2:
        node = stack.pop()
        if isinstance(node, Suspend):
            found.append(node)
        stack.extend(inner for owner, name in child_blocks(node) for inner in getattr(owner, name))
    return found[0] if len(found) == 1 else None


def with_blocks(statement: ast.stmt, context: Context, known: bool = False) -> ast.stmt:
    """A copy of a compound statement whose blocks are fresh ones; simple statements are shared."""
    blocks = child_blocks(statement)
    if not blocks:
        return statement
    new = copy.copy(statement)
    if isinstance(new, ast.Try | ast.TryStar):
        new.handlers = [copy.copy(handler) for handler in new.handlers]
    elif isinstance(new, ast.Match):
        new.cases = [copy.copy(case) for case in new.cases]
    for owner, name in child_blocks(new):
        setattr(owner, name, fresh_block(getattr(owner, name), context, known))
    return new


def arrive(statement: Suspend, context: Context) -> list[ast.stmt]:
    """A yield point reached in the ordinary way."""
    number = located(assign(context.names.at, constant(statement.number)), statement)
    return [number, suspension(statement, statement.operand)]


def suspension(statement: Suspend, operand: ast.expr | None) -> ast.stmt:
    """The native suspension of a yield point, with this operand."""
    value: ast.expr
    match statement.kind:
        case "yield":
            value = ast.Yield(operand)
        case "from":
            assert operand is not None
            value = ast.YieldFrom(operand)
        case _:
            assert operand is not None
            value = ast.Await(operand)
    located(value, statement)
    return located(ast.Expr(value) if statement.target is None else assign(statement.target, value), statement)
