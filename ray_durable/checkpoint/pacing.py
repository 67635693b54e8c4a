"""How fast a log may be written while it is compacted: so fast that the space for both is kept.

What is written meanwhile comes on top of what compaction is about to replace. There is room for so many bytes of it. A
writer may use a half of them at once, the rest as compaction gets on. One that is quicker pauses before its next
commit, the longer the less is left, and takes less into it. At the end of the room it goes on a little at a time, so
that its log is known to be alive. Commits that compaction itself waits for hold nothing else, and do not wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_durable.clock import Clock

__all__ = ["Pace"]

HEAD_START, ALMOST_DONE = 0.5, 0.9
PAUSES, PAUSE_MAX_S = 32.0, 1.0
LEAST = 1 / 256
"""Of the room: what one commit may take when there is none left."""
NO_LIMIT = float("inf")


@dataclass(slots=True)
class Pace:
    """Of one log. `clock` is only read. Its caller sees to it that one thread at a time is in here.

    `at_once`: bytes that one commit may take while nothing is compacted."""

    clock: Clock
    at_once: float = NO_LIMIT
    room: float = NO_LIMIT
    """Bytes that may be written during the compaction that runs."""
    least: int = 0
    """Bytes that one commit may take in any case."""
    done: float = 0.0
    """How much of that compaction is done, from 0 to 1."""
    written: int = 0
    waived: bool = False
    """Compaction waits for what has gathered: it is to be written whatever room there is."""
    taken_at: float = 0.0
    due: float | None = None

    def begin(self, room: float, least: int = 0) -> None:
        """A compaction begins."""
        self.room, self.least, self.done, self.written, self.due = room, least, 0.0, 0, None

    def end(self) -> None:
        self.room, self.due = NO_LIMIT, None

    def add(self, size: int) -> None:
        """So many bytes more are stored."""
        self.written += size

    def ahead(self) -> float:
        """How far a writer has gone beyond its share of the room: 0 for not at all, 1 when there is none left."""
        if self.waived or self.room == NO_LIMIT:
            return 0.0
        free = self.room * max(HEAD_START, min(self.done, ALMOST_DONE))
        return min(1.0, max(0.0, (self.written - free) / max(1.0, self.room - free)))

    def pause_s(self) -> float:
        """How long the next commit should still wait: in proportion to the time since the last one was begun, so that
        whoever writes has so much less of the processor, and to how far ahead it is."""
        ahead = self.ahead()
        if not ahead:
            return 0.0
        now = self.clock.monotonic()
        if self.due is None:
            proportional = PAUSES * ahead * (now - self.taken_at)
            self.due = now + (PAUSE_MAX_S if ahead == 1.0 else min(PAUSE_MAX_S, proportional))
        return max(0.0, self.due - now)

    def limit(self, under_way: int) -> float:
        """Bytes that one commit may take now, beside the `under_way` of those that were begun."""
        if self.room == NO_LIMIT or self.waived:
            return self.at_once
        return max(self.room * LEAST, self.least, (self.room - self.written - under_way) / 2)

    def taken(self) -> None:
        """A commit has begun."""
        self.taken_at, self.due = self.clock.monotonic(), None
