"""The passes in order, and the two bodies that come out of them.

    source → mangle → unsupported → scopes → introspection → (nested functions)
           → structure: edges, branches, managers, loops, handlers → statements and expressions
           → genexps → lifetimes → yieldpoints → fresh | prologue → emit

The order is the same on every run, so that a resume body compiled later, elsewhere, has the same numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import CodeType, FunctionType

from ray_durable.compiler.backedges import DUE_NAME, watch
from ray_durable.compiler.passes import emit
from ray_durable.compiler.passes.branches import branches
from ray_durable.compiler.passes.build import child_blocks, constant, helper, if_, load, located
from ray_durable.compiler.passes.callees import may_suspend
from ray_durable.compiler.passes.cells import put_cells, receive_cells
from ray_durable.compiler.passes.edges import edges
from ray_durable.compiler.passes.fresh import cell_names, fresh_body
from ray_durable.compiler.passes.genexps import as_functions
from ray_durable.compiler.passes.handlers import handlers
from ray_durable.compiler.passes.introspection import hide_names
from ray_durable.compiler.passes.lifetimes import let_go, let_go_at_end, let_go_at_return
from ray_durable.compiler.passes.loops import loops
from ray_durable.compiler.passes.managers import managers
from ray_durable.compiler.passes.mangle import mangle
from ray_durable.compiler.passes.names import Names
from ray_durable.compiler.passes.prologue import resume_body
from ray_durable.compiler.passes.scopes import Scope, analyse
from ray_durable.compiler.passes.source import fingerprint, parse
from ray_durable.compiler.passes.statements import flatten
from ray_durable.compiler.passes.stopping import watch_calls
from ray_durable.compiler.passes.unsupported import refuse_unknown
from ray_durable.compiler.passes.walking import children
from ray_durable.compiler.passes.yieldpoints import Context, number
from ray_durable.compiler.unit import Kind, Mode, Source, Unit, register
from ray_durable.errors import UnsupportedSyntaxError

Rewrite = Callable[[ast.stmt, Context], list[ast.stmt] | None]
STRUCTURE: list[Rewrite] = [edges, branches, managers, loops, handlers]
Definition = ast.FunctionDef | ast.AsyncFunctionDef
# A frame made by a compiler that numbers yield points otherwise, or holds other things at them, would be misread. A
# change of the passes to that puts a number here, so that fingerprints differ (`identity.Code`, test_numbering.py).
NUMBERING: tuple[int, ...] = ()
UNITS_BY_SOURCE: dict[tuple[Source, Mode], Unit] = {}


@dataclass(slots=True, eq=False)
class Body:
    """One function after the passes: what both bodies are written from."""

    definition: Definition
    context: Context
    statements: list[ast.stmt]
    path: tuple[int, ...]
    qualname: str
    declared: list[ast.stmt]  # its `global` and `nonlocal` statements
    docstring: str | None
    nested: list[Body] = field(default_factory=list)


def compile_function(function: FunctionType, mode: Mode) -> Unit:
    """The unit of a function object, from its source."""
    from ray_durable.compiler import sources

    return compile_source(sources.source_of(function), mode, function.__code__)


def compile_source(source: Source, mode: Mode, code: CodeType | None = None) -> Unit:
    """The unit of a source; compiled once per source and mode."""
    known = UNITS_BY_SOURCE.get((source, mode))
    if known is None:
        known = UNITS_BY_SOURCE[source, mode] = build(source, mode)
    return known


@lru_cache(maxsize=4096)
def fingerprint_of(source: Source) -> str:
    """The fingerprint of a source's meaning."""
    return fingerprint(parse(source), source.class_name, *NUMBERING)


