"""Half-evaluated expressions: every yield point becomes a statement, what was evaluated before it a named local.

Goal    after this pass a function suspends in `Suspend` statements only.
Needs   headers of compound statements that hold yield points turned into statements (`branches`, `managers`, `loops`).
Keeps   evaluation order, short circuits, chained comparisons and how often a truth value is asked for.
Leaves  statements that cannot suspend, untouched.

    x = f(a, (yield b), c)      =>      _v1 = f
                                        _v2 = a
                                        _v3 = yield b
                                        x = _v1(_v2, _v3, c)
                                        _v1 = _v2 = _v3 = None
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ray_durable.compiler.passes.build import PointKind, Suspend, call, constant, load, located
from ray_durable.compiler.passes.calls import Calls
from ray_durable.compiler.passes.comprehensions import inlined
from ray_durable.compiler.passes.operands import Spread
from ray_durable.compiler.passes.yieldpoints import suspends


class Flatten(Calls):
    """Lowers the expressions of one statement, each kind in its way."""

    # ---- each kind of expression -------------------------------------------------------------------------------------
    def suspend(self, kind: PointKind, operand: ast.expr | None, at: ast.AST) -> ast.expr:
        name = self.new()
        self.emit(Suspend(kind, operand, name), at)
        self.out[-1].result = name  # type: ignore[attr-defined]
        return located(load(name), at)

    def value_Yield(self, node: ast.Yield) -> ast.expr:
        return self.suspend("yield", self.value(node.value) if node.value else None, node)

    def value_YieldFrom(self, node: ast.YieldFrom) -> ast.expr:
        return self.suspend("from", located(call("delegate", self.value(node.value)), node.value), node)

    def value_Await(self, node: ast.Await) -> ast.expr:
        return self.suspend("await", self.awaited(node.value), node)

    def awaited(self, node: ast.expr) -> ast.expr:
        if hasattr(node, "ready"):
            return node  # a helper of ours has seen to it
        if isinstance(node, ast.Call) and self.context.may_suspend(node):
            # await f(x)   =>   await ready(replaced(f)(x))     no yield point of its own: its result is awaited
            function, arguments, keywords = self.call_parts(node)
            swapped = located(call("replaced", function), node.func)
            return located(call("ready", located(ast.Call(swapped, arguments, keywords), node)), node)
        return located(call("ready", self.value(node)), node)

    def value_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        # (x := E)   =>   _v1 = x = E
        value, name = self.value(node.value), self.new()
        self.emit(ast.Assign([ast.Name(name, ast.Store()), node.target], value), node)
        return load(name)

    def value_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.values([node.left, node.right])
        return located(ast.BinOp(left, node.op, right), node)

    def value_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        return located(ast.UnaryOp(node.op, self.value(node.operand)), node)

    def value_Attribute(self, node: ast.Attribute) -> ast.expr:
        return located(ast.Attribute(self.value(node.value), node.attr, node.ctx), node)

    def value_Subscript(self, node: ast.Subscript) -> ast.expr:
        value, index = self.indexed(node)
        return located(ast.Subscript(value, index, node.ctx), node)

    def indexed(self, node: ast.Subscript) -> tuple[ast.expr, ast.expr]:
        """The lowered object and index of a subscript; slices keep their form."""
        if isinstance(node.slice, ast.Slice):
            bounds = [bound for bound in (node.slice.lower, node.slice.upper, node.slice.step) if bound is not None]
            value, *lowered = self.values([node.value, *bounds])
            rest = iter(lowered)
            parts = [
                next(rest) if b is not None else None for b in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return value, located(ast.Slice(*parts), node.slice)
        value, index = self.values([node.value, node.slice])
        return value, index

    def value_Slice(self, node: ast.Slice) -> ast.expr:
        bounds = [bound or constant(None) for bound in (node.lower, node.upper, node.step)]
        return located(call("slice", *self.values(bounds)), node)

    def value_Starred(self, node: ast.Starred) -> ast.expr:
        return self.starred(node, keep=False)

    def value_List(self, node: ast.List | ast.Tuple) -> ast.expr:
        return located(type(node)(self.values(node.elts), node.ctx), node)

    value_Tuple = value_List

    def value_Set(self, node: ast.Set) -> ast.expr:
        return located(ast.Set(self.values(node.elts)), node)

    def value_Dict(self, node: ast.Dict) -> ast.expr:
        flat: list[ast.expr] = []
        for key, item in zip(node.keys, node.values, strict=True):
            flat += [key, item] if key is not None else [Spread(item)]
        lowered = iter(self.values(flat))
        keys: list[ast.expr | None] = []
        items: list[ast.expr] = []
        for key in node.keys:
            keys.append(None if key is None else next(lowered))
            items.append(next(lowered))
        return located(ast.Dict(keys, items), node)

    def value_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        last = max(index for index, part in enumerate(node.values) if self.suspends(part))
        parts: list[ast.expr] = []
        for index, part in enumerate(node.values):
            if index > last or isinstance(part, ast.Constant):
                parts.append(part)
                continue
            assert isinstance(part, ast.FormattedValue)
            part = self.formatted(part)
            if index < last:
                text = self.keep(located(ast.JoinedStr([part]), part))
                part = located(ast.FormattedValue(text, -1, None), part)
            parts.append(part)
        return located(ast.JoinedStr(parts), node)

    def formatted(self, part: ast.FormattedValue) -> ast.FormattedValue:
        # {v!r:{(yield)}}   =>   _v1 = repr(v); _v2 = yield; {_v1:{_v2}}
        if not self.suspends(part.format_spec):
            return located(ast.FormattedValue(self.value(part.value), part.conversion, part.format_spec), part)
        value = self.value(part.value)
        if part.conversion != -1:
            value = located(call({"s": "str", "r": "repr", "a": "ascii"}[chr(part.conversion)], value), part)
        kept = self.keep(value)
        assert part.format_spec is not None
        return located(ast.FormattedValue(kept, -1, self.value(part.format_spec)), part)

    def value_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        return self.formatted(node)

    def value_Lambda(self, node: ast.Lambda) -> ast.expr:
        replace_defaults(node.args, self.values)
        return node

    def value_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        first = node.generators[0]
        first.iter = self.value(first.iter)
        node.suspends = False  # type: ignore[attr-defined]
        return node

    def value_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.expr:
        first = node.generators[0]
        if not (first.is_async or self.suspends_inside(node)):
            first.iter = self.value(first.iter)
            node.suspends = False  # type: ignore[union-attr]
            return node
        result = self.new()
        names = self.context.names
        outer, names.taken = names.taken, names.values
        self.out += self.lower(inlined(node, result, self.context))
        names.taken = outer
        return located(load(result), node)

    value_SetComp = value_DictComp = value_ListComp

    def suspends_inside(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> bool:
        """Whether more than the first iterable, which belongs to the scope around, can suspend."""
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        later: list[ast.AST] = [*node.generators[1:], *node.generators[0].ifs, node.generators[0].target, *elements]
        return any(suspends(part, self.context) for part in later)


def replace_defaults(arguments: ast.arguments, values: Callable[[list[ast.expr]], list[ast.expr]]) -> None:
    """Put lowered defaults in the place of those that suspend."""
    present = [default for default in arguments.kw_defaults if default is not None]
    lowered = values([*arguments.defaults, *present])
    count = len(arguments.defaults)
    arguments.defaults = lowered[:count]
    rest = iter(lowered[count:])
    arguments.kw_defaults = [None if default is None else next(rest) for default in arguments.kw_defaults]
