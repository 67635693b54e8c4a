"""Which nodes may suspend; and, at the end, the number of each yield point and what is alive there.

`suspends` is asked by all passes, about statements and expressions, old and newly built ones; what is inside nested
functions, lambdas and class bodies does not count, as it runs in a frame of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field

from ray_durable.compiler.backedges import Head
from ray_durable.compiler.passes.build import Suspend, child_blocks, own_points
from ray_durable.compiler.passes.names import Names
from ray_durable.compiler.passes.scopes import Scope, class_arguments, defaults
from ray_durable.compiler.passes.walking import children, walk
from ray_durable.compiler.unit import Kind, Mode, Source, YieldPoint


@dataclass(slots=True, eq=False)
class Context:
    """What the passes know of the function at hand. `may_suspend`: whether a call is an implicit yield point."""

    source: Source
    mode: Mode
    kind: Kind
    names: Names
    scope: Scope
    may_suspend: Callable[[ast.Call], bool]
    back_edges: bool = False
    is_twin: bool = False  # whether the function is plain, and this its twin
    points: list[YieldPoint] = field(default_factory=list)
    loops: list[Head] = field(default_factory=list)  # those that can be left at their back-edges

    @property
    def is_async(self) -> bool:
        return self.kind in ("coroutine", "async_generator")


def suspends(node: ast.AST, context: Context) -> bool:
    """Whether running `node` can reach a yield point of this function."""
    known: bool | None = getattr(node, "suspends", None)
    if known is None:
        known = _suspends(node, context)
        node.suspends = known  # type: ignore[attr-defined]
    return known


def any_suspends(nodes: list[ast.stmt] | list[ast.expr], context: Context) -> bool:
    return any(suspends(node, context) for node in nodes)


def _suspends(node: ast.AST, context: Context) -> bool:
    match node:
        case ast.Yield() | ast.YieldFrom() | ast.Await() | Suspend() | ast.AsyncFor() | ast.AsyncWith():
            return True
        case ast.Constant() | ast.Name():
            return False
        case ast.Call() if context.may_suspend(node):
            return True
        case ast.comprehension(is_async=1):
            return True
        case ast.Lambda():
            return any_suspends(defaults(node.args), context)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return any_suspends([*node.decorator_list, *defaults(node.args)], context)
        case ast.ClassDef():
            return any_suspends([*node.decorator_list, *class_arguments(node)], context)
        case ast.GeneratorExp():
            return suspends(node.generators[0].iter, context)
        case _ if node.__class__.__name__ == "TypeAlias":  # from 3.12 on; evaluated later, in a scope of its own
            return False
        case ast.AnnAssign():
            return suspends(node.target, context) or (node.value is not None and suspends(node.value, context))
    return any(suspends(child, context) for child in children(node))


def number(body: list[ast.stmt], context: Context) -> None:
    """Number the yield points in the order in which they stand, and note the compiler's locals alive at each."""
    suspensions: list[Suspend] = []
    stack: list[ast.AST] = list(reversed(body))
    while stack:
        node = stack.pop()
        if isinstance(node, Suspend):
            suspensions.append(node)
            node.number = len(suspensions)
        elif isinstance(node, ast.stmt):
            blocks = [statement for owner, name in child_blocks(node) for statement in getattr(owner, name)]
            before, after = own_points(node)
            stack.extend(reversed([*before, *blocks, *after]))
    Liveness(frozenset(context.names.used)).of_body(body)
    context.points = [
        YieldPoint(each.number, each.kind, each.lineno, each.col_offset, each.temporaries, each.operands)
        for each in suspensions
    ]


