"""Runs a package's own tests with all of its generator and async functions made durable, and compares.

    python -m ray_durable.testing.conformance heapq contextlib more_itertools
    python -m ray_durable.testing.conformance --tests path/to/tests package

Each package's tests are run twice, in processes of their own: as they are, and with every generator and async function
of the package and of its tests replaced by one whose every suspension is captured and restored (`renewal`; values go by
reference). A test that fails only then shows a difference between a durable function and a plain one. Standard library
modules are tested by CPython's own `test` package, others by pytest on the tests that they ship.

Both runs get the same seeds, of hashes and of hypothesis. A test that failed only when durable is tried once more by
itself: one that fails at times, of a timeout on a busy machine, is no difference. It is named all the same.

Prints a table, or with `--markdown` one for documentation; ends with status 1 if any test fails only when durable.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SHOWN_MAX = 20  # regressions named per module
AGAIN_MAX = 20  # tests that are tried once more; more than that are no accident
WORKER = "ray_durable.testing.conforming"


@dataclass(frozen=True, slots=True)
class Target:
    """What to test: the module, its tests (a module name, or a path for pytest), and what is made durable."""

    name: str
    tests: str
    runner: str  # "unittest" or "pytest"
    prefixes: tuple[str, ...]
    directory: str | None = None  # of tests that are not named by a prefix


@dataclass(slots=True)
class Run:
    """How one run of the tests ended: each test's outcome, and counts of what was made durable."""

    outcomes: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""

    def count(self, outcome: str) -> int:
        return sum(found == outcome for found in self.outcomes.values())


def target_of(name: str, tests: str | None) -> Target:
    """Where the tests of a module are.

    Raises: LookupError when there are none to be found."""
    if tests is not None:
        return Target(name, tests, "pytest", (name,), str(Path(tests) if Path(tests).is_dir() else Path(tests).parent))
    top = name.split(".")[0]
    if top == "test":
        return Target(name, name, "unittest", (name,))
    stdlib = f"test.test_{name.replace('.', '_')}"
    if top in sys.stdlib_module_names:
        if is_found(stdlib):
            return Target(name, stdlib, "unittest", (name, stdlib))
        raise LookupError(f"{name}: this interpreter has no {stdlib}")
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise LookupError(f"{name}: it is not installed")
    if "test" in name.rpartition(".")[2]:
        return Target(name, name, "unittest", (top,))
    package = Path(spec.origin).parent
    if spec.submodule_search_locations and any(package.glob("**/test_*.py")):
        return Target(name, str(package), "pytest", (name,))
    for path in (package / "tests", package.parent / f"{name}_tests", package.parent / "tests"):
        if any(path.glob("**/test_*.py")):
            return Target(name, str(path), "pytest", (name,), str(path))
    raise LookupError(f"{name}: it ships no tests; name them with --tests")


def is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def run(target: Target, durable: bool, timeout_s: float, select: str | None = None, only: Sequence[str] = ()) -> Run:
    """Run a target's tests, or `only` some, in a new process."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        plan = {
            "tests": target.tests,
            "runner": target.runner,
            "prefixes": list(target.prefixes) if durable else [],
            "directory": target.directory,
            "report": str(report),
            "select": select,
            "only": list(only),
        }
        command = [sys.executable, "-X", "frozen_modules=off", "-m", WORKER, json.dumps(plan)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        done: subprocess.CompletedProcess[str] | None
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
            )
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        except subprocess.TimeoutExpired as late:
            tail = f"not done after {late.timeout:.0f} s"
            done = None
        running = report.with_suffix(".running")
        if running.exists() and (done is None or done.returncode):
            ended = "" if done is None else f"; exit status {done.returncode}"
            tail += f"\nthe last test begun was {running.read_text()}{ended}"
        if not report.exists():
            return Run(error=tail)
        found = Run(error=tail)
        for line in report.read_text().rpartition("\n")[0].splitlines():  # the last may be cut off
            part: dict[str, Any] = json.loads(line)
            found.outcomes |= part.get("outcomes", {})
            found.counts = part.get("counts", found.counts)
            found.error = "" if part.get("done") else tail
    if not found.outcomes and not found.error:
        found.error = f"no tests were run\n{tail}"
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """A module's tests without and with durable functions."""

    target: Target
    before: Run
    after: Run
    again: Run = field(default_factory=Run)  # of tests that differed, durable too

    @property
    def regressions(self) -> list[str]:
        """Tests that pass natively, and fail (or are gone) when durable."""
        return [test for test in differing(self.before, self.after) if self.again.outcomes.get(test) != "passed"]

    @property
    def mended(self) -> list[str]:
        """Tests that failed when durable, and passed when tried again."""
        failed = [test for test, outcome in self.after.outcomes.items() if outcome == "failed"]
        return [test for test in failed if self.again.outcomes.get(test) == "passed"]

    def row(self) -> list[str]:
        before, after = self.before, self.after
        refused = sum(count for name, count in after.counts.items() if name.startswith("refused"))
        kept = sum(count for name, count in after.counts.items() if name.startswith("not captured"))
        numbers = [
            before.count("passed"), before.count("failed"),
            after.count("passed") + self.again.count("passed"), after.count("failed") - len(self.mended),
            len(self.regressions), after.counts.get("functions", 0), refused, after.counts.get("renewed", 0), kept,
        ]  # fmt: skip
        return [self.target.name, *map(str, numbers)]


