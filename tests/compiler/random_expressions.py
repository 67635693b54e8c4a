"""Random expressions: suspensions anywhere that the function's kind and the place allow them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SUSPENSIONS = {
    "generator": {"yield"},
    "coroutine": {"await", "pause"},
    "async_generator": {"yield", "await"},
    "plain": {"pause"},
    "looping": {"pause"},
}
QUOTES = ("'''", '"', "'")


@dataclass
class Function:
    """The function that is being written, and where in it."""

    kind: str
    nested: bool = False
    allowed: set[str] = field(default_factory=set)  # ways to suspend here
    made: list[tuple[str, str]] = field(default_factory=list)  # functions that can be called here: name, kind
    walrus: bool = True
    quotes: int = 0  # how many f-strings are around this place
    method: bool = False

    @property
    def is_async(self) -> bool:
        return self.kind in ("coroutine", "async_generator")


class Expressions:
    """Writes expressions; `self.function` says what is possible."""

    def __init__(self, pick: Callable[[int], int], kind: str) -> None:
        self.pick = pick
        self.function = Function(kind, allowed=set(SUSPENSIONS[kind]))
        self.names = ["a", "b", "c"]
        self.labels = 0

    def one_of(self, *choices: Any) -> Any:
        return choices[self.pick(len(choices))]

    def label(self) -> int:
        self.labels += 1
        return self.labels

    def name(self) -> str:
        return self.one_of(*self.names[:3])

    def read(self) -> str:
        return self.one_of(*self.names)

    def within(
        self, make: Callable[[], str], allowed: set[str] | None = None, names: tuple[str, ...] = (), walrus: bool = True
    ) -> str:
        """What `make` writes in a scope inside: with fewer ways to suspend and more names."""
        function, before = self.function, self.names
        kept = function.allowed, function.walrus
        if allowed is not None:
            function.allowed = function.allowed & allowed
        function.walrus = function.walrus and walrus
        self.names = [*before, *(name for name in names if name not in before)]
        try:
            return make()
        finally:
            (function.allowed, function.walrus), self.names = kept, before

    # ---- suspensions -------------------------------------------------------------------------------------------------
    def suspend(self, inner: str) -> str:
        allowed = sorted(self.function.allowed)
        if not allowed:
            return f"log({self.label()}, {inner})"
        how = self.one_of(*allowed) if self.pick(4) == 0 else allowed[0]
        if how == "yield":
            return f"((yield {inner}) or 0)" if self.function.nested else f"(yield {inner})"
        if how == "await":
            return self.one_of(
                f"(await Step({inner}))",
                f"(await Step({inner}))",
                f"(await helper(log, {inner}))",
                f"(await Awaited(log, {inner}))",
            )
        return self.one_of(
            f"pause({inner})",
            f"pause({inner})",
            f"pause(value={inner})",
            f"child(log, {inner})",
            f"box.pause({inner})",
            f"functools.partial(pause, {inner})()",
        )

    # ---- numbers -----------------------------------------------------------------------------------------------------
    def number(self, depth: int) -> str:
        """An expression whose value is an int."""
        if depth <= 0:
            return self.one_of(self.read(), str(self.pick(5)), f"log({self.label()}, {self.read()})")
        d = depth - 1
        if self.pick(5) < 2:
            return self.suspend(self.number(d))
        groups = [self.operators, self.displays, self.calls, self.comprehensions, self.lambdas, self.strings]
        return self.one_of(*groups)(d)

    def operators(self, d: int) -> str:
        n = self.number
        options: list[Callable[[], str]] = [
            lambda: f"({n(d)} + {n(d)})",
            lambda: f"({n(d)} * {n(d)} % 7)",
            lambda: f"({n(d)} if {self.test(d)} else {n(d)})",
            lambda: f"int({self.test(d)})",
            lambda: f"-{n(d)}",
            lambda: f"~{n(d)}",
            lambda: f"(box.v + {n(d)})",
            lambda: f"grid[{n(d)}:{n(d)}, {n(d)}]",
            lambda: f"(grid.left - grid[{n(d)}])",
            lambda: f"bool({self.odd(d)})",
        ]
        if self.function.walrus:
            options += [lambda: f"(w := {n(d)})"] * 2
        return self.one_of(*options)()

    def displays(self, d: int) -> str:
        n = self.number
        return self.one_of(
            lambda: f"[{n(d)}, {n(d)}, {n(d)}][{n(d)} % 3]",
            lambda: f"sum(({n(d)}, *[{n(d)}], {n(d)}))",
            lambda: f"dict([(1, {n(d)})], k={n(d)}).get({n(d)} % 3, {n(d)})",
            lambda: f"( {{1: {n(d)}, {n(d)}: {n(d)}, **{{3: {n(d)}}}}}.get({n(d)} % 4, {n(d)}))",
            lambda: f"max( {{{n(d)}, *[{n(d)}], {n(d)}}})",
            lambda: f"list(range(9))[{n(d)} % 3:{n(d)} % 9 + 4][0]",
            lambda: f"len([*gen({n(d)} % 3), {n(d)}, *({n(d)},)])",
        )()

    def calls(self, d: int) -> str:
        n = self.number
        options = [
            lambda: f"log({self.label()}, {n(d)})",
            lambda: f"f({n(d)}, {n(d)}, k={n(d)}, **dict(z={n(d)}))",
            lambda: f"f(*[{n(d)}, {n(d)}], {n(d)}, *({n(d)},), **dict(k={n(d)}), z={n(d)})",
            lambda: f"f(*gen({n(d)} % 3), k={n(d)})",
            lambda: f"f(**dict(y={n(d)}), **dict({self.one_of('z', 'z', 'z', 'y')}={n(d)}))",
            lambda: f"f(k={n(d)}, **dict({self.one_of('z', 'z', 'k')}={n(d)}))",
            lambda: f"box.add({n(d)}, *[{n(d)}], k={n(d)})",
            lambda: f"f({n(d)}, sum(gen({n(d)} % 3)))",
            lambda: f"[{n(d)}, {n(d)}].pop({n(d)} % 2)",
            lambda: f"max({n(d)}, {n(d)}, key=lambda x: -x + {self.read()})",
            lambda: f"next(it, {n(d)})",
        ]
        callable_here = [name for name, kind in self.function.made if kind == "plain"]
        if callable_here:
            options += [lambda: f"{self.one_of(*callable_here)}({n(d)} % 3)"] * 3
        if "await" in self.function.allowed:
            awaitable = [name for name, kind in self.function.made if kind == "coroutine"]
            if awaitable:
                options += [lambda: f"(await {self.one_of(*awaitable)}({n(d)} % 3))"] * 3
        return self.one_of(*options)()

    def comprehensions(self, d: int) -> str:
        n = self.number
        first = self.within(lambda: self.iterable_of(d), walrus=False)  # evaluated outside

        def inner(*names: str, walrus: bool = True) -> str:
            return self.within(lambda: n(d), {"await", "pause"}, names, walrus)

        def lazily(*names: str) -> str:
            return self.within(lambda: n(d), set(), names)

        def when(*names: str) -> str:
            if self.pick(2):
                return ""
            return " if " + self.within(lambda: self.test(d), {"await", "pause"}, names)

        options = [
            lambda: f"sum([{inner('x')} for x in {first}{when('x')}])",
            lambda: f"sum([{inner('x')} for x in {first} for y in range(x % 3){when('x', 'y')}])",
            lambda: f"sum([x + y for x in {first} for y in [{inner('x', walrus=False)}, x]])",
            lambda: f"len( {{x: {inner('x')} for x in {first}{when('x')}}})",
            lambda: f"sum( {{{inner('x')}: x for x in {first}}})",
            lambda: f"sum( {{{inner('x')} for x in {first}}} | {{0}})",
            lambda: f"sum([g() for g in [lambda: x + {self.read()} for x in {first}]])",
            lambda: f"len([[{inner('x', 'y')} for y in range(x % 3)] for x in {first}])",
            lambda: f"sum({lazily('x')} for x in {first})",
            lambda: f"sum(x * y for x in {first} for y in range({self.read()} % 3) if y != {self.read()})",
            lambda: f"sum([x for x, *y in [({n(0)}, x) for x in {first}] if {inner('x')}])",
        ]
        if self.function.walrus:
            options.append(lambda: f"sum([(w := x) + {inner('x')} for x in {first}])")
            options.append(lambda: f"(any((w := x) > {self.read()} for x in {first}) + w)")
        if "await" in self.function.allowed:
            asynchronous = self.one_of("asource(log, 2)", "Ticker(log, 2)")

            def lazily_awaiting() -> str:
                return self.within(lambda: f"(await Step({n(d)}))", {"await"}, ("x",), walrus=False)

            options += [
                lambda: f"sum([x async for x in {asynchronous}{when('x')}])",
                lambda: f"sum([{inner('x')} async for x in asource(log, {n(d)} % 3)])",
                lambda: f"len( {{x: y for y in {first} async for x in {asynchronous}{when('x', 'y')}}})",
                lambda: f"sum([y async for y in ({lazily_awaiting()} for x in {first})])",
                lambda: f"sum([y async for y in ((await Step(x)) + {self.read()} for x in {first})])",
                lambda: f"sum([y async for y in (x async for x in {asynchronous} if x != {self.read()})])",
                lambda: f"len([[x async for x in {asynchronous}] for y in {first}])",
            ]
        return self.one_of(*options)()

    def iterable_of(self, d: int) -> str:
        """A short iterable of numbers."""
        n = self.number
        return self.one_of(
            lambda: f"[{n(d)}, {n(d)}]",
            lambda: f"({n(d)},)",
            lambda: f"range({n(d)} % 3)",
            lambda: f"gen({n(d)} % 3)",
            lambda: f"Items({n(d)} % 3)",
        )()

    def lambdas(self, d: int) -> str:
        n = self.number

        def body(*names: str) -> str:
            return self.within(lambda: n(d), {"pause"}, names)

        def generating() -> str:  # a lambda that yields
            return self.within(lambda: f"((yield x) or {self.read()}, (yield {n(0)}))", set(), ("x",))

        return self.one_of(
            lambda: f"(lambda x, y={n(d)}: x + y)({n(d)})",
            lambda: f"(lambda *args, k=0: sum(args) + k)(*[{n(d)}, {n(d)}], k={n(d)})",
            lambda: f"(lambda x: {body('x')})({n(d)})",
            lambda: f"(lambda x, *, k={n(d)}, **more: x + k + len(more))({n(d)}, **dict(z={n(d)}))",
            lambda: f"sum((lambda x: {generating()})({n(d)}))",
            lambda: f"(lambda x: lambda y=x: x + y + {self.read()})({n(d)})()",
        )()

    def strings(self, d: int) -> str:
        function, n = self.function, self.number
        if function.quotes >= len(QUOTES):
            return f"len(str({n(d)}))"
        quote = QUOTES[function.quotes]
        function.quotes += 1
        try:
            text = self.one_of(
                lambda: f"f{quote}{{{n(d)}}}-{{{n(d)}!r:>{{{n(d)} % 9 + 1}}}}{quote}",
                lambda: f"f{quote}{{{n(d)}=}} {{ {self.test(d)} !s:{{abs({n(d)}) % 7}}}}{quote}",
                lambda: f"f{quote}{{{n(d)}!a}}{{{{}}}}{{{n(d)}:>0{{{n(d)} % 3 + 1}}}}{quote} {quote}x{quote}",
            )()
        finally:
            function.quotes -= 1
        return f"len({text})"

    # ---- tests -------------------------------------------------------------------------------------------------------
    def odd(self, d: int) -> str:
        return f"Odd(log, {self.number(d)})"

    def test(self, depth: int) -> str:
        d = depth - 1
        n = self.number
        return self.one_of(
            lambda: f"{n(d)} % 2",
            lambda: f"{n(d)} < {n(d)}",
            lambda: f"({n(d)} < {n(d)} <= {n(d)})",
            lambda: f"({n(d)} and {n(d)})",
            lambda: f"({n(d)} or {n(d)} % 2)",
            lambda: f"not {n(d)} % 2",
            lambda: f"{n(d)} in ({n(d)}, {n(d)})",
            lambda: f"({n(d)} < {n(d)} != {n(d)} in ({n(d)}, {n(d)}))",
            lambda: f"({n(d)} and {n(d)} % 2 or {n(d)})",
            lambda: f"({self.odd(d)} < {n(d)} < {self.odd(d)} and {n(d)})",
            # 3.11 asks a false first operand for its truth once; the language, and later versions, twice
            lambda: f"({self.odd(d)} and {self.odd(d)} {'or' if sys.version_info >= (3, 12) else 'and'} {self.odd(d)})",
            lambda: f"({n(d)} is not {self.read()})",
            lambda: f"({n(d)} and {n(d)} and {self.odd(d)} and {self.odd(d)})",
            lambda: f"({n(d)} > 9 or {n(d)} > 9 or {self.odd(d)} < {n(d)} < 9)",
        )()
