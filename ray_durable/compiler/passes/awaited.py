"""The resume body of `async for` and `async with`, whose own awaits are yield points.

Goal    a resume into a step goes on with the step that was under way; one into an entry or exit, with what that awaits.
Keeps   the native statement, which awaits and ends as it does in the fresh body.
Needs   `prologue`, of which this is a part: `writer` is its `Resume`.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING

from ray_durable.compiler.passes.build import (
    Suspend,
    assign,
    call,
    clear,
    compare,
    constant,
    helper,
    if_,
    load,
    located,
    not_,
    store,
    try_,
)
from ray_durable.compiler.passes.fresh import fresh_block, points_in, stepping, suspension

if TYPE_CHECKING:
    from ray_durable.compiler.passes.prologue import Resume


def async_loop(writer: Resume, node: ast.AsyncFor, sure: bool) -> list[ast.stmt]:
    # async for T in _it1: B   =>   for _it1 in (_it1,) if _to else ():      the pass that a resume leads into
    # else: E                           if _to == 3:
    #                                       try: _to = 0; _item1 = await (_delegate.pop() if _delegate else …)
    #                                       except StopAsyncIteration: _it1 = no_items; continue
    #                                       T = _item1
    #                                   B, from the yield point on
    #                               else:
    #                                   async for T in _it1: B               those after it, as in the fresh body
    #                                   else: E
    step: Suspend = node.step  # type: ignore[attr-defined]
    iterator: str = node.iterator  # type: ignore[attr-defined]
    inside, after = points_in([step, *node.body]), points_in(node.orelse)
    assert inside is not None
    if writer.known:
        rest = copy.copy(node)
        rest.body, before = fresh_block(node.body, writer.context, True), []
    else:
        *before, rest = stepping(node, writer.context)  # type: ignore[assignment]
    rest.orelse = writer.block(node.orelse)
    if after:
        rest.iter = located(ast.IfExp(writer.travelling(), helper("no_items"), rest.iter), rest.iter)
    passes: ast.expr = ast.Tuple([load(iterator)], ast.Load())
    if after or not sure:
        here = writer.within(inside) if after else writer.travelling()
        passes = ast.IfExp(here, passes, ast.Tuple([], ast.Load()))
    first = [*landed(writer, node, step), *writer.inside(node.body, None, False)]
    return [located(ast.For(store(iterator), passes, first, [*before, rest]), node.iter)]


def landed(writer: Resume, node: ast.AsyncFor, step: Suspend) -> list[ast.stmt]:
    """The rest of the step that a resume leads into, and its item in the target; only where that is the step."""
    names = writer.context.names
    iterator: str = node.iterator  # type: ignore[attr-defined]
    item = names.fresh("item")
    awaited = located(Suspend("await", None, item), step)
    land = [*writer.arriving(step), suspension(awaited, writer.landed_operand(step))]
    over = [assign(iterator, helper("no_items")), ast.Continue()]
    ended = located(ast.ExceptHandler(helper("StopAsyncIteration"), None, over), step)
    take = located(ast.Assign([node.target], load(item)), node.target)
    body = [located(try_(land, [ended]), step), take, *(located(each, step) for each in clear([item]))]
    return [located(if_(compare(load(writer.to), ast.Eq(), constant(step.number)), body), step)]


def async_managed(writer: Resume, node: ast.AsyncWith, sure: bool) -> list[ast.stmt]:
    # async with M as T:       =>   _mgr2 = async_resumed(_mgr1, _delegate, _to == 3) if _to else M
    #     try: B                    _at = 3
    #     except …                  if _to == 3: _to = 0                      3: the entry
    #                               async with _mgr2 as _item1:
    #                                   if not _to: T = _item1
    #                                   try:
    #                                       if _to == 5: (raise, return, break or continue again, as _left1 says)
    #                                       else: B
    #                                   except …
    #                                   finally:                              5: the exit
    #                                       if _to: forward(_saved1)
    #                                       _to = 0
    names, to = writer.context.names, writer.to
    enter: Suspend = node.enter  # type: ignore[attr-defined]
    leave: Suspend = node.leave  # type: ignore[attr-defined]
    left: str = node.left  # type: ignore[attr-defined]
    item, attempt = node.items[0], node.body[0]
    assert isinstance(attempt, ast.Try)
    resumed, saved = names.fresh("mgr"), names.fresh("saved")

    def at(statement: ast.stmt) -> ast.stmt:
        return located(statement, item.context_expr)

    entering = compare(load(to), ast.Eq(), constant(enter.number))
    manager: ast.expr = call("async_resumed", load(node.manager), load(names.delegate), entering)  # type: ignore[attr-defined]
    if not sure:
        manager = ast.IfExp(writer.travelling(), manager, item.context_expr)
    body = [at(each) for each in clear([resumed])]
    target: ast.expr | None = None
    if item.optional_vars is not None:
        held = names.fresh("item")
        target = store(held)
        take = [located(ast.Assign([item.optional_vars], load(held)), item.optional_vars), *clear([held])]
        body.append(at(if_(not_(writer.travelling()), take)))
    out = [at(each) for each in writer.left_again(left, node.leaves_by, saved)]  # type: ignore[attr-defined]
    inside = writer.inside(attempt.body, left, False)
    first = at(if_(compare(load(to), ast.Eq(), constant(leave.number)), out, inside))
    last = [at(writer.restored(saved)), *writer.arriving(leave)]
    body.append(at(try_([first], attempt.handlers, [], last)))
    entered = at(ast.AsyncWith([ast.withitem(located(load(resumed), item.context_expr), target)], body))
    arrived, at_entry = writer.arriving(enter)
    return [at(assign(resumed, manager)), arrived, at(if_(copy.copy(entering), [at_entry])), entered]