def differing(before: Run, after: Run) -> list[str]:
    passed = [test for test, outcome in before.outcomes.items() if outcome == "passed"]
    return [test for test in passed if after.outcomes.get(test) != "passed"]


HEADS = (
    "module", "passed", "failed", "durable: passed", "failed", "only then",
    "functions", "refused", "restores", "not captured",
)  # fmt: skip


def compare(target: Target, timeout_s: float, select: str | None = None) -> Comparison:
    """Run the tests both ways, and those that differ once more."""
    before, after = run(target, False, timeout_s, select), run(target, True, timeout_s, select)
    failed = [test for test in differing(before, after) if test in after.outcomes]
    if not 0 < len(failed) <= AGAIN_MAX:
        return Comparison(target, before, after)
    return Comparison(target, before, after, run(target, True, timeout_s, only=failed))


def markdown(rows: list[list[str]]) -> str:
    lines = [list(HEADS), ["---"] * len(HEADS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(rows: list[list[str]]) -> str:
    lines = [list(HEADS), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ray_durable.testing.conformance", description=__doc__.split("\n")[0]
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("--tests", help="a module's tests, where they are not found by themselves: a path for pytest")
    parser.add_argument("--leave-tests", action="store_true", help="make only the module durable, not its tests")
    parser.add_argument("--select", help="run only tests whose name contains this")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run of a module's tests")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--verbose", action="store_true", help="print why functions and suspensions were left out")
    options = parser.parse_args(arguments)
    rows, failed = [], False
    for name in options.modules:
        try:
            target = target_of(name, options.tests)
        except LookupError as missing:
            print(missing, file=sys.stderr)
            failed = True
            continue
        if options.leave_tests:
            target = replace(target, prefixes=(name,), directory=None)
        comparison = compare(target, options.timeout, options.select)
        rows.append(comparison.row())
        failed = failed or bool(comparison.regressions) or bool(comparison.after.error)
        show(comparison, options.verbose)
    print(markdown(rows) if options.markdown else plain(rows))
    return 1 if failed else 0


def show(comparison: Comparison, verbose: bool) -> None:
    """What went differently, on the error output."""
    for name, each in (("plain", comparison.before), ("durable", comparison.after)):
        if each.error:
            print(f"{comparison.target.name}, {name}: no result\n{each.error}", file=sys.stderr)
    regressions = comparison.regressions
    for test in regressions[:SHOWN_MAX]:
        print(f"{comparison.target.name}: only when durable: {test}", file=sys.stderr)
    if len(regressions) > SHOWN_MAX:
        print(f"{comparison.target.name}: … and {len(regressions) - SHOWN_MAX} more", file=sys.stderr)
    for test in comparison.mended:
        print(f"{comparison.target.name}: passed when tried again: {test}", file=sys.stderr)
    if verbose:
        for reason, count in sorted(comparison.after.counts.items()):
            print(f"{comparison.target.name}: {count:8} {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
