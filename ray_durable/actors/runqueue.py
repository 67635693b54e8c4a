"""What is ready to run on a host, and when the next sleeper wakes. Plain data; the time is an argument."""

from __future__ import annotations

import heapq
from typing import Any

__all__ = ["Timers", "Wakeup"]

Wakeup = tuple[Any, Any, BaseException | None]  # a branch, the value to send into it or the error to throw


class Timers:
    """Points in time with something to do at each; a cancelled one is skipped when its time comes."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Any]] = []
        self.made = 0

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, until: float, what: Any) -> None:
        self.made += 1
        heapq.heappush(self.heap, (until, self.made, what))

    def due(self, now: float) -> list[Any]:
        """Take out everything whose time has come, the earliest first."""
        taken = []
        while self.heap and self.heap[0][0] <= now:
            taken.append(heapq.heappop(self.heap)[2])
        return taken

    def next(self) -> float | None:
        """When the earliest is due, or None."""
        return self.heap[0][0] if self.heap else None

