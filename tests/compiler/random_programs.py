"""Random programs over the compiler's grammar, as text. `pick(n)` gives a number below n, by hypothesis or a seed."""

from __future__ import annotations

import contextlib
import linecache
from collections.abc import Callable
from typing import Any

HEADER = """
import sys
from tests.compiler.random_programs import Boom, Box, Manager, AsyncManager, Ticker, gen, managed, source, asource
from tests.compiler.roundtrip import Step, pause
"""


class Boom(Exception):
    pass


class Box:
    def __init__(self, v):
        self.v = v


@contextlib.contextmanager
def managed(log, n):
    """A manager made of a generator."""
    log("enter", n)
    try:
        yield n
    except KeyError as error:
        log("suppressed", str(error))
    finally:
        log("leave", n)


class Manager:
    def __init__(self, log, name, suppress=()):
        self.log, self.name, self.suppress = log, name, suppress

    def __enter__(self):
        return self.log("enter", self.name)

    def __exit__(self, kind, error, traceback):
        self.log("exit", self.name, kind and kind.__name__, str(error))
        return kind is not None and issubclass(kind, self.suppress)


class AsyncManager(Manager):
    async def __aenter__(self):
        from tests.compiler.roundtrip import Step

        await Step(("entering", self.name))
        return self.__enter__()

    async def __aexit__(self, *error):
        from tests.compiler.roundtrip import Step

        await Step(("leaving", self.name))
        return self.__exit__(*error)


class Ticker:
    def __init__(self, log, n):
        self.log, self.n = log, n

    def __aiter__(self):
        return self

    async def __anext__(self):
        from tests.compiler.roundtrip import Step

        if not self.n:
            raise StopAsyncIteration
        self.n -= 1
        await Step(("tick", self.n))
        return self.n


def source(log, n):
    """A generator that says when it is closed."""
    try:
        for i in range(n):
            got = yield i
            log("source got", got)
    finally:
        log("source closed", n)
    return n


def gen(n):
    for i in range(n):
        yield i + 1


async def asource(log, n):
    for i in range(n):
        yield i


