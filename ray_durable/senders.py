"""Who sends a message: a name and a number, by which the receiver takes each message exactly once (rule 15).

A receiver drops what has a number that is not above the last one of its sender. So two that send side by side must
never share a name, or one that is overtaken would be dropped: each thread of each process is a sender of its own, and
inside a coroutine each of its branches. A branch that is run again after a crash sends under the same numbers.
"""

from __future__ import annotations

import itertools
import os
import threading

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.running import entered

__all__ = ["numbered"]


class Process:
    """This process as a sender; a fork is another one."""

    def __init__(self) -> None:
        self.pid = 0
        self.name = ""
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def numbered(self) -> tuple[str, int]:
        with self.lock:
            if self.pid != os.getpid():
                self.pid, self.name = os.getpid(), SYSTEM_CLOCK.unique()
            return f"{self.name}/{threading.get_ident()}", next(self.numbers)


PROCESS = Process()


def numbered() -> tuple[str, int]:
    """Sender and number for one message that the caller is about to send, and will see acknowledged before the next."""
    inside = entered.identity
    return PROCESS.numbered() if inside is None else inside.number_message()
