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
    MARK = 14
    """Says nothing of any coroutine: a commit of it proves that the log was not sealed."""


STATE_BEARING = frozenset({Kind.ADMITTED, Kind.ADOPTED, Kind.CHECKPOINT, Kind.MOVED})
TERMINAL = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CANCELLED, Kind.TOMBSTONE})


class Codec(enum.IntEnum):
    """How a record's state was made, stored with each record."""

    OPAQUE = 0
    PICKLE = 1
    KEPT = 0x80
    """Added to another: compaction keeps this checkpoint also when there are newer ones (`keep_history`)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record. `state` is opaque bytes; `consumed` begins with `Consumed.pack()`, or is empty."""

    coroutine: str
    epoch: int
    seq: int
    kind: Kind
    state: bytes
    consumed: bytes = b""
    codec: int = Codec.PICKLE
    time_ms: int = 0
    """When its segment was committed, by its writer's clock, in milliseconds since the epoch."""

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class Consumed:
    """Which events and items a checkpoint has done with, as the first 24 bytes of a record's `consumed`.

    Events numbered up to `events` are in the state; `emitted` items were streamed so far, and those below `read` their
    reader is known to have. What follows those bytes is the writer's own. No marks mean nothing consumed, so that
    nothing is lost by leaving them out.
    Example: log.append(id, 2, 17, Kind.CHECKPOINT, state, consumed=Consumed(events=4).pack())
    """

    events: int = 0
    emitted: int = 0
    read: int = 0

    def pack(self) -> bytes:
        return MARKS.pack(self.events, self.emitted, self.read)

    @classmethod
    def unpack(cls, data: bytes) -> Consumed:
        """The marks at the head of `data`; nothing consumed when it is shorter than they are."""
        return cls(*MARKS.unpack_from(data)) if len(data) >= MARKS.size else NOTHING_CONSUMED


MARKS = struct.Struct("<QQQ")
NOTHING_CONSUMED = Consumed()
