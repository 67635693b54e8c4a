"""Names: which variables a function owns, which of them nested functions capture, and what `__x` stands for.

Goal    every definition in the tree carries `.scope`, with its parameters, locals, captured and free variables.
Keeps   Python's rules. Comprehensions count as part of the function around them on every version, so that a frame has
        the same shape on 3.11 (where they are functions) and later. Type parameters live in a scope of their own around
        their definition; what is evaluated there, or later in there, captures variables as a function does.
Leaves  class bodies to CPython, also for `__x` inside them.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from ray_durable.compiler.passes.walking import Visitor, children

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)


@dataclass(slots=True, eq=False)
class Scope:
    """The names of one function, class, comprehension or annotation scope."""

    kind: str  # "function", "genexp", "class", "comprehension" or "annotation"
    parent: Scope | None
    parameters: list[str] = field(default_factory=list)
    bound: dict[str, None] = field(default_factory=dict)  # in order of appearance, parameters first
    used: dict[str, None] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    captured: dict[str, None] = field(default_factory=dict)  # own variables that functions inside refer to
    free: dict[str, None] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    has_genexps: bool = False

    @property
    def is_function(self) -> bool:
        return self.kind in ("function", "genexp", "annotation")

    @property
    def variables(self) -> tuple[str, ...]:
        """Local variables that live in no shared cell, parameters first."""
        return tuple(name for name in self.bound if self.owns(name) and name not in self.captured)

    def owns(self, name: str) -> bool:
        return name in self.bound and name not in self.globals and name not in self.nonlocals


def analyse(definition: ast.AST, free: tuple[str, ...]) -> Scope:
    """Give every definition in the tree its `.scope`. `free`: the root's free variables."""
    outside = Scope("function", None)
    outside.bound = dict.fromkeys(free)
    analysis = Analysis(outside)
    analysis.function(definition)
    for scope in analysis.scopes:
        resolve(scope)
    found: Scope = definition.scope  # type: ignore[attr-defined]
    return found


def resolve(scope: Scope) -> None:
    """Follow each name that `scope` uses to the function that owns it; mark it captured there, free on the way."""
    names = dict(scope.used) | dict.fromkeys(sorted(scope.nonlocals))
    for name in names:
        if scope.owns(name) or name in scope.globals:
            continue
        crossed = [scope]
        through_function = scope.is_function
        sees_class = scope.kind == "annotation"
        owner = scope.parent
        while owner is not None:
            if owner.kind == "class":
                if name == "__class__":
                    break
                if sees_class and owner.owns(name):  # looked up in the class, and then in the globals
                    owner = None
                    break
            elif name in owner.globals:
                owner = None
                break
            elif owner.owns(name):
                break
            else:
                through_function = through_function or owner.is_function
            crossed.append(owner)
            sees_class = sees_class and owner.kind == "annotation"
            owner = owner.parent
        if owner is None:
            continue
        if through_function and owner.kind != "class":
            owner.captured[name] = None
        for passed in crossed:
            if passed.is_function:
                passed.free[name] = None


