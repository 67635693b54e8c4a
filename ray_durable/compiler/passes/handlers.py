"""`try`: a name for the exception being handled, and for the outcome that a `finally` holds back.

Goal    at a yield point in a handler or a `finally`, locals tell how it was entered, so that a resume can enter it the
        same way: by raising (returning, breaking) again inside the native `try`.
Keeps   which handler runs, what `sys.exception()` and a bare `raise` see, and the unbinding of `except … as name`.
Leaves  `try` statements whose handlers and `finally` hold no yield point; their bodies need nothing.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import assign, call, clear, constant, helper, load, located, try_
from ray_durable.compiler.passes.yieldpoints import Context, any_suspends, suspends


def handlers(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    if not isinstance(statement, ast.Try | ast.TryStar) or getattr(statement, "prepared", False):
        return None
    star = isinstance(statement, ast.TryStar)
    if not star and any(handler.type is not None and suspends(handler.type, context) for handler in statement.handlers):
        return [choose_clause(statement, context)]
    statement.prepared = True  # type: ignore[union-attr]
    for handler in statement.handlers:
        if any_suspends(handler.body, context) and not (star or handler.name in context.names.used):
            name_exception(handler, context)
    if statement.finalbody and any_suspends(statement.finalbody, context):
        return [name_outcome(statement, context)]
    if isinstance(statement, ast.TryStar) and any(
        any_suspends(handler.body, context) for handler in statement.handlers
    ):
        return name_clauses(statement, context)
    return None


def choose_clause(node: ast.Try | ast.TryStar, context: Context) -> ast.stmt:
    # try: A                  =>    try: A
    # except (yield): B             except BaseException as _exc1:
    # except T as e: C                  if catches(_exc1, (yield)): B
    #                                   elif catches(_exc1, T): e = _exc1; try: C finally: e = None; del e
    #                                   else: raise
    error = context.names.fresh("exc")
    chain: list[ast.stmt] = [located(ast.Raise(), node)]
    for handler in reversed(node.handlers):
        body = handler.body if handler.name is None else bound(handler, error)
        if handler.type is None:
            chain = body
            continue
        test = located(call("catches", load(error), handler.type), handler.type)
        chain = [located(ast.If(test, body, chain), handler)]
    first = located(ast.ExceptHandler(helper("BaseException"), error, chain), node.handlers[0])
    return located(try_(node.body, [first], node.orelse, node.finalbody), node)


def name_clauses(node: ast.TryStar, context: Context) -> list[ast.stmt]:
    # try: A               =>    _exc1 = _exc2 = None
    # except* T as e: B          try:
    # except* U: C                   try:
    #                                    try: A
    #                                    except BaseException as _exc3: _exc1 = _exc3; raise
    #                                except* T as e:
    #                                    try: B                                              what a clause raised is
    #                                    except BaseException as _exc4: _exc2 = _exc4; raise  raised again on the way
    #                                except* U: C                                            to a later one
    #                            finally: _exc1 = _exc2 = None
    if node.finalbody:
        inner = located(ast.TryStar(node.body, node.handlers, node.orelse, []), node)
        outer = located(try_([inner], [], [], node.finalbody), node)
        return [outer]
    names = context.names
    caught = names.fresh("exc")
    raised = [names.fresh("exc") for _ in node.handlers]
    for handler, name in zip(node.handlers, raised, strict=True):
        handler.body = [remembering(handler.body, name, context, handler)]
    node.body = [remembering(node.body, caught, context, node)]
    node.caught, node.raised = caught, raised  # type: ignore[attr-defined]
    node.kept_in_handlers = (caught, *raised)  # type: ignore[attr-defined]
    everything = [caught, *raised]
    before = [located(each, node) for each in clear(everything)]
    after = [located(each, node) for each in clear(everything)]
    whole = located(try_([node], [], [], after), node)
    whole.prepared = True  # type: ignore[attr-defined]
    return [*before, whole]


def remembering(body: list[ast.stmt], name: str, context: Context, at: ast.AST) -> ast.Try:
    """`body`, with an exception that leaves it kept in `name`."""
    error = context.names.fresh("exc")
    keep = [located(assign(name, load(error)), at), located(ast.Raise(), at)]
    caught = located(ast.ExceptHandler(helper("BaseException"), error, keep), at)
    found = located(try_(body, [caught]), at)
    found.prepared = True  # type: ignore[attr-defined]
    return found


def name_exception(handler: ast.ExceptHandler, context: Context) -> None:
    # except T as e: B     =>    except T as _exc1:
    #                                e = _exc1
    #                                try: B
    #                                finally: e = None; del e
    name = context.names.fresh("exc")
    if handler.type is None:
        handler.type = located(helper("BaseException"), handler)
    if handler.name is not None:
        handler.body = bound(handler, name)
    handler.name = name


def bound(handler: ast.ExceptHandler, error: str) -> list[ast.stmt]:
    """The block of a handler whose exception is in `error`, with the user's name for it."""
    user = handler.name
    assert user is not None
    unbind: list[ast.stmt] = [
        located(assign(user, constant(None)), handler),
        located(ast.Delete([ast.Name(user, ast.Del())]), handler),
    ]
    attempt = located(try_(handler.body, [], [], unbind), handler.body[0])
    attempt.prepared = True  # type: ignore[attr-defined]
    return [located(assign(user, load(error)), handler), attempt]


