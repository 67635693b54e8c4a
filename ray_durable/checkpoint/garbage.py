"""How much of what a log has stored is still needed: an estimate, by which compaction is begun.

All that was written since the last compaction may be garbage: it is taken for such. Of what the last one kept it is
noticed when a coroutine ends or goes, and when a large state shrinks. Watching happens for each record and must cost
next to nothing, so small states are counted by their average.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ray_durable.checkpoint.record import TERMINAL, Kind
from ray_durable.checkpoint.references import MARK, find_references
from ray_durable.checkpoint.segment import Row

BIG_BYTES = 16 << 10
HEAD_BYTES = 32
GONE = frozenset(map(int, TERMINAL | {Kind.MOVED}))


@dataclass(slots=True)
class Kept:
    """What a compaction has kept so far, as in `Garbage`."""

    big: dict[str, int] = field(default_factory=dict)
    small_bytes: int = 0
    small: int = 0


@dataclass(slots=True)
class Garbage:
    """What has become needless since the last compaction. `observe` is called in the log's threads, the rest in the
    janitor's."""

    big: dict[str, int] = field(default_factory=dict)
    """Bytes of the large states, with their buffers, that the last compaction kept."""
    small_bytes: int = 0
    small: int = 0
    dead_big: int = 0
    dead_small: int = 0
    pack_live: int = 0
    kept: Kept | None = None
    meanwhile: list[Row] = field(default_factory=list)
    """What was noticed while a compaction ran, without its state."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def live(self, base_bytes: int) -> int:
        """How much of a base of that size, and of the packs, is still needed."""
        stored = self.small_bytes + sum(self.big.values()) + self.dead_big
        dead = self.dead_big + self.small_bytes * min(self.dead_small, self.small) // max(1, self.small)
        return (base_bytes + self.pack_live) * max(0, stored - dead) // max(1, stored) if stored else 0

    def observe(self, rows: Sequence[Row]) -> None:
        """These rows have become durable."""
        big = self.big
        for row in rows:
            if row[3] in GONE or row[0] in big:
                self.note(row)

    def note(self, row: Row) -> None:
        id, kind = row[0], row[3]
        with self.lock:
            if self.kept is not None and kind in GONE:
                self.meanwhile.append((id, row[1], row[2], kind, b"", b"", 0, None))
            known = self.big.get(id)
            if known is None:
                self.dead_small += kind in GONE
            elif kind in GONE or kind == Kind.CHECKPOINT:
                left = 0 if kind in GONE else min(known, weight(row))
                self.big[id] = left
                self.dead_big += known - left
                if not left:
                    del self.big[id]

    # -- compaction

    def begin(self) -> None:
        """A compaction has begun: what it is going to keep is told by `keep`."""
        with self.lock:
            self.kept, self.meanwhile = Kept(), []

    def keep(self, rows: Iterable[Row]) -> None:
        found = self.kept
        assert found is not None
        big, small, small_bytes = found.big, 0, 0
        for row in rows:
            id, state = row[0], row[4]
            size = len(id) + len(state) + HEAD_BYTES if MARK not in state else weight(row)
            if size >= BIG_BYTES or id in big:
                big[id] = big.get(id, 0) + size
            else:
                small += 1
                small_bytes += size
        found.small += small
        found.small_bytes += small_bytes

    def end(self, pack_live: int) -> None:
        """It is done; `pack_live`: bytes in packs that are needed."""
        found = self.kept or Kept()
        with self.lock:
            self.big, self.small, self.small_bytes = found.big, found.small, found.small_bytes
            self.dead_big = self.dead_small = 0
            self.pack_live = pack_live
            self.kept, again = None, self.meanwhile
        for row in again:
            self.note(row)


def weight(row: Row) -> int:
    """Bytes that a record needs, with its buffers in chunks."""
    state = row[4]
    size = len(row[0]) + len(state) + HEAD_BYTES
    if MARK in state:
        size += sum(found.length for found in find_references(state))
    return size
