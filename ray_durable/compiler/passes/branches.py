"""`while`, `match`, `assert`: headers that hold yield points become statements, and bodies move out of `match`.

Goal    only `if` and `while True` (or a test that cannot suspend) decide where a function goes.
Keeps   `else`, `break` and `continue`; how often truth is asked for; the order of patterns and guards.
Leaves  `if`, whose test `statements` lowers.
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import (
    assign,
    call,
    clear,
    compare,
    constant,
    if_,
    load,
    located,
    not_,
    while_true,
)
from ray_durable.compiler.passes.walking import walk
from ray_durable.compiler.passes.yieldpoints import Context, suspends


def branches(statement: ast.stmt, context: Context) -> list[ast.stmt] | None:
    """What takes the place of `statement`; None for it itself."""
    match statement:
        case ast.While() if suspends(statement.test, context) or has_genexp(statement.test, context):
            return while_test(statement, context)
        case ast.Match() if suspends(statement, context):
            return selection(statement, context)
        case ast.Assert() if suspends(statement, context):
            return assertion(statement)
    return None


def has_genexp(test: ast.expr, context: Context) -> bool:
    """Whether a test holds a generator expression, which is to be made anew each time, right before its use."""
    return context.scope.has_genexps and any(isinstance(node, ast.GeneratorExp) for node in walk(test))


def while_test(node: ast.While, context: Context) -> list[ast.stmt]:
    # while T: B      =>    _done1 = False
    # else: E               while True:
    #                           if not T: _done1 = True; break
    #                           B
    #                       if _done1: E
    over: list[ast.stmt] = [located(ast.Break(), node)]
    before: list[ast.stmt] = []
    after: list[ast.stmt] = []
    if node.orelse:
        done = context.names.fresh("done")
        before = [located(assign(done, constant(False)), node)]
        over.insert(0, located(assign(done, constant(True)), node))
        after = [located(if_(load(done), node.orelse), node)]
    leave = located(if_(located(not_(node.test), node.test), over), node.test)
    return [*before, located(while_true([leave, *node.body]), node), *after]


def assertion(node: ast.Assert) -> list[ast.stmt]:
    # assert T, M     =>    if __debug__:
    #                           if not T: raise AssertionError(M)
    error: ast.expr = call("AssertionError", *([node.msg] if node.msg else []))
    failed = located(if_(not_(node.test), [located(ast.Raise(located(error, node)), node)]), node)
    return [located(if_(load("__debug__"), [failed]), node)]


def selection(node: ast.Match, context: Context) -> list[ast.stmt]:
    # match S:               =>    match S:
    #     case P if G: B               case P if G: _case1 = 1
    #     case Q: C                    case Q: _case1 = 2
    #                                  case _: _case1 = 0
    #                              if _case1 == 1: B
    #                              elif _case1 == 2: C
    if any(case.guard is not None and suspends(case.guard, context) for case in node.cases):
        return guarded_selection(node, context)
    chosen = context.names.fresh("case")
    bodies = [case.body for case in node.cases]
    cases: list[ast.match_case] = []
    for index, case in enumerate(node.cases):
        choose = located(assign(chosen, constant(index + 1)), case.pattern)
        cases.append(ast.match_case(case.pattern, case.guard, [choose]))
    if not irrefutable(node.cases[-1]):
        cases.append(otherwise(node, [assign(chosen, constant(0))]))
    chain: list[ast.stmt] = []
    for index in reversed(range(len(bodies))):
        test = compare(load(chosen), ast.Eq(), constant(index + 1))
        chain = [located(if_(test, bodies[index], chain), bodies[index][0])]
    subject: list[ast.stmt] = []
    if suspends(node.subject, context):
        value = context.names.fresh("case")
        subject = [located(assign(value, node.subject), node.subject)]
        node.subject = load(value)
        chain = [located(each, node) for each in clear([value])] + chain
    return [*subject, located(ast.Match(node.subject, cases), node), *chain]


def guarded_selection(node: ast.Match, context: Context) -> list[ast.stmt]:
    """One pattern after the other, since a guard suspends."""
    # case P if (yield): B   =>    match _case1: case P: _case2 = 1; case _: _case2 = 0
    #                              if _case2 == 1:
    #                                  if not (yield): _case2 = 0
    #                              if _case2 == 0: (the next pattern)
    subject, chosen = context.names.fresh("case"), context.names.fresh("case")
    bodies: list[ast.stmt] = []
    tried: list[ast.stmt] = []
    for index in reversed(range(len(node.cases))):
        case = node.cases[index]
        mine = compare(load(chosen), ast.Eq(), constant(index + 1))
        bodies = [located(if_(mine, case.body, bodies), case.pattern)]
        cases = [ast.match_case(case.pattern, None, [located(assign(chosen, constant(index + 1)), case.pattern)])]
        if not irrefutable(ast.match_case(case.pattern, None, [])):
            cases.append(otherwise(node, [assign(chosen, constant(0))]))
        attempt: list[ast.stmt] = [located(ast.Match(load(subject), cases), case.pattern)]
        if case.guard is not None:
            refused = located(assign(chosen, constant(0)), case.guard)
            check = located(if_(located(not_(case.guard), case.guard), [refused]), case.guard)
            attempt.append(located(if_(compare(load(chosen), ast.Eq(), constant(index + 1)), [check]), case.guard))
        if tried:
            attempt.append(located(if_(compare(load(chosen), ast.Eq(), constant(0)), tried), case.pattern))
        tried = attempt
    gone = [located(each, node) for each in clear([subject])]
    return [located(assign(subject, node.subject), node.subject), *tried, *gone, *bodies]


def irrefutable(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def otherwise(node: ast.Match, body: list[ast.stmt]) -> ast.match_case:
    return ast.match_case(located(ast.MatchAs(), node), None, [located(each, node) for each in body])