class Analysis(Visitor):
    """Collects what each scope binds and uses."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.scopes: list[Scope] = []

    def inside(self, kind: str) -> Scope:
        self.scope = Scope(kind, self.scope)
        self.scopes.append(self.scope)
        return self.scope

    def bind(self, name: str) -> None:
        self.scope.bound[name] = None

    def function(self, node: ast.AST) -> None:
        """The inside of a definition, in a scope of its own."""
        outer = self.scope
        scope = self.inside("genexp" if isinstance(node, ast.GeneratorExp) else "function")
        node.scope = scope  # type: ignore[attr-defined]
        if isinstance(node, ast.GeneratorExp):
            self.clauses(node.generators, [node.elt])
        else:
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for name in parameter_names(node.args):
                scope.parameters.append(name)
                self.bind(name)
            for statement in [node.body] if isinstance(node, ast.Lambda) else node.body:
                self.visit(statement)
        self.scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.bind(node.name)
        for outside in [*node.decorator_list, *defaults(node.args)]:
            self.visit(outside)
        outer = self.type_parameters(node)
        for annotation in annotation_parts(node):
            self.visit(annotation)
        self.function(node)
        self.scope = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def type_parameters(self, node: ast.AST) -> Scope:
        """Enter the scope of a definition's type parameters, if it has any; gives the one around it."""
        outer = self.scope
        parameters: list[Any] = getattr(node, "type_params", [])
        if parameters:
            self.inside("annotation")
        for each in parameters:
            self.bind(each.name)
        for each in parameters:
            for later in children(each):  # its bound and its default
                self.evaluated_later(later)
        return outer

    def evaluated_later(self, node: ast.AST) -> None:
        outer = self.scope
        self.inside("annotation")
        self.visit(node)
        self.scope = outer

    def visit_TypeAlias(self, node: Any) -> None:
        self.visit(node.name)
        outer = self.type_parameters(node)
        self.evaluated_later(node.value)
        self.scope = outer

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for default in defaults(node.args):
            self.visit(default)
        self.function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name)
        for decorator in node.decorator_list:
            self.visit(decorator)
        outer = self.type_parameters(node)
        for argument in [*node.bases, *node.keywords]:
            self.visit(argument)
        self.inside("class")
        for statement in node.body:
            self.visit(statement)
        self.scope = outer

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.scope.has_genexps = True
        self.visit(node.generators[0].iter)
        self.function(node)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp) -> None:
        self.comprehension(node, node.generators, [node.elt])

    visit_SetComp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self.comprehension(node, node.generators, [node.key, node.value])

    def comprehension(self, node: ast.AST, clauses: list[ast.comprehension], elements: list[ast.expr]) -> None:
        self.visit(clauses[0].iter)
        outer = self.scope
        node.scope = self.inside("comprehension")  # type: ignore[attr-defined]
        self.clauses(clauses, elements)
        self.scope = outer

    def clauses(self, clauses: list[ast.comprehension], elements: list[ast.expr]) -> None:
        for index, clause in enumerate(clauses):
            if index:
                self.visit(clause.iter)
            self.visit(clause.target)
            for condition in clause.ifs:
                self.visit(condition)
        for element in elements:
            self.visit(element)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scope = self.scope
        while scope.kind in ("comprehension", "genexp"):
            assert scope.parent is not None
            scope = scope.parent
        name = node.target.id
        scope.bound[name] = None
        if self.scope is not scope:
            self.scope.used[name] = None

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.scope.used[node.id] = None
            if node.id == "super":
                self.scope.used["__class__"] = None
        else:
            self.bind(node.id)
            if isinstance(node.ctx, ast.Del):
                self.scope.deleted.add(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocals.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bind(node.name)
            self.scope.deleted.add(node.name)
        self.visit_children(node)

    def visit_alias(self, node: ast.alias) -> None:
        self.bind(node.asname or node.name.partition(".")[0])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.bind(node.name)
        self.visit_children(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.bind(node.rest)
        self.visit_children(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.bind(node.target.id)
        else:
            self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)


def parameter_names(arguments: ast.arguments) -> list[str]:
    """All parameters in the order of `co_varnames`: positional, keyword-only, `*args`, `**kwargs`."""
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return names + [extra.arg for extra in (arguments.vararg, arguments.kwarg) if extra is not None]


def defaults(arguments: ast.arguments) -> list[ast.expr]:
    """The default values in evaluation order."""
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def class_arguments(node: ast.ClassDef) -> list[ast.expr]:
    """The bases and keyword values that the function around a class evaluates: not those of a generic class."""
    if getattr(node, "type_params", []):
        return []
    return [*node.bases, *(keyword.value for keyword in node.keywords)]


def annotation_parts(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = [argument.annotation for argument in every if argument is not None and argument.annotation is not None]
    return found + ([node.returns] if node.returns is not None else [])
