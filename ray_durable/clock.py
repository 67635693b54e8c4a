"""The only door to time, sleep and chance.

Everything that asks for the time or for a random name takes a `Clock`, so that a simulation can answer instead.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """What the shells ask of time and chance. `now` is wall-clock seconds since the epoch, `monotonic` only grows."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def unique(self) -> str: ...

    def random(self) -> float: ...


class SystemClock:
    """The machine's own clock and entropy."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)  # the function itself: this is read for every step of a coroutine

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def unique(self) -> str:
        """A new name of 32 hexadecimal digits."""
        return uuid.uuid4().hex

    def random(self) -> float:
        """A float in [0, 1)."""
        return random.random()


SYSTEM_CLOCK = SystemClock()
