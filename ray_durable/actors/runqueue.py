"""When the next sleeper wakes: one heap and one timer of the event loop for all coroutines of a host."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

from ray_durable.clock import Clock

__all__ = ["Timers", "Wakeup"]

Wakeup = tuple[Any, Any, BaseException | None]  # a branch, the value to send into it or the error to throw
LONGEST_WAIT_S = 3600.0  # the wall clock may be set: look again at least this often


class Timers:
    """Actions at points of wall-clock time. What is no longer wanted when its time comes must say so itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop, self.clock = loop, clock
        self.heap: list[list[Any]] = []  # time, number, action; None for an action that was called off
        self.dead = 0  # how many of them were
        self.made = 0
        self.alarm: asyncio.TimerHandle | None = None
        self.stopped = False

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, until: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action` at `until`, in seconds since the epoch, or in the loop's next turn if that is past. What is
        returned calls that off."""
        self.made += 1
        entry = [until, self.made, action]
        heapq.heappush(self.heap, entry)
        if self.heap[0][1] == self.made:
            self.set_alarm()
        return partial(self.call_off, entry)

    def call_off(self, entry: list[Any]) -> None:
        if entry[2] is None:
            return
        entry[2] = None
        self.dead += 1
        if self.dead > 100 and 2 * self.dead > len(self.heap):
            self.heap = [each for each in self.heap if each[2] is not None]
            heapq.heapify(self.heap)
            self.dead = 0

    def set_alarm(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = None
        if self.heap and not self.stopped:
            delay = min(max(0.0, self.heap[0][0] - self.clock.now()), LONGEST_WAIT_S)
            self.alarm = self.loop.call_later(delay, self.ring)

    def ring(self) -> None:
        self.alarm = None
        now = self.clock.now()
        while self.heap and self.heap[0][0] <= now and not self.stopped:
            entry = heapq.heappop(self.heap)
            action, entry[2] = entry[2], None
            if action is None:
                self.dead -= 1
            else:
                action()
        if self.alarm is None:
            self.set_alarm()

    def stop(self) -> None:
        self.stopped = True
        self.heap.clear()
        self.set_alarm()
