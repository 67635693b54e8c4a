"""Random programs over the compiler's grammar, as text. `pick(n)` gives a number below n, by hypothesis or a seed."""

from __future__ import annotations

import linecache
import re
import sys
import types
from typing import Any

from tests.compiler.random_expressions import SUSPENSIONS, Function
from tests.compiler.random_statements import Place, Statements

HEADER = """
import contextlib, functools, itertools, sys
from tests.compiler.random_parts import *
from tests.compiler.roundtrip import Step, pause
"""
STARTS = {
    "w": "4", "box": "Box(5)", "shared": "6", "more": "0", "rest": "0", "items": "[0, 0, 0]", "fs": "[]", "e": "0",
    "m": "0", "q": "0", "eg": "0", "n1": "0", "grid": "Grid(log)", "table": "{1: 2, 3: 4}", "it": "iter(())",
    "g": "gen(1)", "ag": "asource(log, 1)",
}  # fmt: skip
OWN = ("more", "rest", "e", "m", "q", "eg", "it", "g", "ag", "w")  # what functions inside have of their own
INSIDE = {
    "generator": ("generator", "generator", "plain"),
    "coroutine": ("coroutine", "coroutine", "async_generator", "generator", "plain"),
    "async_generator": ("coroutine", "async_generator", "async_generator", "generator", "plain"),
    "plain": ("plain", "plain", "generator"),
    "looping": ("plain", "plain", "generator"),
}
SIZES = (4, 6, 10, 25)  # statements, by depth


