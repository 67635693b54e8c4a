"""The resume body: from a captured frame straight back to its yield point, evaluating nothing on the way.

The arguments are the frame: all variables, the yield point to reach (`_to`), what it delegates to, and the compiler's
locals. While `_to` is not 0, guards on the path let only the way to that yield point pass; arrived, `_to` becomes 0
and everything runs as in the fresh body, on the same numbers. What only a call would come by is left out.

Goal    a second body that enters each construct as a resume must.       Needs   numbered yield points.
Keeps   native handlers, managers and loops: a resume enters them by repeating what led into them; and the speed of the
        fresh body, whose loops stand behind the pass that a resume leads into.
"""

from __future__ import annotations

import ast
import copy

from ray_durable.compiler.passes.awaited import async_loop, async_managed
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
from ray_durable.compiler.passes.edges import flag
from ray_durable.compiler.passes.fresh import LOOPS, Range, arrive, fresh_block, only_point, points_in, suspension
from ray_durable.compiler.passes.yieldpoints import Context


def resume_body(body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    """The statements of the resume body."""
    return [unbind(context), *flag(context), *Resume(context).block(body, sure=True)]


def unbind(context: Context) -> ast.stmt:
    # if _to < 0:                       some variables had no value: a negative number says so
    #     _to = -_to
    #     if x is UNBOUND: del x
    to = context.names.to
    body: list[ast.stmt] = [assign(to, ast.UnaryOp(ast.USub(), load(to)))]
    body += [
        if_(compare(load(name), ast.Is(), helper("UNBOUND")), [ast.Delete([ast.Name(name, ast.Del())])])
        for name in context.scope.variables
    ]
    return if_(compare(load(to), ast.Lt(), constant(0)), body)


class Resume:
    """Writes the resume body, statement by statement.

    `sure`, wherever it is an argument: what is written is met only on the way to a yield point in it, so that nothing
    before the first of them ever runs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.to = context.names.to
        self.known = False  # whether the yield point of the loop around is in `_at` already
        self.around: list[str | None] = []  # names of the pending outcomes of the `try`s around; None for a loop

    # ---- tests of `_to` ----------------------------------------------------------------------------------------------
    def travelling(self) -> ast.expr:
        return load(self.to)

    def up_to(self, last: int) -> ast.expr:
        return compare(load(self.to), ast.LtE(), constant(last))

    def within(self, where: tuple[int, int]) -> ast.expr:
        first, last = where
        if first == last:
            return compare(load(self.to), ast.Eq(), constant(first))
        return ast.Compare(constant(first), [ast.LtE(), ast.LtE()], [load(self.to), constant(last)])

    def arriving(self, statement: Suspend) -> list[ast.stmt]:
        return [
            located(assign(self.context.names.at, constant(statement.number)), statement),
            located(assign(self.to, constant(False)), statement),  # not 0: CPython tests its two bools fastest
        ]

    # ---- blocks ------------------------------------------------------------------------------------------------------
    def block(self, body: list[ast.stmt], sure: bool = False) -> list[ast.stmt]:
        """A block that is entered normally, or on the way to a yield point in it."""
        last = max((index for index, statement in enumerate(body) if points_in([statement])), default=-1)
        found: list[ast.stmt] = []
        waiting: list[ast.stmt] = []  # statements without yield points: passed over while travelling
        for index, statement in enumerate(body):
            where = points_in([statement])
            if index > last:
                found.append(statement)
            elif where is None:
                waiting += [] if sure else [statement]
            elif isinstance(statement, Suspend):
                found += self.landing(statement, waiting, index < last, sure)
                waiting, sure = [], False
            else:
                if waiting:
                    found.append(located(if_(not_(self.travelling()), waiting), waiting[0]))
                new = self.statement(statement, sure)
                found += [located(if_(self.up_to(where[1]), new), statement)] if index < last else new
                waiting, sure = [], False
        return found

    def inside(self, body: list[ast.stmt], outcome: str | None, sure: bool) -> list[ast.stmt]:
        """The block of a loop, or of a `try` whose pending outcome has this name."""
        self.around.append(outcome)
        found = self.block(body, sure)
        self.around.pop()
        return found

    def passed_on(self, name: str, way: str) -> list[ast.stmt]:
        """A way out that is repeated is the pending outcome of all the `try`s that it leaves."""
        last = -1 if way == "return" else max((i for i, each in enumerate(self.around) if each is None), default=-1)
        return [assign(outer, load(name)) for outer in self.around[last + 1 :] if outer is not None]

    def landing(self, statement: Suspend, before: list[ast.stmt], later: bool, sure: bool) -> list[ast.stmt]:
        # prefix; x = yield v    =>    if _to: _to = 0; x = yield
        #                              else: prefix; _at = 3; x = yield v
        land: list[ast.stmt] = [*self.arriving(statement), suspension(statement, self.landed_operand(statement))]
        here = compare(load(self.to), ast.Eq(), constant(statement.number))
        if sure:
            return [located(if_(here, land), statement)] if later else land
        again = [suspension(statement, statement.operand)] if self.known else arrive(statement, self.context)
        normal = [*before, *again]
        if not later:
            return [located(if_(self.travelling(), land, normal), statement)]
        skip = located(if_(not_(self.travelling()), normal), statement)
        return [located(if_(here, land, [skip]), statement)]

    def landed_operand(self, statement: Suspend) -> ast.expr | None:
        if statement.kind == "yield":
            return None
        delegate = load(self.context.names.delegate)
        taken = ast.Call(ast.Attribute(delegate, "pop", ast.Load()), [], [])
        if statement.kind == "from":
            return located(taken, statement)
        # a foreign awaitable was not captured: its operand is evaluated again
        assert statement.operand is not None
        return located(ast.IfExp(load(self.context.names.delegate), taken, statement.operand), statement)

    # ---- statements --------------------------------------------------------------------------------------------------
    def statement(self, node: ast.stmt, sure: bool) -> list[ast.stmt]:
        if not self.known and isinstance(node, LOOPS) and (only := only_point(node)) is not None:
            # for T in X: yield v    =>    _at = 3; for T in X: …        as in the fresh body: one store for all passes
            self.known = True
            stored = [] if sure else [located(assign(self.context.names.at, constant(only.number)), node)]
            found = [*stored, *self.compound(node, sure)]
            self.known = False
            return found
        return self.compound(node, sure)

    def compound(self, node: ast.stmt, sure: bool) -> list[ast.stmt]:
        match node:
            case ast.If():
                return self.choice(node, sure)
            case ast.For() | ast.While():
                return self.loop(node, sure)
            case ast.AsyncFor():
                return async_loop(self, node, sure)
            case ast.With():
                return self.managed(node, sure)
            case ast.AsyncWith():
                return async_managed(self, node, sure)
            case ast.TryStar():
                return self.star(node, sure)
            case ast.Try() if points_in(node.finalbody):
                return self.final(node, sure)
            case ast.Try():
                return self.attempt(node, sure)
        raise AssertionError(f"no way into {ast.dump(node)}")

    def choice(self, node: ast.If, sure: bool) -> list[ast.stmt]:
        # if T: A        =>    if _to <= 3 if _to else T: A        on the way, the side where the yield point is
        # else: B              else: B
        then, otherwise = points_in(node.body), points_in(node.orelse)
        if sure and not (then and otherwise):
            return self.block(node.body if then else node.orelse, sure)
        if then is None:
            test: ast.expr = ast.BoolOp(ast.And(), [not_(self.travelling()), node.test])
        elif otherwise is None:
            test = ast.BoolOp(ast.Or(), [self.travelling(), node.test])
        else:
            test = self.up_to(then[1]) if sure else ast.IfExp(self.travelling(), self.up_to(then[1]), node.test)
        test = located(test, node.test)
        return [located(if_(test, self.block(node.body, sure), self.block(node.orelse, sure)), node)]

    def loop(self, node: ast.For | ast.While, sure: bool) -> list[ast.stmt]:
        # for T in _it1: B     =>     for _it1 in (_it1,) if _to else ():        the pass that a resume leads into: it
        # else: E                         B, from the yield point on             holds the iterator as the loop does
        #                             else:
        #                                 for T in _it1: B                       those after it, as in the fresh body
        #                                 else: E
        inside, after = points_in(node.body), points_in(node.orelse)
        if sure and inside is None:
            return self.block(node.orelse, sure)
        rest = copy.copy(node)
        rest.body = fresh_block(node.body, self.context, self.known)
        rest.orelse = self.block(node.orelse)
        if after and isinstance(rest, ast.For):
            rest.iter = located(ast.IfExp(self.travelling(), ast.Tuple([], ast.Load()), rest.iter), rest.iter)
        elif after and isinstance(rest, ast.While):
            rest.test = located(ast.BoolOp(ast.And(), [not_(self.travelling()), rest.test]), rest.test)
        if inside is None:
            return [rest]
        held: str = node.iterator if isinstance(node, ast.For) else self.to  # type: ignore[attr-defined]
        passes: ast.expr = ast.Tuple([load(held)], ast.Load())
        if after or not sure:
            here = self.within(inside) if after else self.travelling()
            passes = ast.IfExp(here, passes, ast.Tuple([], ast.Load()))
        header = node.iter if isinstance(node, ast.For) else getattr(node, "header", node)
        first = located(ast.For(store(held), passes, self.inside(node.body, None, True), [rest]), header)
        first.end_lineno, first.end_col_offset = first.lineno, first.col_offset  # by which `backedges` knows it
        return [first]

    def managed(self, node: ast.With, sure: bool) -> list[ast.stmt]:
        # with _mgr1 as T: B   =>   with (resumed(_mgr1) if _to else _mgr1) as _item1:
        #                               if not _to: T = _item1
        #                               B
        item = node.items[0]
        manager = item.context_expr
        entered: ast.expr = call("resumed", manager)
        if not sure:
            entered = ast.IfExp(self.travelling(), entered, manager)
        body = self.block(node.body, sure)
        name: ast.expr | None = None
        if item.optional_vars is not None and not sure:
            held = self.context.names.fresh("item")
            name = store(held)
            take: list[ast.stmt] = [located(ast.Assign([item.optional_vars], load(held)), item.optional_vars)]
            take += [located(each, node) for each in clear([held])]
            body = [located(if_(not_(self.travelling()), take), node), *body]
        return [located(ast.With([ast.withitem(located(entered, manager), name)], body), node)]

    def attempt(self, node: ast.Try | ast.TryStar, sure: bool) -> list[ast.stmt]:
        # except T as _exc1: B    =>   try: if _to == 3: _saved1 = back(_exc1); raise _exc1
        #                              except (BaseException if _to == 3 else () if _to else T) as _exc1:
        #                                  if _to: forward(_saved1)
        #                                  B
        inside, after = points_in(node.body), points_in(node.orelse)
        handled = [points_in(handler.body) for handler in node.handlers]
        sure_after = sure and inside is None
        enter: list[ast.stmt] = []
        handlers: list[ast.ExceptHandler] = []
        saved = self.context.names.fresh("saved") if any(handled) else ""
        for handler, where in zip(node.handlers, handled, strict=True):
            if sure_after and where is None:
                continue  # nothing that it could catch is run
            body, kind = self.block(handler.body, sure_after), handler.type
            if where is not None:
                assert handler.name is not None
                enter.append(located(if_(self.within(where), self.again(saved, load(handler.name))), handler))
                body = [located(self.restored(saved), handler), *body]
            if any(handled):
                kind = self.clause(kind, where, handler)
            handlers.append(located(ast.ExceptHandler(kind, handler.name, body), handler))
        main, orelse = self.attempted(node, sure), self.block(node.orelse, sure_after)
        if sure_after and not after:
            orelse = []
        if sure_after and not handlers:
            enter, main, orelse = [], orelse, []
            if not node.finalbody:
                return main
        return [located(type(node)([*enter, *main], handlers, orelse, node.finalbody), node)]

    def attempted(self, node: ast.Try | ast.TryStar, sure: bool) -> list[ast.stmt]:
        """The first block of a `try` whose other blocks may be what a resume is on its way to."""
        inside, after = points_in(node.body), points_in(node.orelse)
        main = self.block(node.body, sure)
        if inside is None:
            return [] if sure else [located(if_(not_(self.travelling()), main), node)]
        return [located(if_(self.up_to(inside[1]), main), node)] if after else main

    def raised_again(self, error: str, group: str) -> list[ast.stmt]:
        # _saved2 = back(_exc2)
        # try: raise _exc2
        # except BaseException: forward_clause(_saved2, _saved1); raise
        saved = self.context.names.fresh("saved")
        undo: list[ast.stmt] = [
            ast.Expr(call("forward_clause", load(saved), load(group))),
            *clear([saved]),
            ast.Raise(),
        ]
        caught = ast.ExceptHandler(helper("BaseException"), None, undo)
        first, again = self.again(saved, load(error))
        return [first, try_([again], [caught])]

    def again(self, saved: str, error: ast.expr) -> list[ast.stmt]:
        return [assign(saved, call("back", error)), ast.Raise(error)]

    def restored(self, saved: str, undo: str = "forward") -> ast.stmt:
        return if_(self.travelling(), [ast.Expr(call(undo, load(saved))), *clear([saved])])

    def clause(self, kind: ast.expr | None, where: Range, handler: ast.ExceptHandler) -> ast.expr:
        """What a handler catches: while travelling, the one on the path everything, the others nothing."""
        usual: ast.expr = kind if kind is not None else located(helper("BaseException"), handler)
        others = ast.IfExp(self.travelling(), ast.Tuple([], ast.Load()), usual)
        if where is None:
            return located(others, handler)
        return located(ast.IfExp(self.within(where), helper("BaseException"), others), handler)

    def final(self, node: ast.Try, sure: bool) -> list[ast.stmt]:
        # finally: F   =>   try:
        #                       if _to >= 5: (raise, return, break or continue again, as _out1 says)
        #                       else: A
        #                   finally:
        #                       if _to: forward(_saved1)
        #                       F
        where = points_in(node.finalbody)
        assert where is not None
        name: str = node.outcome  # type: ignore[attr-defined]
        leaves_by: frozenset[str] = node.leaves_by  # type: ignore[attr-defined]
        saved = self.context.names.fresh("saved")
        body = [located(each, node) for each in self.left_again(name, leaves_by, saved)]
        sure_after = sure and points_in(node.body) is None
        if not sure_after:
            start = compare(load(self.to), ast.GtE(), constant(where[0]))
            body = [located(if_(start, body, self.inside(node.body, name, sure)), node)]
        last = [located(self.restored(saved), node), *self.block(node.finalbody, sure_after)]
        return [located(try_(body, [], [], last), node)]

    def left_again(self, name: str, leaves_by: frozenset[str], saved: str) -> list[ast.stmt]:
        # _saved1 = None                 the way out of a block that was on its way out, as `_out1` says
        # if _out1:
        #     if _out1[0] == "raise": _saved1 = back(_out1[1]); raise _out1[1]
        #     if _out1[0] == "return": return _out1[1]             likewise `break` and `continue`
        kind = ast.Subscript(load(name), constant(0), ast.Load())
        value = ast.Subscript(load(name), constant(1), ast.Load())
        choices: list[ast.stmt] = [
            if_(compare(kind, ast.Eq(), constant("raise")), self.again(saved, value)),
        ]
        ways: dict[str, ast.stmt] = {"return": ast.Return(value), "break": ast.Break(), "continue": ast.Continue()}
        if self.context.kind == "async_generator":
            ways["return"] = ast.Return(None)
        choices += [
            if_(compare(kind, ast.Eq(), constant(way)), [*self.passed_on(name, way), ways[way]])
            for way in sorted(leaves_by)
        ]
        return [assign(saved, constant(None)), if_(load(name), choices)]

    def star(self, node: ast.TryStar, sure: bool) -> list[ast.stmt]:
        # except* T as e: B    =>    try:
        # except* U: C                   if _to in the clauses: raise _exc1        the exception that they take apart
        #                                A
        #                            except* T as e:
        #                                if _to > 3: (raise what B raised, if anything)
        #                                else: B
        where = [points_in(handler.body) for handler in node.handlers]
        if not any(where):
            return self.attempt(node, sure)
        caught: str = node.caught  # type: ignore[attr-defined]
        raised: list[str] = node.raised  # type: ignore[attr-defined]
        saved = self.context.names.fresh("saved")
        every = [each for each in where if each is not None]
        span = (every[0][0], every[-1][1])
        main = self.attempted(node, sure)
        enter = located(if_(self.within(span), self.again(saved, load(caught))), node)
        handlers: list[ast.ExceptHandler] = []
        for handler, mine, error in zip(node.handlers, where, raised, strict=True):
            again = [if_(compare(load(error), ast.IsNot(), constant(None)), self.raised_again(error, saved))]
            passed = compare(load(self.to), ast.Gt(), constant(mine[1])) if mine else self.travelling()
            body = self.block(handler.body)
            if mine:
                body.insert(0, self.restored(saved, "forward_group"))
            body = [located(if_(passed, again, body), handler)]
            handlers.append(located(ast.ExceptHandler(handler.type, handler.name, body), handler))
        return [located(ast.TryStar([enter, *main], handlers, self.block(node.orelse), []), node)]
