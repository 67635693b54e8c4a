"""Letting go: an exception that leaves a loop or an expression drops what CPython's stack held there; so do we.

Goal    on the way into a handler or a `finally`, iterators, managers and half-evaluated values of the block that was
        left are gone, as natively: `for x in gen(): raise E` closes `gen()` before the handler for E runs.
Needs   all names given out.        Leaves   pending outcomes, which the `finally` still needs.
"""

from __future__ import annotations

import ast
import re

from ray_durable.compiler.passes.build import child_blocks, clear, helper, located, try_
from ray_durable.compiler.passes.names import Names
from ray_durable.compiler.passes.yieldpoints import assigned

STACKED = re.compile(r"(it|mgr|v|item)\d+$")


def let_go(body: list[ast.stmt], names: Names) -> None:
    """Run the pass over a block, in place."""
    for statement in body:
        for owner, name in child_blocks(statement):
            let_go(getattr(owner, name), names)
        if isinstance(statement, ast.Try | ast.TryStar):
            held = [name for name in assigned(statement.body) if name in names.used and is_stacked(name, names)]
            for block in [*(handler.body for handler in statement.handlers), statement.finalbody]:
                if block and held:
                    block[:0] = [located(each, block[0]) for each in clear(held)]


def let_go_at_end(body: list[ast.stmt], names: Names, definition: ast.AST) -> list[ast.stmt]:
    """The same for an exception that leaves the function: its traceback keeps the frame, and with it all locals."""
    # try: BODY
    # except BaseException: _it2 = _it1 = None; raise          a bare `raise` leaves no trace of its own
    held = [name for name in reversed(assigned(body)) if name in names.used and name.startswith(names.prefix + "it")]
    if not held:
        return body
    handler = ast.ExceptHandler(helper("BaseException"), None, [*clear(held), ast.Raise()])
    return [located(try_(body, [located(handler, definition)]), definition)]


def is_stacked(name: str, names: Names) -> bool:
    return STACKED.match(name[len(names.prefix) :]) is not None
