"""What a log is made of: one record says one thing about one coroutine.

A record's state is opaque here. Its place in a coroutine's life is `(epoch, seq)`: the epoch grows with every change
of owner, `seq` with every checkpoint. Of the records that carry state the newest counts; `EVENT`s number themselves per
coroutine from 1 (`seq` is that number, kept across owners), `ITEM`s from 0, and a checkpoint's `consumed` marks say
which of them its state has taken in.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass


class Kind(enum.IntEnum):
    """What a record says. The numbers are stored: never reuse one."""

    ADMITTED = 1
    """The controller has accepted a coroutine; the state is the whole creation request."""
    PLACED = 2
    """The controller's plan for an admitted coroutine: the state names the incarnation it goes to."""
    ADOPTED = 3
    """This log owns the coroutine from here on; the state is the one that it takes over."""
    CHECKPOINT = 4
    """The coroutine's captured frames at a yield point."""
    EVENT = 5
    """A message, timer or resolved ref that has reached the coroutine."""
    ITEM = 6
    """A value that the coroutine streamed out."""
    MOVED = 7
    """This log gives the coroutine away; the state names the target, and may be empty of frames."""
    COMPLETED = 8
    FAILED = 9
    CANCELLED = 10
    HOLDS = 11
    """The coroutine's state refers to chunks of another log, which the state names."""
    TOMBSTONE = 12
    """The coroutine was there and its retention is over: it answers "expired", and is not made anew."""
    SEAL = 13
    """The end of a log; only in a seal, which `fencing` writes."""


STATE_BEARING = frozenset({Kind.ADMITTED, Kind.ADOPTED, Kind.CHECKPOINT, Kind.MOVED})
TERMINAL = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CANCELLED, Kind.TOMBSTONE})


class Codec(enum.IntEnum):
    """How a record's state was made, stored with each record."""

    OPAQUE = 0
    PICKLE = 1
    CHUNKED = 3
    """A pickle whose large buffers lie in chunks beside the log."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record. `state` is opaque bytes; `consumed` are marks made by `Consumed.pack`."""

    coroutine: str
    epoch: int
    seq: int
    kind: Kind
    state: bytes
    consumed: bytes = b""
    codec: int = Codec.PICKLE

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class Consumed:
    """Which events and items a checkpoint has done with.

    Events numbered up to `events` and those in `beyond` (taken out of order) are in the state; items below `items` were
    acknowledged by their reader. Nothing said means nothing consumed, so that nothing is lost by leaving it out.

    Example: log.append(id, 2, 17, Kind.CHECKPOINT, state, consumed=Consumed(events=4).pack())
    """

    events: int = 0
    items: int = 0
    beyond: frozenset[int] = frozenset()

    def pack(self) -> bytes:
        if not (self.events or self.items or self.beyond):
            return b""
        return struct.pack(f"<{2 + len(self.beyond)}Q", self.events, self.items, *sorted(self.beyond))

    @classmethod
    def unpack(cls, data: bytes) -> Consumed:
        """Raises: ValueError for bytes that `pack` does not make."""
        if not data:
            return NOTHING_CONSUMED
        if len(data) % 8 or len(data) < 16:
            raise ValueError(f"consumed marks of {len(data)} bytes")
        events, items, *beyond = struct.unpack(f"<{len(data) // 8}Q", data)
        return cls(events, items, frozenset(beyond))

    def has_event(self, number: int) -> bool:
        return number <= self.events or number in self.beyond


NOTHING_CONSUMED = Consumed()
