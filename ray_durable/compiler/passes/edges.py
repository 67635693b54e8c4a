"""Back-edges as yield points, in functions that asked for them.

Goal    a loop that is due to suspend is left by `BackEdge`, and entered again with the iterator that it had.
Keeps   `else`, `break`, `continue`; the loop itself, which runs as fast as natively where jumps are monitored.
Leaves  comprehensions, and functions that did not ask.

    for T in X: B     =>    _it1 = loop_iter(X)
    else: E                 _done1 = False
                            while True:
                                try:
                                    for T in _it1:
                                        B
                                        if _due: raise BackEdge()     only where nothing monitors jumps; also before
                                    else: _done1 = True                  each `continue`
                                    break
                                except BackEdge: pass
                                yield from back_edge()
                            if _done1: E

Before a `continue` in a `try` or `with`, which would meet the exception: if _due: yield from back_edge().
"""

from __future__ import annotations

import ast
import copy

from ray_durable.compiler import backedges
from ray_durable.compiler.passes.branches import has_genexp
from ray_durable.compiler.passes.build import (
    Suspend,
    assign,
    call,
    child_blocks,
    clear,
    constant,
    helper,
    if_,
    load,
    located,
    not_,
    try_,
    while_true,
)
from ray_durable.compiler.passes.loops import named
from ray_durable.compiler.passes.scopes import COMPREHENSIONS
from ray_durable.compiler.passes.yieldpoints import Context, suspends


def edges(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    # `edged`: has its `try` already, or is a loop that a pass made of one that has
    if not context.back_edges or not isinstance(statement, ast.For | ast.While) or hasattr(statement, "edged"):
        return None
    node = statement
    # what is called in a test is evaluated in statements of its own, which may hold loops
    tested = backedges.tool() is None or (isinstance(node, ast.While) and suspends(node.test, context))
    before_continue(node.body, context, tested)
    if tested:
        node.body = [*node.body, leave(node.body[-1], context)]
    else:
        context.loops.append(head(node))
    done = context.names.fresh("done") if node.orelse else None
    over: list[ast.stmt] = [located(assign(done, constant(True)), node)] if done else []
    otherwise, node.orelse = node.orelse, []
    if isinstance(node, ast.For):
        before, loop, after = for_(node, over, context)
    else:
        before, loop, after = while_(node, over, context, tested)
    caught = located(ast.ExceptHandler(helper("BackEdge"), None, [ast.Pass()]), node)
    attempt = located(try_([loop, located(ast.Break(), node)], [caught]), node)
    found = [*before, located(while_true([attempt, suspended(node, context)]), node), *after]
    if done is None:
        return found
    first = located(assign(done, constant(False)), node)
    return [first, *found, located(if_(load(done), otherwise), node)]


def head(node: ast.For | ast.While) -> backedges.Head:
    if isinstance(node, ast.For):
        return backedges.Head(True, place(node), place(at_iterable(node, node.iter)))
    return backedges.Head(False, place(node), place(node.test))


def at_iterable(node: ast.For, new: ast.expr) -> ast.expr:
    """`new` at the place of a loop's iterable; at its first character if that is a comprehension, a loop itself."""
    new = located(copy.copy(new), node.iter)
    if isinstance(node.iter, COMPREHENSIONS):
        new.end_lineno, new.end_col_offset = node.iter.lineno, node.iter.col_offset + 1
    return new


def place(node: ast.stmt | ast.expr) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


Parts = tuple[list[ast.stmt], ast.stmt, list[ast.stmt]]  # what comes before, the loop itself, what comes after


def for_(node: ast.For, over: list[ast.stmt], context: Context) -> Parts:
    iterable = at_iterable(node, node.iter)
    first, loop, *after = named(node, context)
    assert isinstance(loop, ast.For)
    loop.iter, loop.orelse = located(load(loop.iter.id), iterable), over  # type: ignore[attr-defined]
    return [first], loop, after


def while_(node: ast.While, over: list[ast.stmt], context: Context, tested: bool) -> Parts:
    # while T: B    =>    while True:                  jumps back to before the test, which is made once a pass
    #                         if not T: break
    #                         B
    if tested and (suspends(node.test, context) or not has_genexp(node.test, context)):
        node.edged, node.orelse = True, over  # type: ignore[attr-defined]
        return [], node, []
    if isinstance(node.test, ast.Constant) and node.test.value:
        # while True: B    =>    while True: _step1 = None; B           a place to jump to that nothing else jumps to
        first = located(clear([context.names.fresh("step")])[0], node.test)
    else:
        first = located(if_(located(not_(node.test), node.test), [*over, located(ast.Break(), node)]), node.test)
    loop = located(while_true([first, *node.body]), node)
    loop.header = node.test  # type: ignore[attr-defined]
    loop.end_lineno, loop.end_col_offset = node.lineno, node.col_offset  # other than that of the loop around the `try`
    return [], loop, []


def leave(at: ast.stmt, context: Context) -> ast.stmt:
    # if _due: raise BackEdge()
    return located(if_(due(), [located(ast.Raise(call("BackEdge")), at)]), at)


def due() -> ast.expr:
    return load(backedges.DUE_NAME)


def suspended(at: ast.stmt, context: Context) -> ast.stmt:
    if context.is_async:
        return located(Suspend("await", located(call("back_edge_async"), at)), at)
    return located(Suspend("from", located(call("back_edge"), at)), at)


def flag(context: Context) -> list[ast.stmt]:
    # _site1 = … = None   what call sites remember (`calls`)
    return clear(context.names.sites)


def before_continue(body: list[ast.stmt], context: Context, tested: bool, guarded: bool = False) -> None:
    """Put the test before each `continue` of this loop, in place. `guarded`: it stands in a `try` or `with`."""
    for index in reversed(range(len(body))):
        statement = body[index]
        if isinstance(statement, ast.Continue):
            if guarded:
                body.insert(index, located(if_(due(), [suspended(statement, context)]), statement))
            elif tested:
                body.insert(index, leave(statement, context))
        elif isinstance(statement, ast.For | ast.AsyncFor | ast.While):
            before_continue(statement.orelse, context, tested, guarded)
        else:
            deeper = guarded or not isinstance(statement, ast.If | ast.Match)
            for owner, name in child_blocks(statement):
                before_continue(getattr(owner, name), context, tested, deeper)
