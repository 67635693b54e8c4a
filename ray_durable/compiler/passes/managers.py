"""`with`: a manager that is entered stays entered; `async with`, whose entry and exit may suspend, becomes `try`.

Goal    one manager per `with`, by name, so that a resume finds it; no `async with` is left.
Keeps   order of entry and exit, suppression, the exception that `__exit__` sees.
Leaves  `with` statements without a yield point, untouched.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import assign, call, clear, constant, helper, if_, load, located, not_, try_
from ray_durable.compiler.passes.yieldpoints import Context, suspends


def managers(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    match statement:
        case ast.With() if suspends(statement, context) and not hasattr(statement, "manager"):
            return nested(statement, context)
        case ast.AsyncWith():
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
    return [first, entered, *(located(each, expression) for each in clear([name]))]


def asynchronous(item: ast.withitem, body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    # async with M as T: B   =>   _mgr1 = async_manager(M)
    #                             _item1 = await _mgr1.enter()
    #                             _done1 = False
    #                             try:
    #                                 try: T = _item1; B
    #                                 except BaseException as _exc1:
    #                                     _done1 = True
    #                                     if not await _mgr1.leave(_exc1): raise
    #                             finally:
    #                                 if not _done1: await _mgr1.leave(None)
    names = context.names
    expression = item.context_expr
    manager, entered, done, error = names.fresh("mgr"), names.fresh("item"), names.fresh("done"), names.fresh("exc")

    def at(statement: ast.stmt) -> ast.stmt:
        return located(statement, expression)

    def awaited(function: str, *arguments: ast.expr) -> ast.expr:
        return located(ast.Await(located(call(function, load(manager), *arguments), expression)), expression)

    enter: list[ast.stmt] = [
        at(assign(manager, located(call("manager", expression), expression))),
        at(assign(entered, awaited("enter_async"))),
        at(assign(done, constant(False))),
    ]
    if item.optional_vars is not None:
        body = [at(ast.Assign([item.optional_vars], load(entered))), *(at(each) for each in clear([entered])), *body]
    else:
        enter.append(at(clear([entered])[0]))
    reraise = at(if_(not_(awaited("leave_async", load(error))), [at(ast.Raise())]))
    failed = at_handler(error, [at(assign(done, constant(True))), reraise], expression)
    attempt = at(try_(body, [failed]))
    leave = at(if_(not_(load(done)), [at(ast.Expr(awaited("leave_async", constant(None))))]))
    return [*enter, at(try_([attempt], [], [], [leave])), *(at(each) for each in clear([manager]))]


def at_handler(name: str, body: list[ast.stmt], where: ast.AST) -> ast.ExceptHandler:
    return located(ast.ExceptHandler(helper("BaseException"), name, body), where)
