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
import types
import unittest
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

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
        tree = Decorate().visit(ast.parse(self.get_data(self.path), self.path))
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

    def note(self, test: Any, outcome: str) -> None:
        self.outcomes[str(test.id())] = outcome

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        begun(str(test.id()))

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        ended(str(test.id()), self.outcomes)

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self.outcomes.setdefault(str(test.id()), "passed")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "failed")

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "failed")

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
            self.note(test, "failed")


REPORT: list[Path] = []
COUNTED_EVERY = 50  # tests, after which the counts are written down as well


def begun(test: str) -> None:
    REPORT[0].with_suffix(".running").write_text(test)


def ended(test: str, outcomes: dict[str, str]) -> None:
    """Write down how a test ended: the run may itself be ended for taking too long."""
    with REPORT[0].open("a") as lines:
        lines.write(json.dumps({"outcomes": {test: outcomes.get(test, "failed")}}) + "\n")
        if len(outcomes) % COUNTED_EVERY == 0:
            lines.write(json.dumps({"counts": counts()}) + "\n")


def counts() -> dict[str, int]:
    renewal = sys.modules.get("ray_durable.testing.renewal")
    return dict(renewal.COUNTS) if renewal is not None else {}


def by_unittest(name: str, select: str | None, only: Sequence[str] = ()) -> dict[str, str]:
    """Run a module's tests, or `only` those with these ids.

    CPython's own are run as `python -m test` runs them: without what needs much time or a network."""
    if name.split(".")[0] == "test":
        importlib.import_module("test.support").use_resources = []  # type: ignore[attr-defined]
    loader: unittest.TestLoader = importlib.import_module("unittest").TestLoader()  # which may be another by now
    if select:
        loader.testNamePatterns = [f"*{select}*"]
    suite = loader.loadTestsFromNames(only) if only else loader.loadTestsFromName(name)
    runner = unittest.TextTestRunner(verbosity=0, resultclass=Outcomes)
    result = runner.run(suite)
    assert isinstance(result, Outcomes)
    return result.outcomes


class Collector:
    """A pytest plugin that notes every test's outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        begun(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped:
            self.outcomes.setdefault(report.nodeid, "skipped")
        elif report.when == "call":
            self.outcomes.setdefault(report.nodeid, "passed")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        ended(nodeid, self.outcomes)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes[f"{report.nodeid} (import)"] = "failed"


def by_pytest(path: str, select: str | None, only: Sequence[str] = ()) -> dict[str, str]:
    import pytest

    collector = Collector()
    quiet = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "--assert=plain", "-W", "default"]
    quiet.append("--continue-on-collection-errors")
    if importlib.util.find_spec("hypothesis") and not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        quiet.append("--hypothesis-seed=0")
    chosen = ["-k", select] if select else []
    root = Path(path).parent
    paths = [str(root / test) for test in only] or [path]
    pytest.main([*quiet, *chosen, "--rootdir", str(root), *paths], plugins=[collector])
    return collector.outcomes


def main() -> None:
    plan = json.loads(sys.argv[1])
    REPORT.append(Path(plan["report"]))
    if plan["prefixes"]:
        install(plan["prefixes"], plan["directory"])
    run = by_unittest if plan["runner"] == "unittest" else by_pytest
    outcomes = run(plan["tests"], plan["select"], plan["only"])
    with REPORT[0].open("a") as lines:
        lines.write(json.dumps({"outcomes": outcomes, "counts": counts(), "done": True}) + "\n")


if __name__ == "__main__":
    main()