def build(source: Source, mode: Mode) -> Unit:
    """Compile the fresh body of a root function, and with it those of the functions inside."""
    body = passes(source, mode)
    units: dict[tuple[int, ...], Unit] = {}
    print_ = fingerprint_of(source)

    def declare(each: Body) -> None:
        units[each.path] = unit_for(each, source, mode, print_)
        for inner in each.nested:
            declare(inner)

    declare(body)

    def found(path: tuple[int, ...], code: CodeType) -> None:
        units[path].code = code
        register(code, units[path])

    root = units[()]
    root.code = emit_fresh(body, source, found)
    register(root.code, root)
    if mode == "looping":
        watch(root.code, body.context.loops)
    root.nested = tuple(unit for path, unit in units.items() if path)
    UNITS_BY_SOURCE[source, mode] = root
    try:
        for each in (root, *root.nested):
            if nesting(each, body) > BLOCKS_SURE:
                each.resume()  # refused now, if its resume body has more blocks in one another than CPython takes
    except UnsupportedSyntaxError:
        del UNITS_BY_SOURCE[source, mode]
        raise
    return root


BLOCKS_SURE = 5  # a block of the user's becomes at most three of CPython's 20, or four


def nesting(unit: Unit, body: Body) -> int:
    """How many blocks stand in one another in a unit's function."""

    def deepest(statements: list[ast.stmt]) -> int:
        return max(map(depth, statements), default=0)

    def depth(statement: ast.stmt) -> int:
        inner = max((deepest(getattr(owner, name)) for owner, name in child_blocks(statement)), default=0)
        return inner + isinstance(
            statement, ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar
        )

    for index in unit.path:
        body = body.nested[index]
    return deepest(body.statements)


def unit_for(body: Body, source: Source, mode: Mode, print_: str) -> Unit:
    context = body.context
    scope = context.scope
    captured_first = scope.parameters[:1] if scope.parameters[:1] and scope.parameters[0] in scope.captured else []
    names = context.names
    ours = {"at": names.at, "to": names.to, "cells": names.cells, "delegate": names.delegate}
    name = getattr(body.definition, "called", body.definition.name)
    return Unit(
        source=source, mode=mode, path=body.path, kind=context.kind, name=name, qualname=body.qualname,
        firstlineno=body.definition.lineno, parameters=tuple(scope.parameters), variables=scope.variables,
        own_cells=tuple(scope.captured), free=tuple(sorted(scope.free)), temporaries=held_anywhere(context), names=ours,
        points=tuple(context.points), code=NO_CODE, fingerprint=print_, cells_order=cell_names(context),
        is_twin=context.is_twin,
        first_parameter=captured_first[0] if captured_first else None,
        build_resume=partial(build_resume, source, mode, body.path),
    )  # fmt: skip


def held_anywhere(context: Context) -> tuple[str, ...]:
    """The compiler's locals that some frame of this function carries."""
    return tuple(dict.fromkeys(name for point in context.points for name in (*point.temporaries, *point.operands)))


NO_CODE = compile("", "<not compiled>", "exec")


# ---- the passes ------------------------------------------------------------------------------------------------------


def passes(source: Source, mode: Mode) -> Body:
    """Run all passes over a root function and the functions inside it."""
    definition = parse(source)
    definition.lineno = source.firstlineno  # as for CPython, a function begins with its first decorator
    mangle(definition, source.class_name)
    refuse_unknown(definition, source)
    scope = analyse(definition, source.free)
    return function_passes(definition, scope, source, mode, (), source.qualname)


def function_passes(
    definition: Definition, scope: Scope, source: Source, mode: Mode, path: tuple[int, ...], qualname: str
) -> Body:
    """All passes over one function; `mode` is that of the root, functions inside keep their kind."""
    kind = kind_of(definition)
    names = Names.avoiding({*scope.bound, *scope.used, *scope.free, *scope.globals})
    is_twin = mode != "native" and kind == "plain"
    kind = "generator" if is_twin else kind
    may = may_suspend(definition, scope, kind, mode)
    context = Context(source, mode, kind, names, scope, may, back_edges=mode == "looping", is_twin=is_twin)
    statements, docstring = without_docstring(definition.body)
    declared = declarations(statements)
    statements = without_declarations(statements)
    statements = hide_names(statements, scope, names.prefix)
    nested: list[Body] = []
    Nested(source, path, qualname, nested).within(statements)
    if context.kind != "plain":
        statements = flatten(structure(statements, context), context, lambda built: lowered(built, context))
        if scope.has_genexps:
            inside = Nested(source, path, qualname, nested)
            statements = as_functions(statements, context, inside.compile)
        watch_calls(statements)
        let_go_at_return(statements, names)
        let_go(statements, names)
        statements = let_go_at_end(statements, names, definition)
        number(statements, context)
    return Body(definition, context, statements, path, qualname, declared, docstring, nested)


