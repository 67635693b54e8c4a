"""Loops: give every iterator a name, so that a resume goes on with it instead of making a new one.

Goal    no `for` that holds a yield point keeps its iterator on the value stack; `async for` becomes plain awaits.
Needs   comprehensions inlined.        Leaves   loops that cannot suspend, untouched.
Keeps   evaluation order, `else`, targets of every shape, and when an iterator is let go.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.branches import has_genexp
from ray_durable.compiler.passes.build import (
    assign,
    call,
    clear,
    constant,
    helper,
    if_,
    load,
    located,
    store,
    try_,
    while_true,
)
from ray_durable.compiler.passes.yieldpoints import Context, any_suspends, suspends


def loops(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    match statement:
        case ast.For() if suspends(statement, context) and not hasattr(statement, "iterator"):
            return named(statement, context)
        case ast.AsyncFor():
            return asynchronous(statement, context)
    return None


def named(node: ast.For, context: Context) -> list[ast.stmt]:
    # for T in X: B   =>   _it1 = loop_iter(X)       `iter`, whose result may itself lack `__iter__`: a plain `for`
    #                      for T in _it1: B          accepts that, a second `iter` would raise TypeError
    #                      _it1 = None
    iterator = context.names.fresh("it")
    target, body = node.target, node.body
    if suspends(target, context) or has_genexp(target, context):  # it is evaluated again on each pass
        item = context.names.fresh("item")
        body = [located(ast.Assign([target], load(item)), target), *body]
        target = located(store(item), target)
    loop = located(ast.For(target, located(load(iterator), node.iter), body, node.orelse), node)
    loop.iterator = iterator  # type: ignore[attr-defined]
    loop.edged = True  # type: ignore[attr-defined]
    loop.suspends = any_suspends([*body, *node.orelse], context)  # type: ignore[attr-defined]
    first = located(assign(iterator, located(call("loop_iter", node.iter), node.iter)), node)
    if not loop.suspends:  # type: ignore[attr-defined]
        loop.iter, node.target = load(iterator), target
    # the iterator goes before the `else`, as it does natively
    if node.orelse:
        loop.orelse = [located(each, node) for each in clear([iterator])] + node.orelse
    return [first, loop, *(located(each, node) for each in clear([iterator]))]


def asynchronous(node: ast.AsyncFor, context: Context) -> list[ast.stmt]:
    # async for T in X: B   =>   _it1 = async_iter(X)
    # else: E                    _done1 = False
    #                            while True:
    #                                try: _item1 = await next_of(_it1)
    #                                except StopAsyncIteration: _done1 = True; break
    #                                T = _item1
    #                                B
    #                            _it1 = None
    #                            if _done1: E
    names = context.names
    iterator, item = names.fresh("it"), names.fresh("item")
    first = located(assign(iterator, located(call("async_iter", node.iter), node.iter)), node)
    following = located(call("next_of", load(iterator)), node.iter)
    following.ready = True  # type: ignore[attr-defined]
    step: ast.expr = located(ast.Await(following), node.iter)
    over: list[ast.stmt] = [located(ast.Break(), node)]
    before: list[ast.stmt] = []
    after: list[ast.stmt] = []
    if node.orelse:
        done = names.fresh("done")
        before = [located(assign(done, constant(False)), node)]
        over.insert(0, located(assign(done, constant(True)), node))
        after = [located(if_(load(done), node.orelse), node)]
    ended = located(ast.ExceptHandler(helper("StopAsyncIteration"), None, over), node)
    attempt = located(try_([located(assign(item, step), node.iter)], [ended]), node)
    take = located(ast.Assign([node.target], load(item)), node.target)
    drop = [located(each, node) for each in clear([item])]
    loop = located(while_true([attempt, take, *drop, *node.body]), node)
    return [first, *before, loop, *(located(each, node) for each in clear([iterator])), *after]
