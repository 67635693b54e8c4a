"""StopIteration out of a plain function: its twin is a generator, which CPython has end by a RuntimeError instead.

Goal    a handler, a `finally` or a manager around a call sees the StopIteration that the function raised.
Needs   final yield points.    Leaves   calls outside of any `try` and `with`: the RuntimeError goes through.

    x = yield from _v2(a)    =>    try: x = yield from _v2(a)
                                   except RuntimeError:
                                       if stopped(): again(stop())           in the user's line: no frame of ours
                                       raise
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import Suspend, call, child_blocks, helper, if_, located, try_

AROUND = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith)


def watch_calls(body: list[ast.stmt], inside: bool = False) -> None:
    """Mark the calls in a block whose exception something around them may see. In place."""
    for statement in body:
        if isinstance(statement, Suspend):
            statement.watched = inside and statement.is_call
        for owner, name in child_blocks(statement):
            watch_calls(getattr(owner, name), inside or isinstance(statement, AROUND))


def watched(statement: ast.stmt) -> ast.stmt:
    """The statement of such a call, in its final form."""
    again = ast.Expr(call("again", call("stop")))
    body = [if_(call("stopped"), [again]), ast.Raise()]
    handler = ast.ExceptHandler(helper("RuntimeError"), None, [located(each, statement) for each in body])
    return located(try_([statement], [located(handler, statement)]), statement)
