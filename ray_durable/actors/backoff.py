"""When to try again to start a host where one did not start, or died young: pure, the time and the dice are arguments.

A host that lived for a while and died is replaced at once. One that did not start is tried again after a pause that
doubles with each failure and is drawn at random around that, so that hosts which fail together do not come back
together; it never exceeds a minute, as what was missing (a package index, a disk) may come back.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SETTLED_S", "Tries", "after_end", "is_due"]

SETTLED_S = 10.0  # a host that has lived for so long counts as started
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
LASTING_FAILURES_MAX = 3


@dataclass(frozen=True, slots=True)
class Tries:
    """How starting went in one place. `again_at` is in monotonic seconds; `reason`: why the last one failed; `lasting`:
    that was a fault of what was asked for, such as a package that does not exist."""

    failures: int = 0
    again_at: float = 0.0
    reason: str = ""
    lasting: bool = False

    @property
    def hopeless(self) -> bool:
        """Whether to give up on what has not begun yet."""
        return self.lasting and self.failures >= LASTING_FAILURES_MAX


def after_end(
    before: Tries, now: float, lived_s: float | None, chance: float, reason: str, lasting: bool = False
) -> Tries:
    """What follows when a host has ended by itself. `lived_s`: since it was ready, None if it never was; `chance`: a
    number in [0, 1)."""
    if lived_s is not None and lived_s >= SETTLED_S:
        return Tries()
    failures = before.failures + 1
    pause_s = min(FIRST_PAUSE_S * 2 ** min(failures - 1, 20), LONGEST_PAUSE_S / 1.5) * (0.5 + chance)
    return Tries(failures, now + pause_s, reason, lasting)


def is_due(tries: Tries | None, now: float) -> bool:
    """Whether a host may be started in this place now."""
    return tries is None or now >= tries.again_at
