"""The process that runs a package's tests for `conformance`, with an import hook that makes its functions durable.

Modules whose names begin with one of the prefixes are compiled with one more decorator on every generator and async
function, the innermost: `renewal.renewing`. Everything else in them stays at its place, lines and columns included.
"""

from __future__ import annotations

import ast
import builtins
import copyreg
import gc
import importlib
import importlib.util
import json
import os
import sys
import traceback
import types
import unittest
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from ray_durable.compiler.parsing import parse
from ray_durable.testing import reporting
from ray_durable.testing.reporting import REASONS, begun, counts, ended, first_line, write

DECORATOR = "__ray_durable_renewing__"


class Decorate(ast.NodeTransformer):
    """def f(): … yield …   =>   @__ray_durable_renewing__ (innermost) def f(): … yield …"""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        if yields(node):
            self.decorate(node)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        self.decorate(node)
        return node

    def decorate(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        where = node.decorator_list[0] if node.decorator_list else node
        name = ast.copy_location(ast.Name(DECORATOR, ast.Load()), where)
        name.end_lineno, name.end_col_offset = name.lineno, name.col_offset
        node.decorator_list.append(name)


def yields(function: ast.FunctionDef) -> bool:
    """Whether the function's own body, not one inside it, has a `yield`."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))
    return False


@dataclass(frozen=True, slots=True)
class Taken:
    """Which modules are made durable: those with one of the prefixes, and those in a directory."""

    prefixes: tuple[str, ...]
    directory: str | None = None

    def module(self, name: str) -> bool:
        return any(name == prefix or name.startswith(prefix + ".") for prefix in self.prefixes)


def hook(taken: Taken) -> Callable[[Any, str], types.CodeType | None]:
    """`SourceFileLoader.get_code` that adds the decorators to what is `taken`; no bytecode of it is read or written."""
    usual = SourceFileLoader.get_code
    within = tuple(prefix + "." for prefix in taken.prefixes)
    below = os.path.join(os.path.abspath(taken.directory), "") if taken.directory else "\0"

    def get_code(self: Any, fullname: str) -> types.CodeType | None:
        known = isinstance(fullname, str) and (fullname in taken.prefixes or fullname.startswith(within))
        if not known and not (isinstance(self.path, str) and self.path.startswith(below)):
            return usual(self, fullname)
        tree = Decorate().visit(parse(self.get_data(self.path), self.path))
        code: types.CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        return code

    # part of `importlib`, for debuggers that skip that
    return types.FunctionType(get_code.__code__, globals() | {"__name__": "importlib"}, closure=get_code.__closure__)


KEPT = ("codecs", "encodings", "warnings", "zipimport")  # the interpreter itself holds what they define


def install(prefixes: Sequence[str], directory: str | None = None) -> None:
    """Make what is imported from now on durable; what was imported already is forgotten, to be imported again."""
    from ray_durable.compiler import references
    from ray_durable.testing.driving import COUNTS
    from ray_durable.testing.hiding import hide, warning_past_drivers
    from ray_durable.testing.renewal import renewing

    setattr(builtins, DECORATOR, renewing)
    renewing(warm_up)  # all that compiles is imported now, not while it is imported anew itself
    references.register()
    for kind in (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType):
        copyreg.dispatch_table.pop(
            kind
        )  # that they can be pickled is an addition, whose absence CPython's tests assert
    COUNTS.clear()
    hide()
    taken = Taken(tuple(prefixes), directory)
    imported = [name for name in sys.modules if taken.module(name)]
    kept = [name for name in imported if name.split(".")[0] in KEPT]
    imported = [name for name in imported if name not in kept]
    for name in imported:
        del sys.modules[name]
    SourceFileLoader.get_code = hook(taken)  # type: ignore[method-assign, assignment]
    for name in imported:
        importlib.import_module(name)
    for function in [each for each in gc.get_objects() if type(each) is types.FunctionType]:
        if function.__module__ in kept:
            function.__code__ = renewing(function).__code__
    if not taken.module("warnings"):
        warnings.warn = warning_past_drivers(warnings.warn)


def warm_up() -> Iterator[None]:
    yield


class Outcomes(unittest.TextTestResult):
    """Notes every test's outcome; a sub-test that fails fails its test."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outcomes: dict[str, str] = {}

    def note(self, test: Any, outcome: str, err: Any = None) -> None:
        self.outcomes[id_of(test)] = outcome
        if err is not None:
            REASONS[id_of(test)] = first_line(traceback.format_exception_only(err[0], err[1])[-1])

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        begun(id_of(test))

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        ended(id_of(test), self.outcomes)

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self.outcomes.setdefault(id_of(test), "passed")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "failed", err)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "failed", err)

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.note(test, "passed")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self.note(test, "failed")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failed", err)


def id_of(test: Any) -> str:
    return str(type(test).id(test))  # of the class: a test may have an attribute of that name


def by_unittest(plan: dict[str, Any]) -> dict[str, str]:
    """Run a module's tests, or `only` those with these ids.

    CPython's own are run as `python -m test` runs them: without what needs a network or much time, unless told."""
    name = plan["tests"]
    if name.split(".")[0] == "test":
        importlib.import_module("test.support").use_resources = plan["use"]  # type: ignore[attr-defined]
    loader: unittest.TestLoader = importlib.import_module("unittest").TestLoader()  # which may be another by now
    if plan["select"]:
        loader.testNamePatterns = [f"*{plan['select']}*"]
    try:
        suite = loader.loadTestsFromNames(plan["only"]) if plan["only"] else loader.loadTestsFromName(name)
    except Exception as error:
        if type(error).__name__ not in ("SkipTest", "ResourceDenied"):  # of a module that may be another by now, too
            raise
        write({"notes": [f"its tests do not run here: {error}"]})
        return {name: "skipped"}
    runner = unittest.TextTestRunner(verbosity=0, resultclass=Outcomes)
    result = runner.run(suite)
    assert isinstance(result, Outcomes)
    return result.outcomes


def main() -> None:
    plan = json.loads(sys.argv[1])
    reporting.REPORT.append(Path(plan["report"]))
    if plan["prefixes"]:
        install(plan["prefixes"], plan["directory"])
    if plan["runner"] == "unittest":
        outcomes = by_unittest(plan)
    else:
        from ray_durable.testing.collecting import by_pytest

        outcomes = by_pytest(plan)
    write({"outcomes": outcomes, "reasons": REASONS, "counts": counts(), "done": True})


if __name__ == "__main__":
    main()