class Program:
    """Writes one random function."""

    def __init__(self, pick: Callable[[int], int], kind: str) -> None:
        self.pick, self.kind = pick, kind
        self.lines: list[str] = []
        self.labels = 0
        self.loops = 0
        self.is_async = kind in ("coroutine", "async_generator")

    def one_of(self, *choices: Any) -> Any:
        return choices[self.pick(len(choices))]

    def label(self) -> int:
        self.labels += 1
        return self.labels

    # ---- expressions -------------------------------------------------------------------------------------------------
    def suspend(self, inner: str) -> str:
        match self.kind:
            case "generator":
                return f"(yield {inner})"
            case "coroutine":
                return f"(await Step({inner}))"
            case "plain":
                return f"pause({inner})"
        return self.one_of(f"(yield {inner})", f"(await Step({inner}))")

    def name(self) -> str:
        return self.one_of("a", "b", "c")

    def number(self, depth: int) -> str:
        """An expression whose value is an int."""
        if depth <= 0:
            return self.one_of(self.name(), str(self.pick(5)), f"log({self.label()}, {self.name()})")
        d = depth - 1
        n = self.number
        options = [
            lambda: self.suspend(n(d)),
            lambda: self.suspend(n(d)),
            lambda: f"({n(d)} + {n(d)})",
            lambda: f"({n(d)} * {n(d)} % 7)",
            lambda: f"log({self.label()}, {n(d)})",
            lambda: f"({n(d)} if {self.test(d)} else {n(d)})",
            lambda: f"int({self.test(d)})",
            lambda: f"[{n(d)}, {n(d)}, {n(d)}][{n(d)} % 3]",
            lambda: f"sum(({n(d)}, *[{n(d)}], {n(d)}))",
            lambda: f"{{1: {n(d)}, 2: {n(d)}}}.get({n(d)} % 3, {n(d)})",
            lambda: f"(w := {n(d)})",
            lambda: f"len(f'{{{n(d)}}}-{{{n(d)}!r:>{{{n(d)} % 9 + 1}}}}')",
            lambda: f"(lambda x, y={n(d)}: x + y)({n(d)})",
            lambda: f"f({n(d)}, {n(d)}, k={n(d)}, **{{'z': {n(d)}}})",
            lambda: f"sum([x + {self.one_of('1', 'a', 'x')} for x in [{n(d)}, {n(d)}]])",
            lambda: f"sum(x for x in range({n(d)} % 4) if x != {self.name()})",
            lambda: f"-{n(d)}",
            lambda: f"list(range(9))[{n(d)} % 3:{n(d)} % 9 + 4][0]",
            lambda: f"f(*[{n(d)}, {n(d)}], {n(d)}, *({n(d)},), **{{'k': {n(d)}}}, z={n(d)})",
            lambda: f"len(f'{{{n(d)}=}} {{{self.test(d)}!s:{{{n(d)} % 7}}}} {{f\"{{{n(d)}}}\"}}')",
            lambda: f"sum([(w := x) + y for x in [{n(d)}, {n(d)}] for y in range(x % 3)])",
            lambda: f"sum({{x: x + {self.name()} for x in ({n(d)}, {n(d)})}}.values())",
            lambda: f"max({{{n(d)}, *[{n(d)}]}})",
            lambda: f"(lambda *args, k=0: sum(args) + k)(*[{n(d)}, {n(d)}], k={n(d)})",
            lambda: f"sum(gen({n(d)} % 3))",
            lambda: f"box.v + {n(d)}",
        ]
        if self.kind in ("coroutine", "plain"):
            x, y = self.suspend("x"), self.suspend("y")
            options += [
                lambda: f"sum([{x} or 0 for x in range({n(d)} % 3) if {x} != 1])",
                lambda: f"sum([({y} or 0) + x for x in range({n(d)} % 3) for y in [{x}, {n(d)}]])",
                lambda: f"len({{x: {x} for x in range({n(d)} % 3)}} | {{y: [{x} for x in [y]] for y in range(2)}})",
                lambda: f"sum(g() for g in [lambda: x for x in range(3) if {x}])",
            ]
        if self.is_async:
            options.append(lambda: f"sum([x async for x in asource(log, {n(d)} % 3) if x or await Step(x)])")
        if self.kind == "plain":
            options.append(lambda: f"((lambda x: pause(x) or 0)({n(d)}) or 0)")
        return self.one_of(*options)()

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
        )()

    # ---- statements --------------------------------------------------------------------------------------------------
    def put(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def block(self, indent: int, depth: int, in_loop: bool, in_star: bool = False) -> None:
        for _ in range(1 + self.pick(3)):
            self.statement(indent, depth, in_loop, in_star)

    def statement(self, indent: int, depth: int, in_loop: bool, in_star: bool = False) -> None:
        n = lambda depth: self.number(depth if self.pick(3) == 0 else depth - 1)  # noqa: E731
        simple: list[Callable[[], None]] = [
            lambda: self.put(indent, f"{self.name()} = {n(2)}"),
            lambda: self.put(indent, f"{self.name()} = {n(2)}"),
            lambda: self.put(indent, f"{self.name()} += {n(2)}"),
            lambda: self.put(indent, f"log({self.label()}, {n(2)}, {n(1)})"),
            lambda: self.put(indent, self.suspend(n(1))),
            lambda: self.put(indent, f"items[{n(1)} % 3], {self.name()} = {n(1)}, {n(1)}"),
            lambda: self.put(indent, f"items[{n(1)} % 3] += {n(1)}"),
            lambda: self.put(
                indent, f"if {self.test(1)}: raise {self.one_of('ValueError', 'KeyError', 'Boom')}({self.label()})"
            ),
            lambda: self.put(indent, f"assert {self.test(1)}, {n(1)}"),
            lambda: self.put(indent, f"log({self.label()}, inner({n(1)}))"),
            lambda: self.put(indent, f"fs.append(lambda: (a, {self.name()}))"),
            lambda: self.put(indent, f"{self.name()}, *rest = [{n(1)}, *({n(1)}, {n(0)})]"),
            lambda: self.put(indent, f"[{self.name()}, (box.v, items[{n(1)} % 3])] = {n(1)}, ({n(1)}, {n(0)})"),
            lambda: self.put(indent, f"box.v {self.one_of('+', '-', '*')}= {n(1)}"),
            # three for three: a loop over `items` must come to an end
            lambda: self.put(indent, f"items[{n(1)} % 1:{n(1)} % 1 + 3] = [{n(1)}, 0, 0]"),
            lambda: self.put(indent, f"items[{n(0)} % 3]: {n(0)} = {n(1)}"),
            lambda: self.put(indent, f"gone = {{1: {n(1)}, {n(1)}: 2}}; del gone[{self.one_of('1', n(1))}], gone"),
            lambda: self.put(indent, f"if {self.test(1)}: raise Boom({n(1)}) from KeyError({n(0)})"),
            lambda: self.put(indent, f"class Local(Box): v = {n(0)}; w = log({self.label()}, v)"),
            lambda: self.put(indent, f"shared = {n(1)}"),
            lambda: self.put(indent, f"def later(x, y={n(1)}, *, z={n(0)}): return x + y + z"),
        ]
        if not in_star:
            simple.append(
                lambda: self.put(
                    indent, f"if {self.test(1)}: return" + ("" if self.kind == "async_generator" else f" {n(1)}")
                )
            )
            if in_loop:
                simple.append(lambda: self.put(indent, f"if {self.test(1)}: {self.one_of('break', 'continue')}"))
        if self.kind == "generator":
            simple.append(lambda: self.put(indent, f"log({self.label()}, (yield from source(log, {self.pick(3)})))"))
            simple.append(lambda: self.put(indent, f"log({self.label()}, (yield from [{n(1)}, {n(0)}]))"))
            simple.append(lambda: self.put(indent, f"log({self.label()}, (yield from gen({n(1)} % 3)))"))
        if depth <= 0:
            self.one_of(*simple)()
            return
        d = depth - 1
        compound: list[Callable[[], None]] = [
            lambda: self.if_(indent, d, in_loop, in_star),
            lambda: self.for_(indent, d, in_star),
            lambda: self.while_(indent, d, in_star),
            lambda: self.try_(indent, d, in_loop, in_star),
            lambda: self.try_(indent, d, in_loop, in_star),
            lambda: self.with_(indent, d, in_loop, in_star),
            lambda: self.match(indent, d, in_loop, in_star),
            lambda: self.star(indent, d),
        ]
        self.one_of(*simple, *compound, *compound)()

    def if_(self, indent, d, in_loop, in_star):
        self.put(indent, f"if {self.test(2)}:")
        self.block(indent + 1, d, in_loop, in_star)
        if self.pick(2):
            self.put(indent, f"elif {self.test(1)}:")
            self.block(indent + 1, d, in_loop, in_star)
        if self.pick(2):
            self.put(indent, "else:")
            self.block(indent + 1, d, in_loop, in_star)

    def for_(self, indent, d, in_star):
        iterable = self.one_of(
            f"range({self.pick(4)})",
            f"[{self.number(1)}, {self.number(1)}]",
            f"source(log, {self.pick(4)})",
            f"(x + 1 for x in range({self.pick(3)}))",
            "items",
            "{1: 2, 3: 4}.items() and [5]",
            f"gen({self.number(1)} % 3)",
            f"(v for k, v in zip('abc', [{self.number(1)}, 2]))",
            f"map(abs, reversed([{self.number(1)}, {self.number(0)}]))",
        )
        target = self.one_of(self.name(), self.name(), "items[1]", f"items[{self.number(1)} % 3]", "box.v")
        prefix = ""
        if self.is_async and self.pick(3) == 0:
            prefix, iterable = "async ", self.one_of(f"Ticker(log, {self.pick(4)})", f"asource(log, {self.pick(4)})")
        self.put(indent, f"{prefix}for {target} in {iterable}:")
        self.block(indent + 1, d, True, in_star and False)
        if self.pick(3) == 0:
            self.put(indent, "else:")
            self.block(indent + 1, d, False, in_star)

    def while_(self, indent, d, in_star):
        self.loops += 1
        counter = f"n{self.loops}"
        self.put(indent, f"{counter} = 0")
        self.put(indent, f"while ({counter} := {counter} + 1) < {2 + self.pick(3)} and {self.test(1)}:")
        self.block(indent + 1, d, True, in_star and False)
        if self.pick(3) == 0:
            self.put(indent, "else:")
            self.block(indent + 1, d, False, in_star)

    def try_(self, indent, d, in_loop, in_star):
        self.put(indent, "try:")
        self.block(indent + 1, d, in_loop, in_star)
        handlers = self.pick(3)
        for index in range(handlers):
            kind = self.one_of("ValueError", "(KeyError, Boom)", "Exception")
            self.put(indent, f"except {kind}{self.one_of('', ' as e')}:")
            self.put(indent + 1, f"log({self.label()}, repr(__import__('sys').exception()))")
            self.block(indent + 1, d, in_loop, in_star)
            if self.pick(3) == 0:
                self.put(indent + 1, "raise")
        if handlers and self.pick(3) == 0:
            self.put(indent, "else:")
            self.block(indent + 1, d, in_loop, in_star)
        if not handlers or self.pick(2):
            self.put(indent, "finally:")
            self.put(indent + 1, f"log({self.label()}, repr(__import__('sys').exception()))")
            self.block(indent + 1, d, in_loop, in_star)

    def with_(self, indent, d, in_loop, in_star):
        suppress = self.one_of("", "", ", ValueError", ", Exception")
        kind = "async with AsyncManager" if self.is_async and self.pick(2) else "with Manager"
        again = self.one_of("AsyncManager") if kind.startswith("async") else self.one_of("Manager", "managed")
        target = self.one_of("", " as m", f" as items[{self.number(1)} % 3]")
        second = f", {again}(log, {self.number(1)}){target}" if self.pick(3) == 0 else ""
        self.put(indent, f"{kind}(log, {self.number(1)}{suppress}){self.one_of('', ' as m')}{second}:")
        self.block(indent + 1, d, in_loop, in_star)

    def match(self, indent, d, in_loop, in_star):
        pairs = [f"(0, {self.name()}){self.guard()}", f"(1, q){self.guard()}", f"(q, _) if {self.test(1)}", "_"]
        if self.pick(2):
            self.put(indent, f"match ({self.number(1)} % 3, {self.number(1)}):")
        else:
            subject = f"{{1: {self.number(1)}}}", f"Box({self.number(1)})", f"[{self.number(1)}, 2, 3]", self.number(1)
            self.put(indent, f"match [{', '.join(subject)}][{self.number(1)} % 4]:")
            pairs = [
                f"{{1: q, **more}}{self.guard()}", f"Box(v=q){self.guard()}", f"[q, *more]{self.guard()}", "1 | 2",
            ]  # fmt: skip
        for case in pairs[: 2 + self.pick(3)]:
            self.put(indent + 1, f"case {case}:")
            self.block(indent + 2, d, in_loop, in_star)

    def guard(self):
        return f" if {self.test(1)}" if self.pick(2) else ""

    def star(self, indent, d):
        self.put(indent, "try:")
        self.block(indent + 1, d, False, True)
        self.put(
            indent + 1,
            f"raise ExceptionGroup('g', [ValueError({self.pick(3)}), KeyError(2), Boom(3)][:{1 + self.pick(3)}])",
        )
        for kind in ["ValueError", "(KeyError, Boom)"][: 1 + self.pick(2)]:
            self.put(indent, f"except* {kind}{self.one_of(' as eg', ' as eg', '')}:")
            self.put(indent + 1, f"log({self.label()}, repr(eg), repr(sys.exception()))")
            self.block(indent + 1, d, False, True)
            if self.pick(4) == 0:
                self.put(indent + 1, "raise")
        if self.pick(4) == 0:
            self.put(indent, "finally:")
            self.block(indent + 1, d, False, False)

    def text(self, depth: int = 3) -> str:
        """The program; `depth`: how deeply its statements may be nested."""
        self.put(0, f"{'async ' if self.is_async else ''}def program(log):")
        if self.pick(2):
            self.put(1, "global shared")
        self.put(1, "a, b, c, w, box, shared, more, rest = 1, 2, 3, 4, Box(5), 6, 0, 0")
        self.put(1, "items, fs, e, m, q, eg, n1 = [0, 0, 0], [], 0, 0, 0, 0, 0")
        self.put(1, "def f(*args, k=0, **rest): return log('f', sum(args) + k + sum(rest.values()))")
        self.put(1, "def inner(n):")
        if self.pick(2):
            self.put(2, f"nonlocal {self.name()}")
        self.put(2, f"{self.name()} = log('inner', n)")
        self.put(2, "return n + 1")
        for _ in range(depth - 1 + self.pick(3)):
            self.statement(1, depth, False)
        self.put(1, "log('closures', [g() for g in fs])")
        self.put(1, f"log({self.suspend('a')}, a, b, c, w, items, box.v, shared, rest)")
        if self.kind == "async_generator":
            self.put(1, "yield 0")
        elif self.kind == "generator":
            self.put(1, f"return {self.suspend('b')}")
        return HEADER + "\n".join(self.lines) + "\n"


def load(text: str, name: str) -> Any:
    """The function of a program, whose source `linecache` knows."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "random_program"}
    exec(compile(text, name, "exec"), namespace)
    return namespace["program"]
