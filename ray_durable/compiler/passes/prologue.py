"""The resume body: from a captured frame straight back to its yield point, evaluating nothing on the way.

The arguments are the frame: all variables, the yield point to reach (`_to`), what it delegates to, and the compiler's
locals. While `_to` is not 0, guards on the path let only the way to that yield point pass; arrived, `_to` becomes 0
and everything runs as in the fresh body, on the same numbers.

Goal    a second body that enters each construct as a resume must.       Needs   numbered yield points.
Keeps   native handlers, managers and loops: a resume enters them by repeating what led into them.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import (
    Suspend,
    assign,
    call,
    child_blocks,
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
from ray_durable.compiler.passes.fresh import arrive, only_point, suspension
from ray_durable.compiler.passes.yieldpoints import Context

Range = tuple[int, int] | None


def resume_body(body: list[ast.stmt], context: Context) -> list[ast.stmt]:
    """The statements of the resume body."""
    return [unbind(context), *flag(context), *Resume(context).block(body)]


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


def binds(node: ast.AST, name: str) -> bool:
    """Whether a node may give `name` another value, or take it away."""
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, Suspend):
        return node.target == name
    return any(type(value) is str and value.split(".")[0] == name for _, value in ast.iter_fields(node))


def points_in(nodes: list[ast.stmt]) -> Range:
    """The first and last number of the yield points in a block."""
    found: Range = None
    for node in nodes:
        where = points_of(node)
        if where is not None:
            found = where if found is None else (min(found[0], where[0]), max(found[1], where[1]))
    return found


def points_of(node: ast.stmt) -> Range:
    """The same for one statement, which remembers it."""
    if hasattr(node, "points"):
        known: Range = node.points
        return known
    if isinstance(node, Suspend):
        found: Range = (node.number, node.number)
    else:
        found = points_in([inner for owner, name in child_blocks(node) for inner in getattr(owner, name)])
    node.points = found  # type: ignore[attr-defined]
    return found


class Resume:
    """Writes the resume body, statement by statement."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.to = context.names.to
        self.steppers: list[str] = []  # variables of this body that hold on to iterators
        self.known = False  # whether the yield point of the loop around is in `_at` already
        self.around: list[str | None] = []  # names of the pending outcomes of the `try`s around; None for a loop

    def let_go(self, since: int, at: ast.AST) -> list[ast.stmt]:
        """For handlers: drop the iterators of the loops that an exception left (see `lifetimes`)."""
        return [located(each, at) for each in clear(reversed(self.steppers[since:]))]

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
    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """A block that is entered normally, or on the way to a yield point in it."""
        last = max((index for index, statement in enumerate(body) if points_in([statement])), default=-1)
        found: list[ast.stmt] = []
        waiting: list[ast.stmt] = []  # statements without yield points: passed over while travelling
        for index, statement in enumerate(body):
            where = points_in([statement])
            if index > last:
                found.append(statement)
            elif where is None:
                waiting.append(statement)
            elif isinstance(statement, Suspend):
                found.append(self.landing(statement, waiting, later=index < last))
                waiting = []
            else:
                if waiting:
                    found.append(located(if_(not_(self.travelling()), waiting), waiting[0]))
                    waiting = []
                new = self.statement(statement)
                found += [located(if_(self.up_to(where[1]), new), statement)] if index < last else new
        return found

    def inside(self, body: list[ast.stmt], outcome: str | None) -> list[ast.stmt]:
        """The block of a loop, or of a `try` whose pending outcome has this name."""
        self.around.append(outcome)
        found = self.block(body)
        self.around.pop()
        return found

    def passed_on(self, name: str, way: str) -> list[ast.stmt]:
        """A way out that is repeated is the pending outcome of all the `try`s that it leaves."""
        last = -1 if way == "return" else max((i for i, each in enumerate(self.around) if each is None), default=-1)
        return [assign(outer, load(name)) for outer in self.around[last + 1 :] if outer is not None]

    def landing(self, statement: Suspend, before: list[ast.stmt], later: bool) -> ast.stmt:
        # prefix; x = yield v    =>    if _to: _to = 0; x = yield
        #                              else: prefix; _at = 3; x = yield v
        land: list[ast.stmt] = [*self.arriving(statement), suspension(statement, self.landed_operand(statement))]
        again = [suspension(statement, statement.operand)] if self.known else arrive(statement, self.context)
        normal = [*before, *again]
        if not later:
            return located(if_(self.travelling(), land, normal), statement)
        here = compare(load(self.to), ast.Eq(), constant(statement.number))
        skip = located(if_(not_(self.travelling()), normal), statement)
        return located(if_(here, land, [skip]), statement)

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
    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if not self.known and isinstance(node, ast.For | ast.While) and (only := only_point(node)) is not None:
            # for T in X: yield v    =>    _at = 3; for T in X: …        as in the fresh body: one store for all passes
            self.known = True
            found = [located(assign(self.context.names.at, constant(only.number)), node), *self.compound(node)]
            self.known = False
            return found
        return self.compound(node)

    def compound(self, node: ast.stmt) -> list[ast.stmt]:
        match node:
            case ast.If():
                test = self.decision(node.test, points_in(node.body), points_in(node.orelse))
                return [located(if_(test, self.block(node.body), self.block(node.orelse)), node)]
            case ast.While():
                test = self.decision(node.test, points_in(node.body), points_in(node.orelse))
                return [located(ast.While(test, self.inside(node.body, None), self.block(node.orelse)), node)]
            case ast.For():
                return self.loop(node)
            case ast.With():
                return self.managed(node)
            case ast.TryStar():
                return self.star(node)
            case ast.Try() if points_in(node.finalbody):
                return self.final(node)
            case ast.Try():
                return self.attempt(node)
        raise AssertionError(f"no way into {ast.dump(node)}")

    def decision(self, test: ast.expr, then: Range, otherwise: Range) -> ast.expr:
        """The test of an `if` or `while`: while travelling, the side where the yield point is."""
        if then is None:
            return located(ast.BoolOp(ast.And(), [not_(self.travelling()), test]), test)
        if otherwise is None:
            if isinstance(test, ast.Constant) and test.value is True:
                return test
            return located(ast.BoolOp(ast.Or(), [self.travelling(), test]), test)
        return located(ast.IfExp(self.travelling(), self.up_to(then[1]), test), test)

    def loop(self, node: ast.For) -> list[ast.stmt]:
        # for T in _it1: B     =>     for _chunk1 in ((None,), _it1) if _to else (_it1,):
        # else: E                         for _item1 in _chunk1:
        #                                     if not _to: T = _item1        (and _item1 = None, see `keeps`)
        #                                     B
        #                                 else: continue
        #                                 break
        #                             else: E
        names = self.context.names
        chunk, item = names.fresh("chunk"), names.fresh("item")
        self.steppers += [chunk, item]
        inside, after = points_in(node.body), points_in(node.orelse)
        iterator = node.iter
        passes: ast.expr = ast.Tuple([iterator], ast.Load())
        if inside:
            again = ast.Tuple([ast.Tuple([constant(None)], ast.Load()), iterator], ast.Load())
            here = self.up_to(inside[1]) if after else self.travelling()
            passes = ast.IfExp(here, again, passes)
            if after:
                passes = ast.IfExp(self.travelling(), passes, ast.Tuple([iterator], ast.Load()))
                passes.body = ast.IfExp(here, again, ast.Tuple([], ast.Load()))
        else:
            passes = ast.IfExp(self.travelling(), ast.Tuple([], ast.Load()), passes)
        take: list[ast.stmt] = [located(ast.Assign([node.target], load(item)), node.target)]
        if not self.keeps(node):
            take += [located(each, node.target) for each in clear([item])]
        body = self.inside([*take, *node.body], None) if inside else [*take, *node.body]  # one guard up to the landing
        items = ast.For(store(item), located(load(chunk), iterator), body, [located(ast.Continue(), node)])
        gone = [located(each, node) for each in clear([chunk, item])]
        orelse = [*gone, *self.block(node.orelse)] if node.orelse else []
        chunks = ast.For(store(chunk), passes, [located(items, node), located(ast.Break(), node)], orelse)
        located(chunks, node)
        chunks.end_lineno, chunks.end_col_offset = node.lineno, node.col_offset  # `backedges` takes `items` alone
        return [chunks, *gone]

    def keeps(self, node: ast.For) -> bool:
        """Whether the target itself holds an item for the whole pass, so that it lives no longer by `_item1`."""
        if not isinstance(node.target, ast.Name) or node.target.id not in self.context.scope.variables:
            return False
        return not any(binds(each, node.target.id) for statement in node.body for each in ast.walk(statement))

    def managed(self, node: ast.With) -> list[ast.stmt]:
        # with _mgr1 as T: B   =>   with (resumed(_mgr1) if _to else _mgr1) as _item1:
        #                               if not _to: T = _item1
        #                               B
        item = node.items[0]
        manager = item.context_expr
        entered = ast.IfExp(self.travelling(), call("resumed", manager), manager)
        body = self.block(node.body)
        name: ast.expr | None = None
        if item.optional_vars is not None:
            held = self.context.names.fresh("item")
            name = store(held)
            take: list[ast.stmt] = [located(ast.Assign([item.optional_vars], load(held)), item.optional_vars)]
            take += [located(each, node) for each in clear([held])]
            body = [located(if_(not_(self.travelling()), take), node), *body]
        return [located(ast.With([ast.withitem(located(entered, manager), name)], body), node)]

    def attempt(self, node: ast.Try | ast.TryStar) -> list[ast.stmt]:
        # except T as _exc1: B    =>   try: if _to == 3: _saved1 = back(_exc1); raise _exc1
        #                              except (BaseException if _to == 3 else () if _to else T) as _exc1:
        #                                  if _to: forward(_saved1)
        #                                  B
        since = len(self.steppers)
        main = self.block(node.body)
        gone = self.let_go(since, node)
        inside, after = points_in(node.body), points_in(node.orelse)
        handled = [points_in(handler.body) for handler in node.handlers]
        enter: list[ast.stmt] = []
        handlers: list[ast.ExceptHandler] = []
        saved = self.context.names.fresh("saved") if any(handled) else ""
        for handler, where in zip(node.handlers, handled, strict=True):
            body, kind = [*gone, *self.block(handler.body)], handler.type
            if where is not None:
                assert handler.name is not None
                enter.append(located(if_(self.within(where), self.again(saved, load(handler.name))), handler))
                body = [located(self.restored(saved), handler), *body]
            if any(handled):
                kind = self.clause(kind, where, handler)
            handlers.append(located(ast.ExceptHandler(kind, handler.name, body), handler))
        if inside is None:
            main = [located(if_(not_(self.travelling()), main), node)]
        elif after:
            main = [located(if_(self.up_to(inside[1]), main), node)]
        final = [*gone, *node.finalbody] if node.finalbody else []
        return [located(type(node)([*enter, *main], handlers, self.block(node.orelse), final), node)]

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

    def final(self, node: ast.Try) -> list[ast.stmt]:
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
        repeat = [assign(saved, constant(None)), if_(load(name), choices)]
        since = len(self.steppers)
        body = self.inside(node.body, name)
        start = compare(load(self.to), ast.GtE(), constant(where[0]))
        body = [located(if_(start, [located(each, node) for each in repeat], body), node)]
        restore = if_(self.travelling(), [ast.Expr(call("forward", load(saved))), *clear([saved])])
        last = [located(restore, node), *self.let_go(since, node), *self.block(node.finalbody)]
        return [located(try_(body, [], [], last), node)]

    def star(self, node: ast.TryStar) -> list[ast.stmt]:
        # except* T as e: B    =>    try:
        # except* U: C                   if _to in the clauses: raise _exc1        the exception that they take apart
        #                                A
        #                            except* T as e:
        #                                if _to > 3: (raise what B raised, if anything)
        #                                else: B
        where = [points_in(handler.body) for handler in node.handlers]
        if not any(where):
            return self.attempt(node)
        caught: str = node.caught  # type: ignore[attr-defined]
        raised: list[str] = node.raised  # type: ignore[attr-defined]
        saved = self.context.names.fresh("saved")
        every = [each for each in where if each is not None]
        span = (every[0][0], every[-1][1])
        since = len(self.steppers)
        inside, after = points_in(node.body), points_in(node.orelse)
        main = self.block(node.body)
        if inside is None:
            main = [located(if_(not_(self.travelling()), main), node)]
        elif after:
            main = [located(if_(self.up_to(inside[1]), main), node)]
        enter = located(if_(self.within(span), self.again(saved, load(caught))), node)
        handlers: list[ast.ExceptHandler] = []
        for handler, mine, error in zip(node.handlers, where, raised, strict=True):
            again = [if_(compare(load(error), ast.IsNot(), constant(None)), self.raised_again(error, saved))]
            passed = compare(load(self.to), ast.Gt(), constant(mine[1])) if mine else self.travelling()
            body = [*self.let_go(since, node), *self.block(handler.body)]
            if mine:
                body.insert(0, self.restored(saved, "forward_group"))
            body = [located(if_(passed, again, body), handler)]
            handlers.append(located(ast.ExceptHandler(handler.type, handler.name, body), handler))
        return [located(ast.TryStar([enter, *main], handlers, self.block(node.orelse), []), node)]
