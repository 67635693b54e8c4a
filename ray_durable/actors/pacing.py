"""`checkpoint_every`: a thread that says, every so many seconds, that the loops of long computations are due to pause.

What computes holds the event loop, so that no timer of the loop could. Whichever coroutine of the process reaches the
end of a pass next pauses, hence the shortest interval asked for counts for all that asked for one.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from ray_durable.compiler import back_edges_due
from ray_durable.runner import Coroutine

__all__ = ["Pacer", "watch"]


class Pacer:
    """Keeps the pace of one process. There is a thread only while some coroutine here wants it."""

    def __init__(self) -> None:
        self.wanted: WeakKeyDictionary[Coroutine, float] = WeakKeyDictionary()
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.thread: threading.Thread | None = None

    def watch(self, coroutine: Coroutine, every_s: float) -> None:
        """Have the loops of this coroutine pause every `every_s` seconds for as long as it is here."""
        with self.lock:
            self.wanted[coroutine] = every_s
            self.changed.set()
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="checkpoint_every", daemon=True)
                self.thread.start()

    def interval(self) -> float | None:
        """The shortest one asked for; None ends the thread."""
        with self.lock:
            for coroutine in list(self.wanted):
                if coroutine.host is None:
                    del self.wanted[coroutine]
            if not self.wanted:
                self.thread = None
            return min(self.wanted.values(), default=None)

    def run(self) -> None:
        while (interval := self.interval()) is not None:
            self.changed.clear()
            if not self.changed.wait(interval):
                back_edges_due()


PACER = Pacer()


def watch(coroutine: Coroutine, every_s: float) -> None:
    """See `Pacer.watch`, of this process."""
    PACER.watch(coroutine, every_s)
