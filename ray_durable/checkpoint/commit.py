"""What a log may write now, and what counts as durable: no effects.

A segment counts when it and all before it exist. Commits run side by side, on a remote store, and may end in any order;
what they hold is released strictly in the order of their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ray_durable.checkpoint.chunks import Pack
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.segment import Row

ITEM = int(Kind.ITEM)
MARK_ROW: Row = ("", 0, 0, int(Kind.MARK), b"", b"", int(Codec.OPAQUE), None)

Batch = TypeVar("Batch")


@dataclass(slots=True)
class Commit:
    """Rows that become durable together. `size`: bytes of their states; `packs`: what they refer to, stored first."""

    number: int
    rows: list[Row]
    size: int
    packs: list[Pack]
    stored: int = 0

    @property
    def tokens(self) -> list[Any]:
        return [row[7] for row in self.rows if row is not MARK_ROW]


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


def oldest(rows: list[Row], count_max: int, size_max: float) -> tuple[list[Row], int]:
    """The rows at the beginning that go into one segment, at least one, and the bytes of their states. An item is not
    parted from the record after it, which says that it was yielded."""
    found = rows[:count_max]
    size, kept = sum([len(row[4]) for row in found]), len(found)
    if size > size_max:
        size = kept = 0
        for row in found:
            if kept and size + len(row[4]) > size_max:
                break
            size += len(row[4])
            kept += 1
    while rows[kept - 1][3] == ITEM and kept < len(rows):
        size += len(rows[kept][4])
        kept += 1
    return rows[:kept], size