def assigned(body: list[ast.stmt], constants: bool = False) -> dict[str, None]:
    """The plain names that a block assigns, in order; `constants`: also those that it clears, but for a `return`, or
    binds in a test."""
    found: dict[str, None] = {}
    stack = list(reversed(body))
    while stack:
        statement = stack.pop()
        if isinstance(statement, ast.Assign):
            if not isinstance(statement.value, ast.Constant) or (constants and not hasattr(statement, "leaves")):
                found |= dict.fromkeys(name for target in statement.targets for name in names_in(target))
        elif isinstance(statement, ast.For | ast.AsyncFor):
            found |= dict.fromkeys(names_in(statement.target))
        elif isinstance(statement, ast.If) and constants:
            found |= dict.fromkeys(bound_in(statement.test))
        elif isinstance(statement, ast.With | ast.AsyncWith):
            found |= dict.fromkeys(name for item in statement.items for name in names_in(item.optional_vars))
        elif isinstance(statement, ast.Try | ast.TryStar):
            found |= dict.fromkeys(handler.name for handler in statement.handlers if handler.name is not None)
        elif isinstance(statement, Suspend) and statement.target is not None:
            found[statement.target] = None
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            found[statement.name] = None
        stack.extend(child for owner, name in child_blocks(statement) for child in reversed(getattr(owner, name)))
    return found


def names_in(target: ast.expr | None) -> list[str]:
    """The plain names that a target binds."""
    match target:
        case ast.Name():
            return [target.id]
        case ast.Starred():
            return names_in(target.value)
        case ast.Tuple() | ast.List():
            return [name for element in target.elts for name in names_in(element)]
    return []


def bound_in(test: ast.expr) -> list[str]:
    """The names that a test binds on the way: `(_v2 := suspending(_v1)) is None`."""
    return [inner.target.id for inner in walk(test) if isinstance(inner, ast.NamedExpr)]


def names_read(body: list[ast.stmt]) -> set[str]:
    """The names that a block reads, nested functions left out."""
    found: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                found.add(node.id)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack.extend(children(node))
    return found


Live = frozenset[str]
NOTHING: Live = frozenset()


