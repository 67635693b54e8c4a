"""Letting go: an exception that leaves a loop or an expression drops what CPython's stack held there; so do we.

Goal    on the way into a handler or a `finally`, iterators, managers and half-evaluated values of the block that was
        left are gone, as natively: `for x in gen(): raise E` closes `gen()` before the handler for E runs.
Needs   all names given out.        Leaves   pending outcomes, which the `finally` still needs.
"""

from __future__ import annotations

import ast
import re

from ray_durable.compiler.passes.build import NOWHERE, assign, child_blocks, clear, helper, load, located, try_
from ray_durable.compiler.passes.names import Names
from ray_durable.compiler.passes.yieldpoints import assigned

STACKED = re.compile(r"(it|mgr|v|item)\d+$")


def let_go(body: list[ast.stmt], names: Names) -> None:
    """Run the pass over a block, in place."""
    for statement in body:
        for owner, name in child_blocks(statement):
            let_go(getattr(owner, name), names)
        if isinstance(statement, ast.Try | ast.TryStar):
            held = stacked(statement.body, names)
            for block in [*(handler.body for handler in statement.handlers), statement.finalbody]:
                if block and held:
                    block[:0] = [located(each, block[0]) for each in clear(held)]
        elif isinstance(statement, ast.With):
            statement.body = let_go_at_end(statement.body, names, statement)


def let_go_at_return(body: list[ast.stmt], names: Names, loops: tuple[str, ...] = (), inside: bool = False) -> None:
    """The same for a `return` out of loops inside a `with` or `finally`, which runs after they are gone. In place.

    `loops`: the iterators of the loops around, up to the next such statement; `inside`: whether there is one."""
    # with M:                              with M:
    #     for x in _it1: return f(x)  =>       for x in _it1: _item1 = f(x); _it1 = None; return _item1
    for index in reversed(range(len(body))):
        statement = body[index]
        match statement:
            case ast.Return() if inside and loops:
                body[index : index + 1] = returning(statement, names, loops)
            case ast.For() | ast.AsyncFor() if hasattr(statement, "iterator"):
                let_go_at_return(statement.body, names, (statement.iterator, *loops), inside)
                let_go_at_return(statement.orelse, names, loops, inside)
            case ast.With() | ast.AsyncWith():
                let_go_at_return(statement.body, names, (), True)
            case ast.Try() | ast.TryStar() if statement.finalbody:
                for block in (statement.body, *(handler.body for handler in statement.handlers), statement.orelse):
                    let_go_at_return(block, names, (), True)
                let_go_at_return(statement.finalbody, names, loops, inside)
            case _:
                for owner, name in child_blocks(statement):
                    let_go_at_return(getattr(owner, name), names, loops, inside)


def returning(statement: ast.Return, names: Names, loops: tuple[str, ...]) -> list[ast.stmt]:
    gone = [located(each, statement) for each in clear(loops)]
    for each in gone:
        each.leaves = True  # type: ignore[attr-defined]
    if statement.value is None or isinstance(statement.value, ast.Constant):
        return [*gone, statement]
    held = names.fresh("item")
    first = located(assign(held, statement.value), statement)
    return [first, *gone, located(ast.Return(load(held)), statement)]


def let_go_at_end(body: list[ast.stmt], names: Names, definition: ast.AST) -> list[ast.stmt]:
    """The same for an exception that leaves the function: its traceback keeps the frame, and with it all locals."""
    # try: BODY
    # except BaseException: _it2 = _v1 = None; raise           a bare `raise` leaves no trace of its own
    held = stacked(body, names)
    if not held:
        return body
    handler = ast.ExceptHandler(helper("BaseException"), None, [*clear(held), ast.Raise()])
    return [located(try_(body, [located(handler, NOWHERE)]), body[0])]


def stacked(body: list[ast.stmt], names: Names) -> list[str]:
    """What CPython would have on its stack somewhere in a block, and the outcomes of the `async with`s in it."""
    found = [
        name for name in reversed(assigned(body)) if name in names.used and STACKED.match(name[len(names.prefix) :])
    ]
    return [*found, *outcomes(body)]


def outcomes(body: list[ast.stmt]) -> list[str]:
    found: list[str] = []
    for statement in body:
        if isinstance(statement, ast.AsyncWith):
            found.append(statement.left)  # type: ignore[attr-defined]
        for owner, name in child_blocks(statement):
            found += outcomes(getattr(owner, name))
    return found
