"""Loops: give every iterator a name, so that a resume goes on with it instead of making a new one.

Goal    no `for` that holds a yield point has its iterator on the value stack alone; nor has an `async for`, whose steps
        are yield points of its own.
Needs   comprehensions inlined.        Leaves   loops that cannot suspend, untouched.
Keeps   evaluation order, `else`, targets of every shape, and when an iterator is let go.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.branches import has_genexp
from ray_durable.compiler.passes.build import NOWHERE, Suspend, assign, call, clear, load, located, store
from ray_durable.compiler.passes.yieldpoints import Context, any_suspends, suspends


def loops(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    match statement:
        case ast.For() if suspends(statement, context) and not hasattr(statement, "iterator"):
            return named(statement, context)
        case ast.AsyncFor() if not hasattr(statement, "iterator"):
            return asynchronous(statement, context)
    return None


def named(node: ast.For, context: Context) -> list[ast.stmt]:
    # for T in X: B   =>   _it1 = loop_iter(X)       `iter`, whose result may itself lack `__iter__`: a plain `for`
    #                      for T in _it1: B          accepts that, a second `iter` would raise TypeError
    #                      _it1 = None
    iterator = context.names.fresh("it")
    target, body = itemized(node, context)
    loop = located(ast.For(target, located(load(iterator), node.iter), body, node.orelse), node)
    loop.iterator = iterator  # type: ignore[attr-defined]
    loop.edged = True  # type: ignore[attr-defined]
    loop.suspends = any_suspends([*body, *node.orelse], context)  # type: ignore[attr-defined]
    first = located(assign(iterator, located(call("loop_iter", node.iter), node.iter)), node)
    if not loop.suspends:  # type: ignore[attr-defined]
        loop.iter, node.target = load(iterator), target
    loop.orelse = let_go_first(node.orelse, iterator)
    return [first, loop, *(located(each, NOWHERE) for each in clear([iterator]))]


def asynchronous(node: ast.AsyncFor, context: Context) -> list[ast.stmt]:
    # async for T in X: B   =>   _it1 = async_iter(X)
    #                            async for T in async_steps(_it1): B     awaits, and ends, as natively
    #                            _it1 = None
    iterator = context.names.fresh("it")
    target, body = itemized(node, context)
    steps = located(call("async_steps", load(iterator)), node.iter)
    loop = located(ast.AsyncFor(target, steps, body, let_go_first(node.orelse, iterator)), node)
    loop.iterator = iterator  # type: ignore[attr-defined]
    loop.step = located(Suspend("await", call("next_of", load(iterator))), node.iter)  # type: ignore[attr-defined]
    first = located(assign(iterator, located(call("async_iter", node.iter), node.iter)), node)
    return [first, loop, *(located(each, NOWHERE) for each in clear([iterator]))]


def itemized(node: ast.For | ast.AsyncFor, context: Context) -> tuple[ast.expr, list[ast.stmt]]:
    """Target and body of a loop, where the target cannot suspend."""
    # for a[(yield)] in X: B   =>   for _item1 in X: a[(yield)] = _item1; B
    target = node.target
    if not (suspends(target, context) or has_genexp(target, context)):
        return target, node.body
    item = context.names.fresh("item")
    return located(store(item), target), [located(ast.Assign([target], load(item)), target), *node.body]


def let_go_first(orelse: list[ast.stmt], iterator: str) -> list[ast.stmt]:
    """The `else` of a loop, before which its iterator goes, as it does natively."""
    return [*(located(each, NOWHERE) for each in clear([iterator])), *orelse] if orelse else []