def lowered(built: list[ast.stmt], context: Context) -> list[ast.stmt]:
    """Newly built statements through the passes so far."""
    return flatten(structure(built, context), context, lambda more: lowered(more, context))


def structure(body: list[ast.stmt], context: Context, rewrites: Sequence[Rewrite] = ()) -> list[ast.stmt]:
    """The passes over compound statements, each until none applies any more."""
    rewrites = rewrites or STRUCTURE
    found: list[ast.stmt] = []
    for statement in body:
        for rewrite in rewrites:
            new = rewrite(statement, context)
            if new is not None:
                found += structure(new, context, rewrites)
                break
        else:
            for owner, name in child_blocks(statement):
                setattr(owner, name, structure(getattr(owner, name), context, rewrites))
            found.append(statement)
    return found


@dataclass(slots=True)
class Nested:
    """Takes the functions inside a function through all passes, in place, and collects them in `found`."""

    source: Source
    path: tuple[int, ...]
    qualname: str
    found: list[Body]

    def within(self, body: list[ast.stmt]) -> None:
        """All functions in a block, also those in classes there."""
        stack: list[tuple[ast.stmt, str]] = [(statement, "") for statement in reversed(body)]
        while stack:
            node, prefix = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.compile(node, node.scope, prefix)  # type: ignore[union-attr]
            elif isinstance(node, ast.ClassDef):
                stack.extend((child, f"{prefix}{node.name}.") for child in reversed(node.body))
            else:
                blocks = [child for owner, name in child_blocks(node) for child in getattr(owner, name)]
                stack.extend((child, prefix) for child in reversed(blocks))

    def compile(self, node: Definition, scope: Scope, prefix: str = "") -> None:
        name = getattr(node, "called", node.name)
        path = (*self.path, len(self.found))
        inner = function_passes(node, scope, self.source, "native", path, f"{self.qualname}.<locals>.{prefix}{name}")
        self.found.append(inner)
        node.body = [located(emit.mark(inner.path, name, inner.docstring), node), *fresh_statements(inner)]


# ---- emission --------------------------------------------------------------------------------------------------------


def fresh_statements(body: Body) -> list[ast.stmt]:
    """The fresh body of a function, and what keeps it the kind that it is."""
    if body.context.kind == "plain":
        return [*body.declared, *body.statements]
    return [*body.declared, *fresh_body(body.statements, body.context), *as_generator(body)]


def as_generator(body: Body) -> list[ast.stmt]:
    # if False: yield        a twin that never suspends, or an async generator whose only points are `await`s
    kind = body.context.kind
    suspends = [point.kind for point in body.context.points if kind == "generator" or point.kind == "yield"]
    if kind in ("generator", "async_generator") and not suspends:
        never = located(if_(constant(False), [ast.Expr(ast.Yield(None))]), body.definition)
        return [never]
    return []


def emit_fresh(body: Body, source: Source, found: Callable[[tuple[int, ...], CodeType], None]) -> CodeType:
    doc = [] if body.docstring is None else [located(ast.Expr(constant(body.docstring)), body.definition)]
    statements = [*doc, *fresh_statements(body)]
    definition = emit.function(body.definition, statements, body.context.is_async, emit.bare(body.definition.args))
    return emit.code_of(definition, (*source.free, DUE_NAME), source, body.qualname, found)


def build_resume(source: Source, mode: Mode, path: tuple[int, ...]) -> CodeType:
    """Compile the resume body of the function at `path` in a root."""
    body = passes(source, mode)
    root = UNITS_BY_SOURCE[source, mode]
    units = {unit.path: unit for unit in (root, *root.nested)}
    while body.path != path:
        body = body.nested[path[len(body.path)]]
    return emit_resume(body, units)


