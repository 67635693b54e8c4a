"""Counts what a host does, per turn and commit, and hands the sums to the metrics.

A checkpoint costs one look-up and one `append` (20 ns), which the engine makes itself, as a call would cost as much
again; all else is done per turn and per commit. What a turn has saved is counted as checkpointed when the commit that
holds the last of it is durable, and not before.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from ray_durable.actors.delays import Delays
from ray_durable.actors.outcomes import Ending
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.metrics import Metrics

__all__ = ["TIMED_ONE_OF", "Tally"]

TIMED_ONE_OF = 64  # two looks at the clock for each checkpoint would cost a tenth of pickling it
Sizes = dict[str, list[int]]  # of checkpoints, by function


class Tally:
    """Sums since the host began, and those of turns that are not durable yet."""

    def __init__(self, metrics: Metrics, clock: Clock = SYSTEM_CLOCK) -> None:
        self.metrics, self.clock = metrics, clock
        self.turn: defaultdict[str, list[int]] = defaultdict(list)  # this turn's sizes, to be appended to
        self.turns: deque[tuple[int, float, Sizes]] = deque()  # how many had been saved by its end, when it began
        self.saved = 0
        self.durable = 0
        self.taken = 0
        self.ready = Delays(lambda delay_s, n: metrics.ready_delay.observe(delay_s, n))
        self.checkpoints = 0
        self.bytes = 0
        self.items = 0
        self.messages = 0
        metrics.stream_items.follow(lambda: self.items)
        metrics.messages.follow(lambda: self.messages)

    def timed(self, pickling: Callable[[], bytes]) -> bytes:
        """Call `pickling` for one of `TIMED_ONE_OF` checkpoints, and count its time for all of them."""
        began = self.clock.monotonic()
        state = pickling()
        self.metrics.serialization.add((self.clock.monotonic() - began) * TIMED_ONE_OF)
        return state

    def turn_begins(self, now: float, ready: int, count: int) -> None:
        """A turn is to take `count` of the `ready` coroutines, at `now` in monotonic seconds."""
        self.ready.came(self.taken + ready, now)
        self.taken += count
        self.ready.left(self.taken, now)

    def turn_ends(self, began: float) -> None:
        if self.turn:
            self.saved += sum(map(len, self.turn.values()))
            self.turns.append((self.saved, began, self.turn))
            self.turn = defaultdict(list)

    def committed(self, checkpoints: int, now: float) -> None:
        """Further `checkpoints` are durable, in the order in which they were gathered."""
        self.durable += checkpoints
        sums: dict[str, tuple[int, int]] = {}
        while self.turns and self.turns[0][0] <= self.durable:
            saved, began, sizes = self.turns.popleft()
            self.metrics.checkpoint_latency.observe(now - began, saved - self.checkpoints)
            self.checkpoints = saved
            for function, each in sizes.items():
                count, size = sums.get(function, (0, 0))
                sums[function] = count + len(each), size + sum(each)
        for function, (count, size) in sums.items():
            self.bytes += size
            self.metrics.checkpoints.add(count, function)
            self.metrics.checkpoint_bytes.add(size, function)

    def cannot_save(self, function: str) -> None:
        self.metrics.cannot_save.add(1, function)

    def adopted(self, function: str, *, begun: bool) -> None:
        if begun:
            self.metrics.started.add(1, function)

    def ended(self, function: str, ending: Ending) -> None:
        self.metrics.finished.add(1, function, ending)

    def retried(self) -> None:
        self.metrics.retries.add(1, "function")
