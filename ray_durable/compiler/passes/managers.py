"""`with`: a manager that is entered stays entered; `async with`, whose entry and exit are yield points of its own.

Goal    one manager per `with`, by name, so that a resume finds it, and the way in which an `async with` was left.
Keeps   order of entry and exit, suppression, the exception that `__exit__` sees.
Leaves  `with` statements without a yield point, untouched.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import (
    NOWHERE,
    Suspend,
    assign,
    call,
    clear,
    constant,
    helper,
    load,
    located,
    try_,
)
from ray_durable.compiler.passes.handlers import Outcomes, outcome
from ray_durable.compiler.passes.yieldpoints import Context, suspends


def managers(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    match statement:
        case ast.With() if suspends(statement, context) and not hasattr(statement, "manager"):
            return nested(statement, context)
        case ast.AsyncWith() if not hasattr(statement, "manager"):
            return nested(statement, context)
    return None


def nested(node: ast.With | ast.AsyncWith, context: Context) -> list[ast.stmt]:
    # with A as a, B: S   =>   with A as a:
    #                              with B: S
    body = node.body
    for item in reversed(node.items):
        body = single(node, item, body, context)
    return body


def single(
    node: ast.With | ast.AsyncWith, item: ast.withitem, body: list[ast.stmt], context: Context
) -> list[ast.stmt]:
    if isinstance(node, ast.AsyncWith):
        return asynchronous(item, body, context)
    # with M as T: B      =>   _mgr1 = manager(M)
    #                          with _mgr1 as T: B
    #                          _mgr1 = None
    expression = item.context_expr
    name = context.names.fresh("mgr")
    target = item.optional_vars
    if target is not None and suspends(target, context):
        held = context.names.fresh("item")
        body = [located(ast.Assign([target], load(held)), target), *body]
        target = located(ast.Name(held, ast.Store()), target)
    first = located(assign(name, located(call("manager", expression), expression)), expression)
    entered = located(ast.With([ast.withitem(located(load(name), expression), target)], body), expression)
    entered.manager = name  # type: ignore[attr-defined]
    return [first, entered, *(located(each, NOWHERE) for each in clear([name]))]


def asynchronous(item: ast.withitem, body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    # async with M as T: B   =>   _mgr1 = manager(M)
    #                             async with async_manager(_mgr1) as T:
    #                                 try:
    #                                     B                              return E  =>  _left1 = ("return", E); return …
    #                                     _left1 = None                  break     =>  _left1 = ("break",); break
    #                                 except BaseException as _exc1:
    #                                     _left1 = ("raise", _exc1)      a resume in `__aexit__` leaves B again as
    #                                     raise                          `_left1` says
    #                             _mgr1 = _left1 = None
    names = context.names
    manager, left, error = names.fresh("mgr"), names.fresh("left"), names.fresh("exc")
    expression, target = item.context_expr, item.optional_vars

    if target is not None and not isinstance(target, ast.Name):  # it may fail, when the manager is entered already
        held = names.fresh("item")
        body = [
            located(ast.Assign([target], load(held)), target),
            *(located(each, target) for each in clear([held])),
            *body,
        ]
        target = located(ast.Name(held, ast.Store()), target)
    outcomes = Outcomes(left)
    outcomes.within(body)
    failed = ast.ExceptHandler(helper("BaseException"), error, [outcome(left, "raise", load(error)), ast.Raise()])
    attempt = located(
        try_([*body, located(assign(left, constant(None)), NOWHERE)], [located(failed, NOWHERE)]), body[0]
    )
    attempt.prepared = True  # type: ignore[attr-defined]
    call_ = located(call("async_manager", load(manager)), expression)
    entered = located(ast.AsyncWith([ast.withitem(call_, target)], [attempt]), expression)
    entered.manager, entered.left = manager, left  # type: ignore[attr-defined]
    entered.leaves_by = frozenset(outcomes.kinds)  # type: ignore[attr-defined]
    entered.enter = located(Suspend("await", load(manager)), expression)  # type: ignore[attr-defined]
    entered.leave = located(Suspend("await", load(left)), expression)  # type: ignore[attr-defined]
    first = assign(manager, located(call("manager", expression), expression))
    return [located(first, expression), entered, *(located(each, NOWHERE) for each in clear([manager, left]))]
