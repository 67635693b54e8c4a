"""The fresh body: what a call of the function runs.

Goal    before each yield point its number is stored, so that `capture` knows where a frame stands.
Keeps   everything else: no guard, no test; measured 1.00-1.06 of native in tight loops.
"""

from __future__ import annotations

import ast
import copy

from ray_durable.compiler.passes.build import (
    NOWHERE,
    Suspend,
    assign,
    call,
    child_blocks,
    constant,
    load,
    located,
    own_points,
)
from ray_durable.compiler.passes.edges import flag
from ray_durable.compiler.passes.stopping import watched
from ray_durable.compiler.passes.yieldpoints import Context

Range = tuple[int, int] | None


def fresh_body(body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    """The statements of the fresh body."""
    found = fresh_block(body, context)
    first = next((each for each in found if hasattr(each, "lineno")), None)
    own = [*flag(context), *remember_cells(context)]
    # where the user's code begins, so that who steps through it sees no line of ours
    return [*(own if first is None else (located(each, first) for each in own)), *found]


def remember_cells(context: Context) -> list[ast.stmt]:
    # _cells = closure(lambda: (n, m))    110-190 ns, only in functions with shared cells; locals show values, and a
    #                                     resumed frame needs the cells themselves
    names = cell_names(context)
    if not names:
        return []
    variables = ast.Tuple([load(name) for name in names], ast.Load())
    nothing = ast.arguments([], [], None, [], [], None, [])
    return [assign(context.names.cells, call("closure", ast.Lambda(nothing, variables)))]


def cell_names(context: Context) -> tuple[str, ...]:
    """The cells that a frame carries, in the order of a closure: the captured and the free variables, sorted."""
    return tuple(sorted({*context.scope.captured, *context.scope.free}))


def fresh_block(body: list[ast.stmt], context: Context, known: bool = False) -> list[ast.stmt]:
    """A block; `known`: its only yield point is in `_at` already."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, Suspend):
            found += [suspension(statement, statement.operand)] if known else arrive(statement, context)
        elif not known and isinstance(statement, LOOPS) and (only := only_point(statement)) is not None:
            # for T in X: yield v    =>    _at = 3; for T in X: yield v        one store for all passes
            found.append(located(assign(context.names.at, constant(only.number)), statement))
            found.append(with_blocks(statement, context, known=True))
        elif not known and isinstance(statement, ast.AsyncFor):
            found += stepping(statement, context)
        elif isinstance(statement, ast.AsyncWith):
            found += entering(statement, context)
        else:
            found.append(with_blocks(statement, context, known))
    return found


LOOPS = ast.For | ast.AsyncFor | ast.While


def stepping(node: ast.AsyncFor, context: Context) -> list[ast.stmt]:
    # async for T in _it1: B    =>    _at = 3
    #                                 async for T in _it1:
    #                                     B                  also before each `continue`
    #                                     _at = 3
    number = node.step.number  # type: ignore[attr-defined]
    store = located(assign(context.names.at, constant(number)), node)
    new = with_blocks(node, context)
    assert isinstance(new, ast.AsyncFor)
    if points_in(node.body):
        before_continue(new.body, store)
        new.body.append(located(copy.copy(store), NOWHERE))
    return [store, new]


def before_continue(body: list[ast.stmt], store: ast.stmt) -> None:
    """Put `store` before each `continue` of a loop, in place; and after what suspends on the way out of a statement."""
    for index in reversed(range(len(body))):
        statement = body[index]
        if isinstance(statement, ast.Continue):
            body.insert(index, located(copy.copy(store), statement))
        elif isinstance(statement, LOOPS):
            before_continue(statement.orelse, store)
        elif isinstance(statement, ast.AsyncWith) or (isinstance(statement, ast.Try) and statement.finalbody):
            # async with M: …; continue    =>    try: async with M: …; continue
            #                                    finally: _at = 3
            if continues(statement):
                again = located(copy.copy(store), NOWHERE)
                body[index] = located(ast.Try([statement], [], [], [again]), statement)
        else:
            for owner, name in child_blocks(statement):
                before_continue(getattr(owner, name), store)


def continues(statement: ast.stmt) -> bool:
    """Whether a `continue` leaves this statement."""
    if isinstance(statement, ast.Continue):
        return True
    blocks = [(statement, "orelse")] if isinstance(statement, LOOPS) else child_blocks(statement)
    return any(continues(inner) for owner, name in blocks for inner in getattr(owner, name))


def entering(node: ast.AsyncWith, context: Context) -> list[ast.stmt]:
    # async with M as T: try: B …    =>    _at = 3
    #                                      async with M as T:
    #                                          try: B …
    #                                          finally: _at = 5
    new = with_blocks(node, context)
    assert isinstance(new, ast.AsyncWith)
    (attempt,) = new.body
    assert isinstance(attempt, ast.Try)
    at, enter, leave = context.names.at, node.enter, node.leave  # type: ignore[attr-defined]
    attempt.finalbody = [located(assign(at, constant(leave.number)), NOWHERE)]  # CPython leaves in the manager's line
    return [located(assign(at, constant(enter.number)), enter), new]


def only_point(statement: ast.stmt) -> Suspend | None:
    """The yield point of a loop that has just one."""
    where = points_of(statement)
    if where is None or where[0] != where[1]:
        return None
    found: list[ast.stmt] = [statement]
    while not isinstance(node := found.pop(), Suspend):
        found += [inner for owner, name in child_blocks(node) for inner in getattr(owner, name)]
        found += own_points(node)[0]
    return node


def points_in(nodes: list[ast.stmt]) -> Range:
    """The first and last number of the yield points in a block."""
    found: Range = None
    for node in nodes:
        where = points_of(node)
        if where is not None:
            found = where if found is None else (min(found[0], where[0]), max(found[1], where[1]))
    return found


def points_of(node: ast.stmt) -> Range:
    """The same for one statement, which remembers it."""
    if hasattr(node, "points"):
        known: Range = node.points
        return known
    if isinstance(node, Suspend):
        found: Range = (node.number, node.number)
    else:
        before, after = own_points(node)
        found = points_in(
            [*before, *(inner for owner, name in child_blocks(node) for inner in getattr(owner, name)), *after]
        )
    node.points = found  # type: ignore[attr-defined]
    return found


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
    found = located(ast.Expr(value) if statement.target is None else assign(statement.target, value), statement)
    return watched(found) if statement.watched else found
