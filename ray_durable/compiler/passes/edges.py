"""Back-edges as yield points, in functions that asked for them.

Goal    each pass of a loop ends with a test of one flag, and suspends when it is set.
Keeps   `else`, `break`, `continue`.        Leaves   comprehensions, and functions that did not ask.

    while T: B    =>    while T:
                            B                           (and before each `continue`)
                            if _due: yield from back_edge()
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import Suspend, assign, call, child_blocks, clear, helper, if_, load, located
from ray_durable.compiler.passes.yieldpoints import Context


def edges(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    # `edged`: has its test already, or is a loop that a pass made of one that has
    if not context.back_edges or not isinstance(statement, ast.For | ast.While) or hasattr(statement, "edged"):
        return None
    statement.edged = True  # type: ignore[union-attr]
    before_continue(statement.body, context)
    statement.body = [*statement.body, edge(statement.body[-1], context)]
    return [statement]


def edge(at: ast.stmt, context: Context) -> ast.stmt:
    kind, function = ("await", "back_edge_async") if context.is_async else ("from", "back_edge")
    suspend = Suspend("await" if kind == "await" else "from", located(call(function), at))
    return located(if_(load(context.names.due), [located(suspend, at)]), at)


def flag(context: Context) -> list[ast.stmt]:
    # _due = DUE          a local is the cheapest to test; never part of a frame
    # _site1 = … = None   what call sites remember (`calls`)
    due = [assign(context.names.due, helper("due"))] if context.back_edges else []
    return [*due, *clear(context.names.sites)]


def before_continue(body: list[ast.stmt], context: Context) -> None:
    """Put the test before each `continue` of this loop, in place."""
    for index in reversed(range(len(body))):
        statement = body[index]
        if isinstance(statement, ast.Continue):
            body.insert(index, edge(statement, context))
        elif isinstance(statement, ast.For | ast.AsyncFor | ast.While):
            before_continue(statement.orelse, context)
        else:
            for owner, name in child_blocks(statement):
                before_continue(getattr(owner, name), context)
