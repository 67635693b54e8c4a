"""How long things stay in a queue, observed per batch: what comes together, and leaves together, costs one observation.

The queue is first in, first out, and counts what has come and left since it began. Nothing is done per member: a host
tells after each turn how far the counts have got (some 0.5 µs), whatever the number of coroutines in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Delays"]


class Delays:
    """`observe(delay_s, n)` is called for each `n` members that came at one time, when they have left.

    Example:
        delays = Delays(metrics.ready_delay.observe)
        delays.came(128, at=10.0)        # 128 in all have come by now
        delays.left(100, at=10.5)        # observe(0.5, 100)
    """

    def __init__(self, observe: Callable[[float, int], None]) -> None:
        self.observe = observe
        self.batches: deque[tuple[int, float]] = deque()  # how many had come by then, and when
        self.in_all = 0
        self.out_all = 0

    def came(self, total: int, at: float) -> None:
        """By `at` (monotonic seconds), `total` members have come since the queue began."""
        if total > self.in_all:
            self.in_all = total
            self.batches.append((total, at))

    def left(self, total: int, at: float) -> None:
        """By `at`, the first `total` members have left."""
        batches, done = self.batches, self.out_all
        while done < total and batches:
            last, came_at = batches[0]
            upto = min(last, total)
            self.observe(at - came_at, upto - done)
            done = upto
            if done == last:
                batches.popleft()
        self.out_all = max(done, total)

    def oldest(self, now: float) -> float:
        """How long the first one has been waiting; 0 when the queue is empty. Safe to call from any thread."""
        try:
            return now - self.batches[0][1]
        except IndexError:
            return 0.0
