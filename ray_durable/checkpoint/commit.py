"""What a log may write now, and what counts as durable: arithmetic on numbers, no effects.

A segment counts when it and all before it exist. Commits run side by side, on a remote store, and may end in any order;
what they hold is released strictly in the order of their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


@dataclass(slots=True)
class Progress(Generic[Batch]):
    """How far a log has come. `next`: the number that the next segment gets; `durable`: all below it count."""

    limit: int
    next: int = 0
    durable: int = 0
    in_flight: int = 0
    done: dict[int, Batch] = field(default_factory=dict)
    stopped: bool = False

    def may_start(self) -> bool:
        return self.in_flight < self.limit and not self.stopped

    def start(self) -> int:
        """Take the next number for a commit."""
        assert self.may_start()
        number = self.next
        self.next += 1
        self.in_flight += 1
        return number

    def finish(self, number: int, batch: Batch) -> list[Batch]:
        """A segment exists; the batches that count now and did not before, in order. None of them once stopped."""
        assert self.durable <= number < self.next
        assert number not in self.done
        self.in_flight -= 1
        self.done[number] = batch
        if self.stopped:
            return []
        released = []
        while self.durable in self.done:
            released.append(self.done.pop(self.durable))
            self.durable += 1
        return released

    def stop(self) -> None:
        """The log was sealed or its store is gone: nothing more is started or released."""
        self.in_flight -= 1
        self.stopped = True
