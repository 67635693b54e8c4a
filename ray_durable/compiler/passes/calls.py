"""Calls that may suspend: an ordinary call where the callee is an ordinary callable, else a delegation to its twin.

Goal    the check costs a few nanoseconds where a place calls the same thing again: each remembers, in locals of the
        compiler's that no frame carries, the callee (or the receiver's type) that was found to be ordinary.
Keeps   callee, positional arguments, then keywords, each evaluated once.

    x = f(a)      =>   _v1 = f                                                  (f a variable of the module)
                       if _v1 is _site1 or (_v2 := suspending(_v1)) is None:
                           _site1 = _v1
                           x = _v1(a)
                       else:
                           x = yield from _v2(a)

    x = o.m(a)    =>   _v1 = o
                       if type(_v1) is _site1:
                           x = _v1.m(a)
                       elif (_v2 := _v1.m) is _site2:
                           x = _v2(a)
                       else:
                           _site1, _site2, _v3 = method_site(_v1, "m", _v2)
                           if _v3 is None: x = _v2(a)
                           else: x = yield from _v3(a)
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import PointKind, Suspend, assign, call, compare, constant, if_, load, located
from ray_durable.compiler.passes.conditions import Conditions
from ray_durable.compiler.passes.operands import Spread
from ray_durable.compiler.passes.walking import walk

MADE_ONCE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
COPIED_MAX = 24  # nodes of arguments that may stand in the tree more than once
Arguments = tuple[list[ast.expr], list[ast.keyword]]


class Calls(Conditions):
    """Lowers calls."""

    def call_parts(self, node: ast.Call) -> tuple[ast.expr, list[ast.expr], list[ast.keyword]]:
        """Callee and arguments, lowered in Python's order: callee, positional, then keywords."""
        alone = len(node.args) == 1 and isinstance(node.args[0], ast.Starred)
        # f(*a, k=(yield)): a lone `*a` is run through by the call itself, later
        flat = [node.func, *(each.value for each in node.args)] if alone else [node.func, *node.args]  # type: ignore[attr-defined]
        flat += [Spread(keyword.value) if keyword.arg is None else keyword.value for keyword in node.keywords]
        function, *lowered = self.values(flat)
        count = len(node.args)
        if alone:
            lowered[0] = located(ast.Starred(lowered[0], ast.Load()), node.args[0])
        keywords = [
            located(ast.keyword(keyword.arg, value), keyword)
            for keyword, value in zip(node.keywords, lowered[count:], strict=True)
        ]
        return function, lowered[:count], keywords

    def value_Call(self, node: ast.Call) -> ast.expr:
        if not self.context.may_suspend(node):
            return located(ast.Call(*self.call_parts(node)), node)
        result = ""
        if isinstance(node.func, ast.Attribute) and not any(self.suspends(each) for each in parts_of(node)):
            receiver = self.keep(node.func.value)
            if isinstance(receiver, ast.Name) and small(node):
                result = self.new()
                self.method_call(node, receiver, node.func.attr, result)
            else:
                node = located(
                    ast.Call(
                        located(ast.Attribute(receiver, node.func.attr, ast.Load()), node.func),
                        node.args,
                        node.keywords,
                    ),
                    node,
                )
        if not result:
            function, arguments, keywords = self.call_parts(node)
            if not (isinstance(function, ast.Name) and function.id in self.made):
                name = self.new()
                self.emit(assign(name, function), node.func)
                function = load(name)
            arguments, keywords = self.once(arguments, keywords)
            result = self.new()
            self.function_call(node, function, (arguments, keywords), result, self.is_global(node.func))
        self.out[-1].result = result  # type: ignore[attr-defined]
        return located(load(result), node)

    def is_global(self, function: ast.expr) -> bool:
        """Whether a callee is a variable of the module: what a place remembers of others would outlive its variable."""
        scope = self.context.scope
        return isinstance(function, ast.Name) and not (scope.owns(function.id) or function.id in scope.free)

    def function_call(self, node: ast.Call, function: ast.expr, given: Arguments, result: str, remembers: bool) -> None:
        twin = self.new()
        asked = ast.NamedExpr(ast.Name(twin, ast.Store()), call(self.helper("suspending"), function))
        ordinary: ast.expr = compare(asked, ast.Is(), constant(None))
        direct = [self.direct(node, function, given, result)]
        if remembers:
            site = self.context.names.site()
            known = compare(function, ast.Is(), load(site))
            ordinary = ast.BoolOp(ast.Or(), [known, ordinary])
            direct.insert(0, located(assign(site, function), node))
        self.emit(if_(ordinary, direct, [self.through(node, twin, given, result)]), node)

    def method_call(self, node: ast.Call, receiver: ast.Name, method: str, result: str) -> None:
        names = self.context.names
        kind, callee, found, twin = names.site(), names.site(), self.new(), self.new()
        given = (node.args, node.keywords)

        def attribute() -> ast.expr:
            return located(ast.Attribute(load(receiver.id), method, ast.Load()), node.func)

        same_kind = compare(call("type", load(receiver.id)), ast.Is(), load(kind))
        same_callee = compare(ast.NamedExpr(ast.Name(found, ast.Store()), attribute()), ast.Is(), load(callee))
        targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in (kind, callee, twin)]
        asked = call(self.helper("method_site"), load(receiver.id), constant(method), load(found))
        ordinary = compare(load(twin), ast.Is(), constant(None))
        last: list[ast.stmt] = [
            located(ast.Assign([ast.Tuple(targets, ast.Store())], asked), node),
            located(
                if_(
                    ordinary, [self.direct(node, load(found), given, result)], [self.through(node, twin, given, result)]
                ),
                node,
            ),
        ]
        other = located(if_(same_callee, [self.direct(node, load(found), given, result)], last), node)
        self.emit(if_(same_kind, [self.direct(node, attribute(), given, result)], [other]), node)

    def helper(self, name: str) -> str:
        return name + "_async" if self.context.is_async else name

    def direct(self, node: ast.Call, function: ast.expr, given: Arguments, result: str) -> ast.stmt:
        made = located(ast.Call(function, *given), node)
        made.suspends = False  # type: ignore[attr-defined]
        return located(assign(result, made), node)

    def through(self, node: ast.Call, twin: str, given: Arguments, result: str) -> ast.stmt:
        kind: PointKind = "await" if self.context.is_async else "from"
        found = located(Suspend(kind, located(ast.Call(load(twin), *given), node), result), node)
        found.is_call = True
        return found

    def once(self, arguments: list[ast.expr], keywords: list[ast.keyword]) -> Arguments:
        """Arguments that may stand in the tree twice: what compiles to a function of its own is kept in a local, and
        what is evaluated before it too."""
        values = [*arguments, *(keyword.value for keyword in keywords)]
        last = max((i for i, value in enumerate(values) if not is_copyable(value)), default=-1)
        for index in range(last + 1):
            value = values[index]
            values[index] = self.starred(value, True) if isinstance(value, ast.Starred) else self.keep(value)
        count = len(arguments)
        renewed = [
            located(ast.keyword(keyword.arg, value), keyword)
            for keyword, value in zip(keywords, values[count:], strict=True)
        ]
        return values[:count], renewed


def parts_of(node: ast.Call) -> list[ast.expr]:
    return [node.func, *node.args, *(keyword.value for keyword in node.keywords)]


def is_copyable(node: ast.expr) -> bool:
    return not any(isinstance(inner, MADE_ONCE) for inner in walk(node))


def small(node: ast.Call) -> bool:
    """Whether the arguments may stand in the tree several times."""
    given = parts_of(node)[1:]
    return all(is_copyable(each) for each in given) and sum(1 for each in given for _ in walk(each)) <= COPIED_MAX
