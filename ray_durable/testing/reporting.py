"""What the process that runs a package's tests writes down, test by test: it may be ended before they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPORT: list[Path] = []
REASONS: dict[str, str] = {}  # why tests failed, until that is written down
COUNTED_EVERY = 50  # tests, after which the counts are written down as well


def begun(test: str) -> None:
    REPORT[0].with_suffix(".running").write_text(test)


def ended(test: str, outcomes: dict[str, str]) -> None:
    """Write down how a test ended."""
    write({"outcomes": {test: outcomes.get(test, "failed")}, **({"reasons": REASONS} if REASONS else {})})
    REASONS.clear()
    if len(outcomes) % COUNTED_EVERY == 0:
        write({"counts": counts()})


def write(part: dict[str, Any]) -> None:
    with REPORT[0].open("a") as lines:
        lines.write(json.dumps(part) + "\n")


def counts() -> dict[str, int]:
    renewal = sys.modules.get("ray_durable.testing.renewal")
    return dict(renewal.COUNTS) if renewal is not None else {}


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
