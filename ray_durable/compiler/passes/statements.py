"""Simple statements that suspend, lowered through `expressions`; compound ones are only walked through.

Goal    each statement with yield points becomes a run of statements whose yield points are `Suspend`s.
Keeps   the order of Python: value before targets, targets from left to right, object and index before the value of an
        augmented assignment.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ray_durable.compiler.passes.build import Suspend, assign, child_blocks, clear, load, located
from ray_durable.compiler.passes.expressions import Flatten, replace_defaults
from ray_durable.compiler.passes.operands import Lower
from ray_durable.compiler.passes.scopes import class_arguments
from ray_durable.compiler.passes.yieldpoints import Context, suspends


def flatten(body: list[ast.stmt], context: Context, lower: Lower) -> list[ast.stmt]:
    """Run the pass over a block. `lower` runs all passes up to this one over newly built statements."""
    found: list[ast.stmt] = []
    for statement in body:
        if not suspends(statement, context) or isinstance(statement, Suspend):
            found.append(statement)
            continue
        context.names.values = context.names.taken
        found += Statement(context, lower, statement).lowered()
        for owner, name in child_blocks(statement):
            setattr(owner, name, flatten(getattr(owner, name), context, lower))
    context.names.values = context.names.taken
    return found


class Statement(Flatten):
    """Lowers one statement."""

    def __init__(self, context: Context, lower: Lower, statement: ast.stmt) -> None:
        super().__init__(context, lower, statement)
        self.statement = statement

    def lowered(self) -> list[ast.stmt]:
        handler: Callable[[ast.stmt], None] | None = getattr(self, "lower_" + type(self.statement).__name__, None)
        if handler is None:
            self.emit(self.statement)
            return self.out
        handler(self.statement)
        if not isinstance(self.statement, ast.Return | ast.Raise | ast.If):
            self.out += self.cleared()
        return self.out

    def cleared(self) -> list[ast.stmt]:
        """Let go of the half-evaluated values, as CPython's stack would have by now."""
        return [located(each, self.statement) for each in clear(self.made)]

    def lower_Expr(self, node: ast.Expr) -> None:
        match node.value:
            case ast.Yield(value=value):
                self.emit(Suspend("yield", self.value(value) if value else None), node.value)
            case ast.Await(value=value):
                self.emit(Suspend("await", self.awaited(value)), node.value)
            case _:
                value = self.value(node.value)
                if not self.retarget(value, None) and not isinstance(value, ast.Name):
                    self.emit(located(ast.Expr(value), node))

    def lower_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        if not any(self.suspends(target) for target in node.targets):
            self.store_into(node, value)
            return
        kept = self.keep(value)
        for target in node.targets:
            self.put(target, kept)

    def store_into(self, node: ast.Assign, value: ast.expr) -> None:
        # x = yield v    stays one yield point, straight into x
        target = node.targets[0]
        if not (len(node.targets) == 1 and isinstance(target, ast.Name) and self.retarget(value, target.id)):
            self.emit(ast.Assign(node.targets, value), node)

    def retarget(self, value: ast.expr, target: str | None) -> bool:
        """Let the yield point or call that was emitted last store its result in `target` itself, when `value` is it."""
        last = self.out[-1] if self.out else None
        if not isinstance(value, ast.Name) or getattr(last, "result", None) != value.id:
            return False
        assert last is not None
        retarget(last, value.id, target)
        self.made.pop(value.id)
        return True

    def put(self, target: ast.expr, value: ast.expr) -> None:
        """`target = value`, where the target may suspend."""
        if not self.suspends(target):
            self.emit(ast.Assign([target], value), target)
            return
        match target:
            case ast.Attribute() | ast.Subscript():
                self.emit(ast.Assign([self.value(target)], value), target)
            case ast.Tuple() | ast.List():
                # a[(yield)], *b = v   =>   _v1, *_v2 = v; a[(yield)] = _v1; b = _v2
                parts: list[ast.expr] = []
                names: list[str] = []
                for element in target.elts:
                    names.append(self.new())
                    part: ast.expr = ast.Name(names[-1], ast.Store())
                    parts.append(ast.Starred(part, ast.Store()) if isinstance(element, ast.Starred) else part)
                self.emit(ast.Assign([ast.Tuple(parts, ast.Store())], value), target)
                for element, name in zip(target.elts, names, strict=True):
                    self.put(element.value if isinstance(element, ast.Starred) else element, load(name))
            case _:
                raise AssertionError(ast.dump(target))

    def lower_AugAssign(self, node: ast.AugAssign) -> None:
        # o[i] += (yield)   =>   _v1 = o; _v2 = i; _v3 = _v1[_v2]; _v4 = yield; _v3 += _v4; _v1[_v2] = _v3
        target: ast.expr
        match node.target:
            case ast.Name() as name:
                target, source = name, load(name.id)
            case ast.Attribute() as attribute:
                owner = self.keep(attribute.value)
                target = ast.Attribute(owner, attribute.attr, ast.Store())
                source = ast.Attribute(owner, attribute.attr, ast.Load())  # type: ignore[assignment]
            case ast.Subscript() as subscript:
                owner, index = (self.keep(part) for part in (subscript.value, subscript.slice))
                target = ast.Subscript(owner, index, ast.Store())
                source = ast.Subscript(owner, index, ast.Load())  # type: ignore[assignment]
        value = self.new()
        self.emit(assign(value, located(source, node.target)), node)
        operand = self.value(node.value)
        self.emit(ast.AugAssign(ast.Name(value, ast.Store()), node.op, operand), node)
        self.emit(ast.Assign([located(target, node.target)], load(value)), node)

    def lower_AnnAssign(self, node: ast.AnnAssign) -> None:
        # the annotation of a local is not evaluated
        if node.value is not None:
            self.lower_Assign(located(ast.Assign([node.target], node.value), node))
        elif isinstance(node.target, ast.Attribute | ast.Subscript):
            self.value(located(ast.Tuple([node.target.value], ast.Load()), node))

    def lower_Return(self, node: ast.Return) -> None:
        assert node.value is not None
        self.emit(ast.Return(self.value(node.value)), node)

    def lower_Raise(self, node: ast.Raise) -> None:
        parts = self.values([part for part in (node.exc, node.cause) if part is not None])
        self.emit(ast.Raise(*parts), node)

    def lower_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List):
                self.lower_Delete(located(ast.Delete(target.elts), target))
            else:
                self.emit(ast.Delete([self.value(target)]), node)

    def lower_If(self, node: ast.If) -> None:
        if self.suspends(node.test):
            node.test = self.test(node.test)
            node.body = self.cleared() + node.body
            node.orelse = self.cleared() + node.orelse
        self.emit(node)

    def lower_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        def values(nodes: list[ast.expr]) -> list[ast.expr]:
            lowered = self.values([*node.decorator_list, *nodes])
            node.decorator_list = lowered[: len(node.decorator_list)]
            return lowered[len(node.decorator_list) :]

        replace_defaults(node.args, values)
        self.emit(node)

    lower_AsyncFunctionDef = lower_FunctionDef

    def lower_ClassDef(self, node: ast.ClassDef) -> None:
        decorators, arguments = len(node.decorator_list), class_arguments(node)
        lowered = self.values([*node.decorator_list, *arguments])
        node.decorator_list = lowered[:decorators]
        if arguments:
            bases = decorators + len(node.bases)
            node.bases = lowered[decorators:bases]
            for keyword, value in zip(node.keywords, lowered[bases:], strict=True):
                keyword.value = value
        self.emit(node)


def retarget(statement: ast.stmt, result: str, target: str | None) -> None:
    """Let what stores into `result` store into `target`, in all branches of a lowered call."""
    if isinstance(statement, Suspend):
        statement.target = target
    for owner, name in child_blocks(statement):
        block = getattr(owner, name)
        for index, inner in enumerate(block):
            if isinstance(inner, ast.If | Suspend):
                retarget(inner, result, target)
            elif (
                isinstance(inner, ast.Assign)
                and isinstance(inner.targets[0], ast.Name)
                and inner.targets[0].id == result
            ):
                stored = assign(target, inner.value) if target is not None else ast.Expr(inner.value)
                block[index] = located(stored, inner)