def emit_resume(body: Body, units: dict[tuple[int, ...], Unit]) -> CodeType:
    context, unit = body.context, units[body.path]
    definition, free = resume_definition(body, unit), (*unit.free, DUE_NAME)
    code = emit.code_of(definition, free, unit.source, body.qualname, lambda path, code: register(code, units[path]))
    code = put_cells(code, unit.own_cells)
    if context.back_edges:
        watch(code, context.loops)
    return code


def resume_definition(body: Body, unit: Unit) -> Definition:
    """The resume body as a definition."""
    context = body.context
    names = context.names
    received = [receive(unit, body.definition), *receive_cells(unit.own_cells, unit.cells_order, names.cells)]
    statements = [*(located(each, body.definition) for each in received), *resume_body(body.statements, context)]
    assigned = [name for name in unit.free if name in context.scope.nonlocals]
    declared: list[ast.stmt] = [ast.Nonlocal(assigned)] if assigned else []
    shared = sorted(context.scope.globals)
    if shared:
        declared.append(ast.Global(shared))
    first = [names.first] if unit.first_parameter is not None else []
    parameters = [*first, *unit.variables, names.to, names.delegate, names.cells, *unit.temporaries]
    arguments = ast.arguments([], [ast.arg(name) for name in parameters], None, [], [], None, [])
    statements = [*(located(each, body.definition) for each in declared), *statements, *as_generator(body)]
    return emit.function(body.definition, statements, context.is_async, arguments)


def receive(unit: Unit, definition: Definition) -> ast.stmt:
    # if _to.__class__ is list: x, …, _to, _delegate, _cells, _it1, … = _to
    #                                       unpickling makes the object before there is any state to call it with, since
    #                                       a generator can be among its own locals; it hands a list in, filled later
    names = unit.names
    order = (*unit.variables, names["to"], names["delegate"], names["cells"], *unit.temporaries)
    kind = ast.Attribute(load(names["to"]), "__class__", ast.Load())
    targets = ast.Tuple([ast.Name(name, ast.Store()) for name in order], ast.Store())
    unpack = ast.Assign([targets], load(names["to"]))
    return located(if_(ast.Compare(kind, [ast.Is()], [helper("list")]), [located(unpack, definition)]), definition)


# ---- small questions about definitions -------------------------------------------------------------------------------


def kind_of(definition: Definition) -> Kind:
    """The kind of a function, by what its own scope holds."""
    yields = False
    stack: list[ast.AST] = list(definition.body)
    while stack and not yields:
        node = stack.pop()
        yields = isinstance(node, ast.Yield | ast.YieldFrom)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            stack += [*node.decorator_list, *node.args.defaults, *(each for each in node.args.kw_defaults if each)]
        elif isinstance(node, ast.ClassDef):
            stack += [*node.decorator_list, *node.bases, *node.keywords]
        elif not isinstance(node, ast.Lambda):
            stack.extend(children(node))
    if isinstance(definition, ast.AsyncFunctionDef):
        return "async_generator" if yields else "coroutine"
    return "generator" if yields else "plain"


def without_docstring(body: list[ast.stmt]) -> tuple[list[ast.stmt], str | None]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:], first.value.value
    return body, None


def without_declarations(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements without `global` and `nonlocal`, which `declarations` puts first."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Global | ast.Nonlocal):
            continue
        if isinstance(statement, ast.AnnAssign) and statement.simple:
            # x: T = v   =>   x = v     a local's annotation is not evaluated, and one may not stand beside `nonlocal x`
            # x: T       =>   if False: x = None     it only makes the name local
            value = statement.value or located(constant(None), statement)
            assigned = located(ast.Assign([statement.target], value), statement)
            statement = assigned if statement.value else located(if_(constant(False), [assigned]), statement)
        for owner, name in child_blocks(statement):
            block = getattr(owner, name)
            if block:
                setattr(owner, name, without_declarations(block) or [located(ast.Pass(), block[0])])
        found.append(statement)
    return found


def declarations(body: list[ast.stmt]) -> list[ast.stmt]:
    """The `global` and `nonlocal` statements of a function."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Global | ast.Nonlocal):
            found.append(statement)
        for owner, name in child_blocks(statement):
            found += declarations(getattr(owner, name))
    return found
