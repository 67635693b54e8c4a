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
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ray_durable.testing.runs import Run, run
from ray_durable.testing.suites import Target, target_of

SHOWN_MAX = 20  # regressions named per module
AGAIN_MAX = 50  # tests that are tried once more; more than that are no accident
REASONS_SHOWN = 3  # why tests fail natively, if most of them do
INTERRUPTED = 130  # the exit status of what the user ended


@dataclass(frozen=True, slots=True)
class Comparison:
    """A module's tests without and with durable functions."""

    target: Target
    before: Run
    after: Run
    again: Run = field(default_factory=Run)  # of tests that differed, durable too
    renamed: frozenset[str] = frozenset()  # tests whose name is another one in each run, natively too

    @property
    def regressions(self) -> list[str]:
        """Tests that pass natively, and fail (or are gone) when durable."""
        differ = [test for test in differing(self.before, self.after) if test not in self.renamed]
        if self.renamed:
            differ += [test for test in self.after.failed() if test not in self.before.outcomes]
        return [test for test in differ if self.again.outcomes.get(test) != "passed"]

    @property
    def mended(self) -> list[str]:
        """Tests that failed when durable, and passed when tried again."""
        return [test for test in self.after.failed() if self.again.outcomes.get(test) == "passed"]

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


def compare(target: Target, timeout_s: float, select: str | None = None, use: Sequence[str] = ()) -> Comparison:
    """Run the tests both ways, and those that differ once more. Those that are gone may have other names now."""
    before, after = (run(target, durable, timeout_s, select, use=use) for durable in (False, True))
    found = Comparison(target, before, after)
    gone = [test for test in differing(before, after) if test not in after.outcomes]
    if gone and not after.error and target.runner == "pytest":
        named = run(target, False, timeout_s, select, collect=True)
        if named.outcomes:
            found = replace(found, renamed=frozenset(gone) - named.outcomes.keys())
    failed = [test for test in found.regressions if test in after.outcomes]
    if not 0 < len(failed) <= AGAIN_MAX:
        return found
    return replace(found, again=run(target, True, timeout_s, only=failed, use=use))


def markdown(rows: list[list[str]]) -> str:
    lines = [list(HEADS), ["---"] * len(HEADS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(rows: list[list[str]]) -> str:
    lines = [list(HEADS), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    rows, failed = [], False
    try:
        for name in options.modules:
            try:
                target = target_of(name, options.tests)
            except LookupError as missing:
                print(missing, file=sys.stderr)
                failed = True
                continue
            if options.leave_tests:
                target = replace(target, prefixes=(name,), directory=None)
            comparison = compare(target, options.timeout, options.select, options.use)
            rows.append(comparison.row())
            failed = failed or bool(comparison.regressions) or bool(comparison.after.error)
            show(comparison, options.verbose)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what follows is of the modules before it", file=sys.stderr)
        return INTERRUPTED
    finally:
        if rows:
            print(markdown(rows) if options.markdown else plain(rows))
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m ray_durable.testing.conformance", description=__doc__.split("\n")[0]
    )
    found.add_argument("modules", nargs="+", metavar="MODULE")
    found.add_argument(
        "--tests",
        help="the tests of the module, where they are not found by themselves: a path for pytest, or a module's name",
    )
    found.add_argument("--leave-tests", action="store_true", help="make only the module durable, not its tests")
    found.add_argument("--select", help="run only tests whose name contains this (with pytest, its `-k`)")
    found.add_argument(
        "--use", action="append", default=[], metavar="RESOURCE", help="let CPython's tests use this: network, cpu, …"
    )
    found.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run of a module's tests")
    found.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    found.add_argument("--verbose", action="store_true", help="print why functions and suspensions were left out")
    return found


def show(comparison: Comparison, verbose: bool) -> None:
    """What went differently, on the error output."""
    name, before, after = comparison.target.name, comparison.before, comparison.after
    for note in dict.fromkeys([*before.notes, *after.notes]):
        tell(f"{name}: {note}")
    for kind, each in (("plain", before), ("durable", after)):
        if each.error:
            tell(f"{name}, {kind}: no result\n{each.error}")
    if before.count("failed") > before.count("passed"):
        tell(
            f"{name}: most tests fail without durable functions, too: is a package missing, or another version of one?"
        )
        tell(*(f"{name}: {test}: {why}" for test, why in list(before.reasons.items())[:REASONS_SHOWN]))
    gone = [test for test in comparison.regressions if test not in after.outcomes]
    if gone:
        how = "reached" if after.error else "there"
        tell(f"{name}: only when durable: {len(gone)} tests were not {how}: {gone[0]}, …")
    if comparison.renamed:
        tell(f"{name}: {len(comparison.renamed)} tests have another name in each run: {min(comparison.renamed)}, …")
    regressions = [test for test in comparison.regressions if test in after.outcomes]
    for test in regressions[:SHOWN_MAX]:
        why = comparison.again.reasons.get(test) or after.reasons.get(test)
        tell(f"{name}: only when durable: {test}" + (f": {why}" if why else ""))
    if len(regressions) > SHOWN_MAX:
        tell(f"{name}: … and {len(regressions) - SHOWN_MAX} more")
    for test in comparison.mended:
        tell(f"{name}: passed when tried again: {test}")
    if verbose:
        tell(*(f"{name}: {count:8} {reason}" for reason, count in sorted(after.counts.items())))


def tell(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the tests are ended as well
    sys.exit(main())
