"""Comprehensions that suspend, as loops with variables of their own.

Goal    no comprehension holds a yield point.        Needs   `scopes` (what each comprehension binds).
Keeps   evaluation order; the variables stay invisible outside; the first iterable is evaluated outside.

    [await f(x) for x in X if x]    =>    _v1 = []
                                          for _item1 in X:
                                              if _item1:
                                                  _item2 = await f(_item1)
                                                  _v1.append(_item2)
"""

from __future__ import annotations

import ast

from ray_durable.compiler.passes.build import assign, clear, if_, load, located, store
from ray_durable.compiler.passes.scopes import Scope
from ray_durable.compiler.passes.yieldpoints import Context

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp


def inlined(node: Comprehension, result: str, context: Context) -> list[ast.stmt]:
    """Statements that build the value of `node` in the variable `result`."""
    scope: Scope = node.scope  # type: ignore[union-attr]
    renamed = {name: context.names.fresh("item") for name in scope.bound}
    rename = Rename(renamed)
    for name in scope.captured:  # by a lambda inside: it lives in a cell, which a frame carries
        context.names.used.pop(renamed[name])
        context.scope.captured[renamed[name]] = None
    empty: ast.expr
    match node:
        case ast.ListComp():
            empty, method, elements = ast.List([], ast.Load()), "append", [node.elt]
        case ast.SetComp():
            nothing = ast.Starred(ast.Tuple([], ast.Load()), ast.Load())  # `set` may be a name of the user's
            empty, method, elements = located(ast.Set([nothing]), node), "add", [node.elt]
        case ast.DictComp():
            empty, method, elements = ast.Dict([], []), "", [node.key, node.value]
    holders = [context.names.fresh("item") for _ in elements]
    body: list[ast.stmt] = [
        located(assign(holder, rename.visit(element)), element)
        for holder, element in zip(holders, elements, strict=True)
    ]
    body.append(located(added(result, method, holders), node))
    for index in reversed(range(len(node.generators))):
        clause = node.generators[index]
        for condition in reversed(clause.ifs):
            body = [located(if_(rename.visit(condition), body), condition)]
        iterable = clause.iter if index == 0 else rename.visit(clause.iter)
        loop = ast.AsyncFor if clause.is_async else ast.For
        body = [located(loop(rename.visit(clause.target), iterable, body, []), clause.target)]
    left = [new for old, new in renamed.items() if old not in scope.captured]
    gone = [located(each, node) for each in clear([*left, *holders])]
    return [located(assign(result, empty), node), *body, *gone]


def added(result: str, method: str, holders: list[str]) -> ast.stmt:
    """The statement that puts one element into the collection."""
    if not method:
        return ast.Assign([ast.Subscript(load(result), load(holders[0]), ast.Store())], load(holders[1]))
    append = ast.Call(ast.Attribute(load(result), method, ast.Load()), [load(holders[0])], [])
    append.suspends = False  # type: ignore[attr-defined]
    return ast.Expr(append)


class Rename(ast.NodeTransformer):
    """Renames variables, but not where a scope inside has one of the same name."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id in self.names:
            return located(ast.Name(self.names[node.id], node.ctx), node)
        return node

    def below(self, node: ast.AST) -> Rename:
        """The renaming inside a scope of its own, whose free variables change their names too."""
        scope: Scope = node.scope  # type: ignore[attr-defined]
        inner = Rename({old: new for old, new in self.names.items() if old not in scope.bound})
        scope.free = dict.fromkeys(inner.names.get(name, name) for name in scope.free)
        return inner

    def within(self, node: ast.AST, generators: list[ast.comprehension]) -> ast.AST:
        generators[0].iter = self.visit(generators[0].iter)
        inner = self.below(node)
        first = generators[0].iter
        generators[0].iter = store("_")
        inner.generic_visit(node)
        generators[0].iter = first
        return node

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        return self.within(node, node.generators)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        inner = self.below(node)
        node.args.defaults = [self.visit(default) for default in node.args.defaults]
        node.args.kw_defaults = [default and self.visit(default) for default in node.args.kw_defaults]
        node.body = inner.visit(node.body)
        return node