class Program(Statements):
    """Writes one random function, and those inside it."""

    counted = 0

    def unused(self) -> int:
        self.counted += 1
        return self.counted

    def starting(self, at: int, indent: int, names: tuple[str, ...]) -> None:
        """Give the variables that the lines from `at` on mention a value before them."""
        text = "\n".join(self.lines[at:])
        found = [name for name in names if re.search(rf"\b{name}\b", text)]
        if found:
            line = f"{', '.join(found)} = {', '.join(STARTS[name] for name in found)}"
            self.lines.insert(at, "    " * indent + line)

    # ---- definitions inside ------------------------------------------------------------------------------------------
    def definition(self, place: Place) -> None:
        if self.pick(3) == 0:
            self.class_(place)
            return
        name, kind = f"f{self.unused()}", self.one_of(*INSIDE[self.function.kind])
        if self.pick(3) == 0:
            how = self.one_of("kept", f"(log({self.label()}, {self.n(1)}), kept)[1]")
            if not (kind == "plain" and "pause" in SUSPENSIONS[self.function.kind]):
                how = self.one_of(how, f"deco(log, {self.n(1)})")  # its wrapper is no durable function
            self.put(place.indent, f"@{how}")
        self.inside(place, name, kind, method="")
        self.use(place, name, kind)

    def signature(self, own: list[str], method: str) -> str:
        """Parameters: the variables that the function has of its own among them."""
        first = f"{method}, n" if method else "n"
        parts = [self.one_of(f"{first}: int", first)]
        for index, name in enumerate(own):
            if index == 1 and self.pick(3) == 0:
                parts.append("/")
            if index == len(own) - 1 and len(own) > 1 and self.pick(2):
                parts.append(self.one_of("*", "*args"))
            default = self.n(1) if not method else str(self.pick(3))
            parts.append(f"{name}={default}")
        return ", ".join(parts) + self.one_of("", ", **options")

    def inside(self, place: Place, name: str, kind: str, method: str) -> None:
        """A function inside this one."""
        is_async = "async " if kind in ("coroutine", "async_generator") else ""
        own = [each for each in ("a", "b", "c") if self.pick(2)]
        generic = self.one_of("[T]", "") if sys.version_info >= (3, 12) and self.pick(4) == 0 else ""
        self.put(
            place.indent, f"{is_async}def {name}{generic}({self.signature(own, method)}){self.one_of('', ' -> int')}:"
        )
        outer, names = self.function, self.names
        allowed = set(SUSPENSIONS[kind])
        if kind == "plain" and "pause" not in outer.allowed:
            allowed = set()
        if kind == "coroutine":
            allowed.discard("pause") if outer.kind == "async_generator" else None
        self.function = Function(kind, True, allowed, list(outer.made), method=bool(method))
        self.names = ["a", "b", "c", "n"]
        within = Place(place.indent + 1, min(place.depth, 2) - 1)
        if method:
            self.put(within.indent, f'"""{name}"""')
        shared = [each for each in ("a", "b", "c") if each not in own]
        if self.pick(4) == 0:
            self.put(within.indent, "global shared")
        if shared:
            self.put(within.indent, f"nonlocal {', '.join(shared)}")
        at = len(self.lines)
        self.block(within)
        if method:
            self.put(within.indent, f"log({self.label()}, self._C__hidden, self.__hidden, __class__.__name__)")
            self.put(within.indent, self.of_base(name, kind))
        elif self.pick(3) == 0:
            self.put(within.indent, f"if n > 0: {self.called(name, kind, 'n - 1')}")  # recursion
        if kind == "async_generator":
            self.put(within.indent, self.suspend(self.n(1)) if self.pick(2) else "yield n")
        else:
            if kind == "generator":
                self.put(within.indent, self.suspend(self.n(1)))
            self.put(within.indent, f"return {self.n(1)}")
        self.starting(at, within.indent, OWN)
        self.function, self.names = outer, names

    def called(self, name: str, kind: str, argument: str) -> str:
        """A statement that calls a function and runs what it gives."""
        function, label = self.function, self.label()
        if kind == "plain":
            return f"log({label}, {name}({argument}))"
        if kind == "coroutine":
            return f"log({label}, await {name}({argument}))"
        if kind == "generator":
            if "yield" in function.allowed and not function.is_async and self.pick(3):
                return f"log({label}, (yield from {name}({argument})))"
            return self.one_of(
                f"log({label}, [*{name}({argument})])",
                f"g = {name}({argument}); log({label}, next(g, 0), g.close())",
                f"a, *rest = [0, *{name}({argument})]",
                f"log({label}, *(x for x in {name}({argument})))",
            )
        return self.one_of(
            f"log({label}, [x async for x in {name}({argument})])",
            f"ag = {name}({argument}); log({label}, await anext(ag, 0), await ag.aclose())",
            f"ag = {name}({argument}); log({label}, await anext(ag, 0), await ag.asend(1))",
        )

    def use(self, place: Place, name: str, kind: str) -> None:
        """Call a function that was just defined, and let it be called later."""
        if kind in ("coroutine", "async_generator") and "await" not in self.function.allowed:
            return
        self.put(place.indent, self.called(name, kind, f"{self.within(lambda: self.n(1), walrus=False)} % 3"))
        if "self" not in name and self.pick(2):
            self.function.made.append((name, kind))
        if self.pick(3) == 0 and self.budget > 0:
            loop = {"generator": "for", "async_generator": "async for"}.get(kind)
            if loop is not None:
                self.put(place.indent, f"{loop} {self.name()} in {name}({self.n(1)} % 3):")
                self.block(place.block(in_loop=True))
            elif kind == "coroutine":
                self.put(place.indent, f"t = {name}({self.n(1)} % 2)")
                self.statement(place)
                self.put(place.indent, f"log({self.label()}, await t)")

    def of_base(self, name: str, kind: str) -> str:
        """What a method does with that of its base."""
        label = self.label()
        return {
            "plain": f"log({label}, super().plain(n), super(C, self).plain(n))",
            "generator": f"log({label}, (yield from super().steps(n)))",
            "coroutine": f"log({label}, await super().co(n))",
            "async_generator": f"log({label}, [x async for x in super().agen(n)])",
        }[kind]

    def class_(self, place: Place) -> None:
        indent, kind = place.indent, self.one_of(*INSIDE[self.function.kind])
        if self.pick(3) == 0:
            self.put(indent, f"@{self.one_of('marked', f'(log({self.label()}, {self.n(1)}), marked)[1]')}")
        base = self.one_of("Base", f"Base, tag={self.n(1)}", f"*[Base], **dict(tag={self.n(1)})")
        self.put(indent, f"class C({base}):")
        if self.pick(3) == 0:
            self.put(indent + 1, f"nonlocal {self.name()}" if self.function.nested else "global shared")
        self.put(indent + 1, f"__hidden = {self.within(lambda: self.n(1), set(), walrus=False)}")
        if self.pick(2):
            self.put(indent + 1, f"tags = [x for x in range(2)]; log({self.label()}, __hidden, tags)")
        method = {"plain": "plain", "generator": "steps", "coroutine": "co", "async_generator": "agen"}[kind]
        self.inside(place.block(), method, kind, "self")
        more = self.one_of("", "property", "staticmethod", "classmethod")
        if more:
            self.put(indent + 1, f"@{more}")
            arguments = {"property": "self", "staticmethod": "n=1", "classmethod": "cls, n=1"}[more]
            allowed = set() if more == "property" else {"pause"}
            self.put(indent + 1, f"def more({arguments}): return {self.within(lambda: self.n(1), allowed)}")
        self.put(indent, f"o = C(log, {self.n(1)})")
        if more:
            self.put(indent, f"log({self.label()}, o.more{'' if more == 'property' else '()'}, C.tag)")
        self.use(place, f"o.{method}", kind)

    # ---- the whole ---------------------------------------------------------------------------------------------------
    def text(self, depth: int = 3) -> str:
        """The program; `depth`: how deeply its statements may be nested."""
        self.budget = SIZES[min(depth, 3)]
        function = self.function
        self.put(0, f"{'async ' if function.is_async else ''}def program(log):")
        if self.pick(2):
            self.put(1, "global shared")
        self.put(1, "a, b, c = 1, 2, 3")
        at = len(self.lines)
        for _ in range(depth - 1 + self.pick(3)):
            self.statement(Place(1, depth))
        if "fs" in "\n".join(self.lines):
            self.put(1, "log('closures', [g() for g in fs])")
        self.put(1, f"log({self.suspend('a')}, a, b, c, w, items, box.v, shared)")
        if function.kind == "async_generator":
            self.put(1, "yield 0")
        elif function.kind == "generator":
            self.put(1, f"return {self.suspend('b')}")
        if any("f(" in line for line in self.lines):
            made = "def f(*args, k=0, **rest): return log('f', sum(args) + k + sum(rest.values()))"
            self.lines.insert(at, "    " + made)
        self.starting(at, 1, tuple(STARTS))
        return HEADER + "\n".join(self.lines) + "\n"


def load(text: str, name: str) -> Any:
    """The function of a program, whose source `linecache` knows, in a module of its own."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = types.ModuleType("random_program")
    sys.modules["random_program"] = module
    exec(compile(text, name, "exec"), vars(module))
    return module.program
