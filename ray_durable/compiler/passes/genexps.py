"""Generator expressions as nested generator functions, so that one that is held across a yield point can be captured.

Goal    a generator expression of a function is a durable generator.
Needs   statements that cannot suspend inside: the function is made right before its only use.
Keeps   the first iterable is evaluated (and `iter` called on it) in the function around, at once; names, `<genexpr>`.
Leaves  those inside lambdas, comprehensions and class bodies: they see variables of a scope that has no statements.

    total = sum(f(x) for x in X if x)    =>    def _fn1(.0):
                                                   for x in .0:
                                                       if x: yield f(x)
                                               total = sum(_fn1(loop_iter(X)))
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ray_durable.compiler.passes.build import assign, call, child_blocks, constant, if_, load, located
from ray_durable.compiler.passes.scopes import COMPREHENSIONS, Scope, defaults
from ray_durable.compiler.passes.walking import children, walk
from ray_durable.compiler.passes.yieldpoints import Context

FIRST = ".0"  # CPython's own name for the argument
Definition = ast.FunctionDef | ast.AsyncFunctionDef
Compile = Callable[[Definition, Scope], None]


def as_functions(body: list[ast.stmt], context: Context, compile_nested: Compile) -> list[ast.stmt]:
    """Run the pass over a block. `compile_nested` takes each new function through all passes, in place."""
    found: list[ast.stmt] = []
    for statement in body:
        lift = Lift(context)
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            lift.header(statement)
        for definition, scope in lift.made:
            found += bindings(definition)
            compile_nested(definition, scope)
            found.append(definition)
        for owner, name in child_blocks(statement):
            setattr(owner, name, as_functions(getattr(owner, name), context, compile_nested))
        found.append(statement)
    return found


def bindings(definition: Definition) -> list[ast.stmt]:
    # if False: last = None        what only a walrus inside binds is a variable of the function around all the same
    first = definition.body[0]
    if not isinstance(first, ast.Nonlocal):
        return []
    return [located(if_(constant(False), [assign(name, constant(None)) for name in first.names]), definition)]


OF_TYPE_PARAMETERS = ("type_params", "bases", "keywords", "returns")  # evaluated in their scope, where they are


class Lift(ast.NodeTransformer):
    """Takes the generator expressions out of one statement, not out of the blocks below it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.made: list[tuple[Definition, Scope]] = []

    def header(self, statement: ast.stmt) -> None:
        blocks = {name for owner, name in child_blocks(statement) if owner is statement}
        if statement.__class__.__name__ == "TypeAlias":
            return
        generic = getattr(statement, "type_params", [])
        for name, value in ast.iter_fields(statement):
            if generic and name in OF_TYPE_PARAMETERS:
                continue
            if isinstance(value, ast.expr):
                if has_genexp(value):
                    setattr(statement, name, self.visit(value))
            elif isinstance(value, list) and name not in blocks and name not in ("handlers", "cases"):
                value[:] = [self.visit(each) if has_genexp(each) else each for each in value]

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        first = node.generators[0]
        iterable = self.visit(first.iter)
        start = located(call("async_iter" if first.is_async else "loop_iter", iterable), iterable)
        name = self.context.names.fresh("fn")
        self.made.append((definition(node, name, self.context), prepared(node)))
        return located(ast.Call(load(name), [start], []), node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        node.args.defaults = [self.visit(default) for default in node.args.defaults]
        return node

    def within(self, node: ast.expr) -> ast.expr:
        assert isinstance(node, COMPREHENSIONS)
        node.generators[0].iter = self.visit(node.generators[0].iter)
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = within


def has_genexp(node: object) -> bool:
    return isinstance(node, ast.AST) and any(isinstance(inner, ast.GeneratorExp) for inner in walk(node))


def prepared(node: ast.GeneratorExp) -> Scope:
    """The scope of the new function: that of the expression, with its parameter."""
    scope: Scope = node.scope  # type: ignore[attr-defined]
    scope.parameters = [FIRST]
    scope.bound = {FIRST: None} | scope.bound
    return scope


def definition(node: ast.GeneratorExp, name: str, context: Context) -> Definition:
    """The function that does what the expression does."""
    produce: ast.stmt = located(ast.Expr(located(ast.Yield(node.elt), node.elt)), node.elt)
    body: list[ast.stmt] = [produce]
    for index in reversed(range(len(node.generators))):
        clause = node.generators[index]
        for condition in reversed(clause.ifs):
            body = [located(if_(condition, body), condition)]
        iterable = clause.iter if index else located(load(FIRST), clause.iter)
        loop = ast.AsyncFor if clause.is_async else ast.For
        body = [located(loop(clause.target, iterable, body, []), node)]
    outer = sorted({inner.target.id for inner in walk(node) if isinstance(inner, ast.NamedExpr)})
    for declaration, chosen in (
        (ast.Global, context.scope.globals),
        (ast.Nonlocal, set(outer) - context.scope.globals),
    ):
        if names := [each for each in outer if each in chosen]:
            body.insert(0, located(declaration(names), node))
    arguments = ast.arguments([], [ast.arg(FIRST)], None, [], [], None, [])
    kind = ast.AsyncFunctionDef if awaits(node) else ast.FunctionDef
    made = located(kind(name, arguments, body, []), node)
    made.type_params = []  # type: ignore[attr-defined, union-attr, unused-ignore]
    made.called = "<genexpr>"  # type: ignore[union-attr]
    return made


def awaits(node: ast.GeneratorExp) -> bool:
    """Whether the expression makes an async generator: its own scope awaits, or a comprehension there does."""
    first, *later = node.generators
    stack: list[ast.AST] = [node.elt, first.target, *first.ifs, *later]
    if first.is_async:
        return True
    while stack:
        inner = stack.pop()
        if isinstance(inner, ast.Await) or (isinstance(inner, ast.comprehension) and inner.is_async):
            return True
        if isinstance(inner, ast.GeneratorExp):
            stack.append(inner.generators[0].iter)
        elif isinstance(inner, ast.Lambda):
            stack += defaults(inner.args)
        else:
            stack.extend(children(inner))
    return False