class Liveness:
    """Which of the compiler's locals hold something that will still be read, backwards through the statements."""

    def __init__(self, names: Live) -> None:
        self.names = names
        self.breaks: list[Live] = []
        self.continues: list[Live] = []
        self.escape: list[Live] = [NOTHING]  # what handlers and finally blocks around this place may read

    def of_body(self, body: list[ast.stmt]) -> None:
        self.block(body, NOTHING)

    def block(self, statements: list[ast.stmt], live: Live) -> Live:
        for statement in reversed(statements):
            live = self.statement(statement, live)
        return live

    def statement(self, statement: ast.stmt, live: Live) -> Live:
        match statement:
            case Suspend():
                if statement.target is not None:
                    live -= {statement.target}
                live |= self.escape[-1]
                read = self.read(statement.operand)
                statement.temporaries = tuple(sorted(live & self.names))
                statement.operands = tuple(sorted(read - live)) if statement.kind == "await" else ()
                return live | read
            case ast.If():
                inside = self.block(statement.body, live) | self.block(statement.orelse, live)
                return (inside - self.asked(statement.test)) | self.read(statement.test)
            case ast.For():
                return self.loop(statement, live, self.read(statement.iter))
            case ast.AsyncFor():
                live = self.loop(statement, live, self.read(statement.iter)) | self.escape[-1]
                statement.step.temporaries = tuple(sorted(live & self.names))  # type: ignore[attr-defined]
                return live
            case ast.While():
                return self.loop(statement, live, self.read(statement.test))
            case ast.With():
                kept = self.read(statement)
                escape = self.escape[-1] | kept | live  # what is raised inside may be suppressed
                inside = self.block_within(statement.body, live | kept, escape)
                return kept | (inside - self.stored(statement.items[0].optional_vars))
            case ast.AsyncWith():
                return self.entered(statement, live)
            case ast.Try() | ast.TryStar():
                return self.attempt(statement, live)
            case ast.Return() | ast.Raise():
                return self.escape[-1] | self.read(statement)
            case ast.Break():
                return self.breaks[-1]
            case ast.Continue():
                return self.continues[-1]
            case ast.Match():
                last = statement.cases[-1]
                certain = last.guard is None and isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
                inside = NOTHING if certain else live
                for case in statement.cases:
                    inside |= self.block(case.body, live) | self.read(case)
                return inside | self.read(statement.subject)
        return (live - self.written(statement)) | self.read(statement)

    def entered(self, statement: ast.AsyncWith, live: Live) -> Live:
        kept: Live = frozenset([statement.manager])  # type: ignore[attr-defined]
        live |= kept | self.escape[-1]
        for way, there in (("break", self.breaks), ("continue", self.continues)):
            if way in statement.leaves_by:  # type: ignore[attr-defined]
                live |= there[-1]
        leaving = live | {statement.left}  # type: ignore[attr-defined]
        statement.leave.temporaries = tuple(sorted(leaving & self.names))  # type: ignore[attr-defined]
        inside = self.block_within(statement.body, leaving, live)
        live = kept | (inside - self.stored(statement.items[0].optional_vars))
        statement.enter.temporaries = tuple(sorted(live & self.names))  # type: ignore[attr-defined]
        return live

    def loop(self, statement: ast.For | ast.AsyncFor | ast.While, live: Live, header: Live) -> Live:
        after = self.block(statement.orelse, live)
        head = after | header
        kept = frozenset([statement.iterator]) if hasattr(statement, "iterator") else NOTHING
        bound = NOTHING if isinstance(statement, ast.While) else self.stored(statement.target)
        # from pass to pass only what was made before the loop stays: no value is carried over a back-edge
        made_inside = bound.union(assigned(statement.body, constants=True))
        head |= self.names.intersection(names_read(statement.body)) - made_inside
        self.breaks.append(live)
        self.continues.append(head)
        head |= self.block_within(statement.body, head, self.escape[-1] | kept) - bound
        self.breaks.pop()
        self.continues.pop()
        return head

    def attempt(self, statement: ast.Try | ast.TryStar, live: Live) -> Live:
        outer = self.escape[-1]
        outcome: Live = frozenset([statement.outcome]) if hasattr(statement, "outcome") else NOTHING
        final = self.block_within(statement.finalbody, live, outer | outcome) if statement.finalbody else live
        final -= outcome
        escape = outer | (final if statement.finalbody else NOTHING)
        handled = NOTHING
        for handler in statement.handlers:
            held = frozenset([handler.name] if handler.name in self.names else [])
            held |= frozenset(getattr(statement, "kept_in_handlers", ()))
            inside = self.block_within(handler.body, final, escape | held)
            handled |= (inside - held) | self.read(handler.type)
        orelse = self.block_within(statement.orelse, final, escape)
        return self.block_within(statement.body, orelse, escape | handled)

    def block_within(self, statements: list[ast.stmt], live: Live, escape: Live) -> Live:
        self.escape.append(escape)
        found = self.block(statements, live)
        self.escape.pop()
        return found | escape

    def read(self, node: ast.AST | None) -> Live:
        """The names that the expressions of `node` read; statements inside `with` and handlers are left out."""
        found: set[str] = set()
        stack: list[ast.AST] = [] if node is None else [node]
        while stack:
            here = stack.pop()
            if isinstance(here, ast.Name):
                if isinstance(here.ctx, ast.Load) and here.id in self.names:
                    found.add(here.id)
            elif isinstance(here, ast.With):
                stack.extend(here.items)
            elif isinstance(here, ast.FunctionDef | ast.AsyncFunctionDef):  # inside, names are those of another frame
                stack.extend([*here.decorator_list, *defaults(here.args)])
            elif isinstance(here, ast.Lambda):
                stack.extend(defaults(here.args))
            elif isinstance(here, ast.ClassDef):
                stack.extend([*here.decorator_list, *here.bases, *(keyword.value for keyword in here.keywords)])
            elif isinstance(here, ast.match_case):
                stack.extend(part for part in (here.pattern, here.guard) if part is not None)
            else:
                if (
                    isinstance(here, ast.AugAssign)
                    and isinstance(here.target, ast.Name)
                    and here.target.id in self.names
                ):
                    found.add(here.target.id)
                stack.extend(children(here))
        return frozenset(found)

    def asked(self, test: ast.expr) -> Live:
        """The names that a test of ours binds for the block that reads them."""
        return self.names.intersection(bound_in(test))

    def stored(self, target: ast.expr | None) -> Live:
        return self.names.intersection(names_in(target))

    def written(self, statement: ast.stmt) -> Live:
        if isinstance(statement, ast.Assign):
            return frozenset().union(*(self.stored(target) for target in statement.targets))
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return frozenset([statement.name])
        return NOTHING