def name_outcome(node: ast.Try | ast.TryStar, context: Context) -> ast.Try:
    # try: A               =>    try:
    # except …: B                    try: A; except …: B; else: C        return E   =>  _out1 = ("return", E); return …
    # else: C                        except BaseException as _exc1:      break      =>  _out1 = ("break",); break
    # finally: F                         _out1 = ("raise", _exc1); raise
    #                                _out1 = None
    #                            finally:
    #                                try: F
    #                                finally: _out1 = None
    name, error = context.names.fresh("out"), context.names.fresh("exc")
    outcomes = Outcomes(name)
    for block in (node.body, *(handler.body for handler in node.handlers), node.orelse):
        outcomes.within(block)

    def at(statement: ast.stmt) -> ast.stmt:
        return located(statement, node)

    inner: list[ast.stmt] = node.body
    if node.handlers:
        attempt = type(node)(node.body, node.handlers, node.orelse, [])
        attempt.prepared = isinstance(node, ast.Try)  # type: ignore[union-attr]
        inner = [at(attempt)]
    caught = located(
        ast.ExceptHandler(helper("BaseException"), error, [at(outcome(name, "raise", load(error))), at(ast.Raise())]),
        node,
    )
    attempted = at(try_(inner, [caught]))
    forget = at(try_(node.finalbody, [], [], [at(each) for each in clear([name])]))
    found = located(try_([attempted, at(assign(name, constant(None)))], [], [], [forget]), node)
    for each in (attempted, forget, found):
        each.prepared = True  # type: ignore[attr-defined]
    found.outcome = name  # type: ignore[attr-defined]
    found.leaves_by = frozenset(outcomes.kinds)  # type: ignore[attr-defined]
    return found


def outcome(name: str, kind: str, *values: ast.expr) -> ast.stmt:
    return assign(name, ast.Tuple([constant(kind), *values], ast.Load()))


class Outcomes:
    """Writes down each way out of a block, for the `finally` around it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kinds: set[str] = set()

    def within(self, body: list[ast.stmt], in_loop: bool = False) -> None:
        """Rewrite `body` in place. `in_loop`: its `break` and `continue` stay inside the `try`."""
        position = 0
        while position < len(body):
            statement = body[position]
            new = self.leaving(statement, in_loop)
            if new is not None:
                body[position : position + 1] = new
                position += len(new)
                continue
            match statement:
                case ast.For() | ast.AsyncFor() | ast.While():
                    self.within(statement.body, True)
                    self.within(statement.orelse, in_loop)
                case ast.If():
                    self.within(statement.body, in_loop)
                    self.within(statement.orelse, in_loop)
                case ast.With() | ast.AsyncWith():
                    self.within(statement.body, in_loop)
                case ast.Try() | ast.TryStar():
                    for block in (statement.body, statement.orelse, statement.finalbody):
                        self.within(block, in_loop)
                    for handler in statement.handlers:
                        self.within(handler.body, in_loop)
                case ast.Match():
                    for case in statement.cases:
                        self.within(case.body, in_loop)
            position += 1

    def leaving(self, statement: ast.stmt, in_loop: bool) -> list[ast.stmt] | None:
        if isinstance(statement, ast.Return) or (not in_loop and isinstance(statement, ast.Break | ast.Continue)):
            self.kinds.add(type(statement).__name__.lower())
        match statement:
            case ast.Return(value=None):
                return [located(outcome(self.name, "return", constant(None)), statement), statement]
            case ast.Return(value=value) if value is not None:
                back = ast.Subscript(load(self.name), constant(1), ast.Load())
                return [
                    located(outcome(self.name, "return", value), statement),
                    located(ast.Return(located(back, statement)), statement),
                ]
            case ast.Break() if not in_loop:
                return [located(outcome(self.name, "break"), statement), statement]
            case ast.Continue() if not in_loop:
                return [located(outcome(self.name, "continue"), statement), statement]
        return None
