"""One run of a package's tests in a process of its own, and what it said.

Whatever the tests start is ended with them, and they are when they take too long, or the user does not want to wait."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.testing.suites import Target

WORKER = "ray_durable.testing.conforming"
LOOK_EVERY_S = 1.0  # at how far the tests are, for whoever sits in front of them
TAIL_LINES = 15
SPINNER_WIDTH = 2  # of what `rich` shows before the line


@dataclass(slots=True)
class Run:
    """How one run of the tests ended: each test's outcome, why some failed, and counts of what was made durable."""

    outcomes: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return sum(found == outcome for found in self.outcomes.values())

    def failed(self) -> list[str]:
        return [test for test, outcome in self.outcomes.items() if outcome == "failed"]


def run(
    target: Target, durable: bool, timeout_s: float, select: str | None = None,
    only: Sequence[str] = (), use: Sequence[str] = (), collect: bool = False,
) -> Run:  # fmt: skip
    """Run a target's tests, or `only` some, in a new process. CPython's may `use` these of its test resources.
    `collect`: only name them, as pytest does."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        report, output = Path(directory) / "report.json", Path(directory) / "output"
        plan = {
            "tests": target.tests,
            "runner": target.runner,
            "prefixes": list(target.prefixes) if durable else [],
            "directory": target.directory,
            "report": str(report),
            "select": select,
            "only": list(only),
            "use": list(use),
            "collect": collect,
        }
        command = [sys.executable, "-X", "frozen_modules=off", "-m", WORKER, json.dumps(plan)]
        title = f"{target.name}, {'durable' if durable else 'plain'}"
        console = Console(stderr=True)
        with console.status(title) as shown:
            look = lambda: shown.update(progress(title, report, console.width - SPINNER_WIDTH))  # noqa: E731
            status = ended(command, output, timeout_s, look)
        said = output.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        if status is None:
            said.append(f"not done after {timeout_s:.0f} s")
        running = report.with_suffix(".running")
        if status != 0 and running.exists():
            exit_status = "" if status is None else f"; exit status {status}"
            said.append(f"the last test begun was {running.read_text()}{exit_status}")
        return read(report, "\n".join(said))


def read(report: Path, said: str) -> Run:
    """What a run wrote down, line by line, however it ended."""
    found = Run(error=said)
    if not report.exists():
        return found
    for line in report.read_text().rpartition("\n")[0].splitlines():  # the last may be cut off
        part: dict[str, Any] = json.loads(line)
        found.outcomes |= part.get("outcomes", {})
        found.reasons |= part.get("reasons", {})
        found.notes += part.get("notes", [])
        found.counts = part.get("counts", found.counts)
        found.error = "" if part.get("done") else said
    if not found.outcomes and not found.error:
        found.error = f"no tests were run\n{said}"
    return found


def ended(command: list[str], output: Path, timeout_s: float, look: Callable[[], None]) -> int | None:
    """Run a command to its end, looking at it now and then; its exit status, or None if it took too long.

    It and all that it started are gone afterwards, also when this is interrupted."""
    temporary = output.with_name("tmp")  # of each run its own: what one leaves there is none of the next one's
    temporary.mkdir()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "TMPDIR": str(temporary)}
    deadline = SYSTEM_CLOCK.monotonic() + timeout_s
    with output.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        while (left := deadline - SYSTEM_CLOCK.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(min(left, LOOK_EVERY_S))
            look()
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def progress(title: str, report: Path, width: int) -> Text:
    """How far a run is, in one line."""
    running = report.with_suffix(".running")
    count = report.read_bytes().count(b'{"outcomes"') if report.exists() else 0
    test = running.read_text() if running.exists() else "starting"
    line = Text(f"{title}: {count} tests, {test}")
    line.truncate(width, overflow="ellipsis")
    return line
