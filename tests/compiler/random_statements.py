"""Random statements: simple ones, and blocks within blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.compiler.random_expressions import Expressions

ERRORS = ("ValueError", "KeyError", "Boom", "Boom", "StopIteration", "Halt", "GeneratorExit")


@dataclass(frozen=True)
class Place:
    """Where a statement stands. `depth`: how many blocks may still be put into one another there."""

    indent: int
    depth: int
    in_loop: bool = False
    in_star: bool = False

    def block(self, **changes: bool) -> Place:
        return replace(self, indent=self.indent + 1, depth=self.depth - 1, **changes)


class Statements(Expressions):
    """Writes statements to `lines`, `budget` of them at most."""

    budget = 0

    def __init__(self, pick: Callable[[int], int], kind: str) -> None:
        super().__init__(pick, kind)
        self.lines: list[str] = []
        self.loops = 0

    def put(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def n(self, depth: int) -> str:
        """A number, most of the time a level simpler."""
        return self.number(depth if self.pick(3) == 0 else depth - 1)

    def block(self, place: Place) -> None:
        for _ in range(1 + self.pick(3)):
            self.statement(place)

    def statement(self, place: Place) -> None:
        self.budget -= 1
        if place.depth > 0 and self.budget > 0 and self.pick(5) < 3:
            self.one_of(
                self.if_, self.for_, self.for_, self.while_, self.try_, self.try_, self.with_, self.match, self.star,
                self.definition, self.definition,
            )(place)  # fmt: skip
            return
        often = self.leaving if place.in_loop else self.assignment
        self.one_of(self.assignment, often, self.effect, self.raising, self.leaving, self.in_flight)(place)

    # ---- simple ones -------------------------------------------------------------------------------------------------
    def assignment(self, place: Place) -> None:
        n = self.n
        text = self.one_of(
            lambda: f"{self.name()} = {n(2)}",
            lambda: f"{self.name()} = {n(2)}",
            lambda: f"{self.name()} += {n(2)}",
            lambda: f"items[{n(1)} % 3], {self.name()} = {n(1)}, {n(1)}",
            lambda: f"items[{n(1)} % 3] += {n(1)}",
            lambda: f"{self.name()}, *rest = [{n(1)}, *({n(1)}, {n(0)})]",
            lambda: f"[{self.name()}, (box.v, items[{n(1)} % 3])] = {n(1)}, ({n(1)}, {n(0)})",
            lambda: f"box.v {self.one_of('+', '-', '*')}= {n(1)}",
            # three for three: a loop over `items` must come to an end
            lambda: f"items[{n(1)} % 1:{n(1)} % 1 + 3] = [{n(1)}, 0, 0]",
            lambda: f"items[{n(0)} % 3]: {n(0)} = {n(1)}",
            lambda: f"{self.name()}{'' if self.function.nested else ': int'} = {n(1)}",
            lambda: f"{self.name()} = items[{n(1)} % 3] = box.v = {n(1)}",
            lambda: f"({self.name()}, {self.name()}), *rest = {n(1)}, {n(1)}",  # fails to unpack
            lambda: f"grid[{n(1)}:{n(0)}, {n(1)}] {self.one_of('', '+', '-')}= {n(1)}",
            lambda: f"grid.left {self.one_of('', '*', '//')}= {n(1)}",
            lambda: f"grid @= {n(1)}",
            lambda: f"table[{n(1)}] = {n(1)}",
            lambda: f"shared = {n(1)}",
            lambda: f"gone = {{1: {n(1)}, {n(1)}: 2}}; del gone[{self.one_of('1', n(1))}], gone",
            lambda: f"del grid[{n(1)}], grid[{n(1)}:{n(0)}], grid.gone",
            lambda: f"del {self.name()}; {self.name()} = {n(1)}",
            lambda: f"import functools as m, os.path; from math import floor as q; {self.name()} = q({n(1)})",
        )()
        self.put(place.indent, text)

    def effect(self, place: Place) -> None:
        n, label = self.n, self.label()
        text = self.one_of(
            lambda: f"log({label}, {n(2)}, {n(1)})",
            lambda: self.suspend(n(1)),
            lambda: f"log({label}, {n(3)})",
            lambda: f"fs.append(lambda x={n(0)}: ({self.name()}, x, {self.name()}))",
            lambda: f"log({label}, told(sys.exception()))",
            lambda: f"log({label}, sorted(locals()))",
            lambda: f"log({label}, eval('{self.name()}'), {n(1)}, 'a' in vars(), 'grid' in dir())",
            lambda: f"log({label}, table.pop({n(1)}, {n(1)}), sorted(table))",
            lambda: f"log({label}, f({n(1)}))",
            lambda: f"fs[:], rest = [lambda: {self.within(lambda: self.suspend(n(0)), {'pause'})}], 0",
        )()
        self.put(place.indent, text)

    def raising(self, place: Place) -> None:
        n = self.n
        text = self.one_of(
            lambda: f"if {self.test(1)}: raise {self.one_of(*ERRORS)}({self.label()})",
            lambda: f"if {self.test(1)}: raise Boom({n(1)}) from {self.one_of('e', 'None', n(1))}",
            lambda: f"assert {self.test(1)}, {n(1)}",
            lambda: f"if {self.test(1)}: raise",
            lambda: f"if sys.exception(): sys.exception().add_note(str({n(1)}))",
            lambda: f"if {self.test(1)}: raise ExceptionGroup('g', [ValueError({n(0)}), Boom({n(0)})])",
            lambda: f"if {self.test(1)}: {self.one_of('(1)', 'f', 'len')}({n(1)}, *{n(1)})",  # a TypeError
        )()
        self.put(place.indent, text)

    def leaving(self, place: Place) -> None:
        if place.in_star and not place.in_loop:
            self.assignment(place)
        elif place.in_loop and (place.in_star or self.pick(3)):
            self.put(place.indent, f"if {self.test(1)}: {self.one_of('break', 'continue')}")
        else:
            value = "" if self.function.kind == "async_generator" else f" {self.n(1)}"
            self.put(place.indent, f"if {self.test(1)}: return{value}")

    def in_flight(self, place: Place) -> None:
        """Iterators and generators that are held in variables meanwhile."""
        n, label, function = self.n, self.label(), self.function
        options = [
            lambda: f"it = iter({self.iterable()})",
            lambda: f"it = iter({self.iterable()}); log({label}, next(it, 0), {n(1)}, next(it, 0), [*it])",
            lambda: f"log({label}, next(it, {n(1)}), {n(1)}, next(it, 0))",
            lambda: f"it = (x + {self.read()} for x in {self.within(lambda: self.iterable_of(1), walrus=False)})",
            lambda: f"g = {self.one_of('source(log, 3)', 'gen(3)')}; log({label}, next(g), {n(1)})",
            lambda: f"log({label}, next(g, {n(1)}), g.send({n(1)}))",
            lambda: f"log({label}, g.throw({self.one_of('ValueError', 'Boom')}({n(1)})))",
            lambda: f"log({label}, g.close(), {n(1)})",
        ]
        if "yield" in function.allowed and not function.is_async:
            options += [
                lambda: f"log({label}, (yield from source(log, {self.pick(3)})))",
                lambda: f"log({label}, (yield from [{n(1)}, {n(0)}]), (yield from g))",
                lambda: f"log({label}, (yield from gen({n(1)} % 3)), (yield from it))",
            ]
        if "await" in function.allowed:
            options += [
                lambda: f"ag = {self.one_of('asteps', 'asource')}(log, 3); log({label}, await anext(ag), {n(1)})",
                lambda: f"log({label}, await anext(ag, {n(1)}), await ag.asend({n(1)}))",
                lambda: f"log({label}, await ag.athrow({self.one_of('ValueError', 'Boom')}({n(1)})))",
                lambda: f"await ag.aclose(); log({label}, await anext(ag, {n(1)}))",
                lambda: f"t = helper(log, {n(1)}); log({label}, {n(1)}, await t)",
                lambda: f"t = Awaited(log, {n(1)}).__await__(); t = anext(asource(log, 1), {n(1)}); log(await t)",
            ]
        self.put(place.indent, self.one_of(*options)())

    def iterable(self) -> str:
        n = self.number
        return self.one_of(
            lambda: f"[{n(1)}, {n(0)}]",
            lambda: f"range({self.pick(4)})",
            lambda: f"source(log, {self.pick(4)})",
            lambda: "items",
            lambda: f"gen({n(1)} % 3)",
            lambda: "table",
            lambda: f"table.{self.one_of('values', 'keys')}()",
            lambda: f"reversed([{n(1)}, {n(0)}])",
            lambda: f"map(abs, ({n(1)}, {n(0)}))",
            lambda: f"filter(None, [{n(1)}, 0, {n(0)}])",
            lambda: f"filter(lambda x: x != {self.read()}, [{n(1)}, 0, 1])",
            lambda: f"map(lambda x, y: x + y, items, ({n(1)}, {n(0)}))",
            lambda: f"iter(Count(), {self.pick(4)})",
            lambda: f"{self.one_of('Down', 'Items')}({n(1)} % 4)",
            lambda: f"set([{n(1)} % 3, 1])",
            lambda: "b'\\x01\\x02'",
            lambda: f"map(ord, 'a' + chr({n(1)} % 9))",
            lambda: f"(v + {self.read()} for k, v in zip('abc', [{self.within(lambda: n(1), walrus=False)}, 2]))",
            lambda: f"itertools.chain([{n(1)}], gen({self.pick(3)}))",
            lambda: f"itertools.islice(itertools.count({n(1)}), {self.pick(4)})",
            lambda: f"itertools.accumulate([{n(1)}, {n(0)}, 1])",
            lambda: f"itertools.{self.one_of('takewhile', 'dropwhile', 'filterfalse')}(bool, [1, {n(1)}, 0, 2])",
            lambda: f"itertools.starmap(max, [(1, {n(1)}), (2, 1)])",
            lambda: f"itertools.compress(items, [1, {n(1)}, 1])",
            lambda: f"itertools.repeat({n(1)}, 2)",
            lambda: f"itertools.chain.from_iterable(itertools.product([1, {n(1)}], repeat=2))",
            lambda: f"itertools.islice(itertools.cycle([1, {n(1)}]), 3)",
            lambda: f"itertools.tee([{n(1)}, 2])[1]",
        )()

    def pairs(self) -> str:
        n = self.number
        return self.one_of(
            lambda: f"enumerate([{n(1)}, {n(0)}], {self.pick(3)})",
            lambda: f"zip(items, [{n(1)}, {n(0)}])",
            lambda: "table.items()",
            lambda: f"itertools.pairwise([1, {n(1)}, 2])",
            lambda: f"itertools.zip_longest([1, {n(1)}], [2], fillvalue={n(0)})",
            lambda: f"{self.one_of('itertools.permutations', 'itertools.combinations')}([1, {n(1)}, 3], 2)",
            lambda: f"[({n(1)}, {n(0)}), (1, 2)]",
        )()

    # ---- blocks ------------------------------------------------------------------------------------------------------
    def if_(self, place: Place) -> None:
        self.put(place.indent, f"if {self.test(2)}:")
        self.block(place.block())
        if self.pick(2):
            self.put(place.indent, f"elif {self.test(1)}:")
            self.block(place.block())
        if self.pick(2):
            self.put(place.indent, "else:")
            self.block(place.block())

    def for_(self, place: Place) -> None:
        prefix = ""
        target = self.one_of(self.name(), self.name(), "items[1]", f"items[{self.number(1)} % 3]", "box.v")
        if "await" in self.function.allowed and self.pick(3) == 0:
            prefix, iterable = "async ", self.asynchronous()
        elif self.pick(4) == 0:
            iterable = self.pairs()
            target = self.one_of(f"({target}, {self.name()})", f"*rest, {self.name()}", f"{self.name()}, (*rest,)")
            target = target if "(*" not in target else f"{self.name()}, *rest"
        else:
            iterable = self.iterable()
        self.put(place.indent, f"{prefix}for {target} in {iterable}:")
        self.block(place.block(in_loop=True))
        if self.pick(3) == 0:
            self.put(place.indent, "else:")
            self.block(place.block())

    def asynchronous(self) -> str:
        return self.one_of(
            f"Ticker(log, {self.pick(4)})",
            f"asource(log, {self.pick(4)})",
            "asteps(log, 2)",
            f"((await Step(x)) + {self.read()} for x in range({self.pick(3)}))",
            "ag",
        )

    def while_(self, place: Place) -> None:
        self.loops += 1
        counter = f"n{self.loops}"
        self.put(place.indent, f"{counter} = 0")
        test = self.one_of("", f" and {self.test(1)}", f" and ({self.test(1)} or 1)")
        self.put(place.indent, f"while ({counter} := {counter} + 1) < {2 + self.pick(3)}{test}:")
        self.block(place.block(in_loop=True))
        if self.pick(3) == 0:
            self.put(place.indent, "else:")
            self.block(place.block())

    def caught(self) -> str:
        kind = self.one_of("ValueError", "(KeyError, Boom)", "Exception", "StopIteration", "BaseException")
        return f"chosen(log, {self.number(1)}, {kind})" if self.pick(6) == 0 else kind

    def try_(self, place: Place) -> None:
        self.put(place.indent, "try:")
        self.block(place.block())
        handlers = self.pick(3)
        for _ in range(handlers):
            self.put(place.indent, f"except {self.caught()}{self.one_of('', ' as e')}:")
            if self.pick(2):
                self.put(place.indent + 1, f"log({self.label()}, told(sys.exception()))")
            self.block(place.block())
            if self.pick(4) == 0:
                self.put(place.indent + 1, self.one_of("raise", "raise", f"raise Boom({self.n(1)})", "log(repr(e))"))
        if handlers and self.pick(3) == 0:
            self.put(place.indent, "else:")
            self.block(place.block())
        if not handlers or self.pick(2):
            self.put(place.indent, "finally:")
            if self.pick(2):
                self.put(place.indent + 1, f"log({self.label()}, told(sys.exception()))")
            self.block(place.block())

    def with_(self, place: Place) -> None:
        def suppressed() -> str:
            return self.one_of("", "", ", ValueError", ", Exception")

        def target() -> str:
            return self.one_of("", " as m", f" as items[{self.number(1)} % 3]", " as grid.entered", " as (m, q)")

        options = [
            lambda: f"Manager(log, {self.number(1)}{suppressed()}){target()}",
            lambda: f"managed(log, {self.number(1)}){target()}",
            lambda: self.one_of(
                "contextlib.suppress(ValueError, Boom)",
                f"contextlib.nullcontext({self.number(1)}) as {self.name()}",
                "contextlib.closing(source(log, 3)) as g",
                f"contextlib.ExitStack() as m, m.enter_context(managed(log, {self.number(1)}))",
            ),
        ]
        prefix = ""
        if "await" in self.function.allowed and self.pick(2):
            prefix = "async "
            options = [
                lambda: f"AsyncManager(log, {self.number(1)}{suppressed()}){target()}",
                lambda: f"amanaged(log, {self.number(1)}){target()}",
            ]
        several = [self.one_of(*options)() for _ in range(2 if self.pick(3) == 0 else 1)]
        joined = ", ".join(several)
        self.put(place.indent, f"{prefix}with {f'({joined})' if self.pick(2) and 'enter_c' not in joined else joined}:")
        self.block(place.block())

    def match(self, place: Place) -> None:
        n = self.number
        if self.pick(2):
            self.put(place.indent, f"match ({n(1)} % 3, {n(1)}):")
            cases = [f"(0, {self.name()})", "(1, q)", "(Colour.red | -1, _) as m", "(q, int(m))", "(q, _)"]
        else:
            subject = f"dict(k={n(1)}, z=[{n(1)}])", f"Box({n(1)})", f"[{n(1)}, 2, 3]", n(1), "None", "'s'"
            self.put(place.indent, f"match [{', '.join(subject)}][{n(1)} % 6]:")
            cases = [
                self.one_of("{'k': q, **more}", "{'z': [q, *rest], 'k': m}"), self.one_of("Box(v=q)", "Box(v=int(q))"),
                self.one_of("[q, *more]", "[_, *_, 3 as q]"), self.one_of("1 | 2", "None | str() as q", "Colour.red"),
            ]  # fmt: skip
        for case in cases[self.pick(2) : 2 + self.pick(4)]:
            self.put(place.indent + 1, f"case {case}{f' if {self.test(1)}' if self.pick(2) else ''}:")
            self.block(replace(place.block(), indent=place.indent + 2))
        if self.pick(2):
            self.put(place.indent + 1, f"case {self.one_of('_', 'q')}:")
            self.block(replace(place.block(), indent=place.indent + 2))

    def star(self, place: Place) -> None:
        inside = place.block(in_loop=False, in_star=True)
        self.put(place.indent, "try:")
        self.block(inside)
        which = f"[ValueError({self.pick(3)}), KeyError(2), Boom({self.n(0)})][:{1 + self.pick(3)}]"
        self.put(inside.indent, f"raise ExceptionGroup('g', {which})")
        for kind in ["ValueError", "(KeyError, Boom)"][: 1 + self.pick(2)]:
            self.put(place.indent, f"except* {kind}{self.one_of(' as eg', ' as eg', '')}:")
            self.put(inside.indent, f"log({self.label()}, repr(eg), repr(sys.exception()))")
            self.block(inside)
            if self.pick(4) == 0:
                self.put(inside.indent, "raise")
        if self.pick(4) == 0:
            self.put(place.indent, "finally:")
            self.block(place.block(in_loop=False))

    def definition(self, place: Place) -> None:
        raise NotImplementedError
