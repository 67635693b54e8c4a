"""One log folded to what it says of each coroutine: the newest state, the events after it, where it went, how it ended.

Of records that carry state the one with the highest `(epoch, seq)` counts, of equals the later one; events and items
stay until a checkpoint's marks have consumed them (rule 5). What is damaged is left out and named, and the rest stands.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from ray_durable.checkpoint.fencing import Seal
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.reading import Reading, read_log
from ray_durable.checkpoint.record import TERMINAL, Codec, Consumed, Kind, Record
from ray_durable.checkpoint.segment import Segment
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import DamagedError

Found = tuple[int, int, Segment, int]
"""epoch, seq, and where the record stands: segment and row."""


@dataclass(slots=True)
class Recovered:
    """What one log says of one coroutine. Each is the newest record of its kind, None where there is none."""

    id: str
    latest: Record | None = None
    """The newest record that carries a state: `admitted`, `adopted`, `checkpoint`, or `moved` unless that is empty."""
    checkpoint: Record | None = None
    """The newest of `admitted`, `adopted` and `checkpoint`: what ran here last."""
    admitted: Record | None = None
    placed: Record | None = None
    adopted: Record | None = None
    moved: Record | None = None
    terminal: Record | None = None
    """How it ended: `completed`, `failed`, `cancelled`, or the tombstone that stays of that."""
    events: list[Record] = field(default_factory=list)
    """Those that no checkpoint has consumed, by number."""
    items: list[Record] = field(default_factory=list)
    """Streamed values that the reader is not known to have, by index."""
    holds: frozenset[str] = frozenset()
    """Logs whose chunks its state may refer to."""
    history: list[Record] = field(default_factory=list)
    """Every checkpoint that was written to be kept, oldest first."""

    @property
    def epoch(self) -> int:
        """The highest epoch that any record here has."""
        found = (self.latest, self.placed, self.adopted, self.moved, self.terminal)
        return max((record.epoch for record in found if record is not None), default=0)

    @property
    def live(self) -> bool:
        """Whether this log owns it: adopted here, not finished, not moved away since."""
        if self.adopted is None or self.terminal is not None:
            return False
        return self.moved is None or self.moved.place < self.adopted.place


@dataclass(slots=True)
class Recovery:
    """What one log holds. `length`: its first free number; `fenced`: it has a seal, and nobody can add to it;
    `sealed`: that seal with its plan, None while the sealer has not made one (`seal` finishes it)."""

    writer: str
    coroutines: dict[str, Recovered]
    length: int
    base: int
    revision: int
    digest: bytes
    sealed: Seal | None
    damage: list[DamagedError]
    segments: int
    bytes_read: int
    emptied: bool
    fenced: bool


class Fold:
    """The newest of everything, record by record. Adding a segment twice changes nothing."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self.newest: dict[int, dict[str, Found]] = {int(kind): {} for kind in Kind}
        self.numbered: dict[int, dict[str, dict[int, Found]]] = {Kind.EVENT: {}, Kind.ITEM: {}}
        self.consumed: dict[str, tuple[int, int]] = {}
        self.holds: dict[str, list[Found]] = {}
        self.history: dict[str, dict[tuple[int, int], Found]] = {}
        """Checkpoints that are kept though there are newer ones."""
        for segment in segments:
            self.add(segment)

    def __len__(self) -> int:
        """How many records say something that no other has made needless, about."""
        several: list[Mapping[str, Sized]] = [*self.numbered.values(), self.holds, self.history]
        return sum(map(len, self.newest.values())) + sum(len(found) for each in several for found in each.values())

    def add(self, segment: Segment) -> None:
        """Take a segment in."""
        if segment.is_plain():  # most are, and most of a log is in them
            self.add_newest(self.newest[Kind.CHECKPOINT], segment)
            return
        rows = zip(segment.coroutines, segment.epochs, segment.seqs, segment.kinds, segment.consumed, strict=True)
        for row, (coroutine, epoch, seq, kind, consumed) in enumerate(rows):
            if kind == Kind.EVENT or kind == Kind.ITEM:
                self.numbered[kind].setdefault(coroutine, {}).setdefault(seq, (epoch, seq, segment, row))
                continue
            if kind == Kind.HOLDS:
                self.holds.setdefault(coroutine, []).append((epoch, seq, segment, row))
                continue
            if kind == Kind.MARK:
                continue
            keep_newest(self.newest[kind], coroutine, (epoch, seq, segment, row))
            if segment.codecs[row] & Codec.KEPT:
                self.history.setdefault(coroutine, {})[epoch, seq] = (epoch, seq, segment, row)
            if consumed:
                marks = Consumed.unpack(consumed)
                self.consume(coroutine, marks.events, marks.read)

    def add_newest(self, newest: dict[str, Found], segment: Segment) -> None:
        """`keep_newest` for every row of a segment that holds nothing but checkpoints."""
        if not newest:
            found = zip(segment.epochs, segment.seqs, repeat(segment), range(len(segment)), strict=False)
            first = dict(zip(segment.coroutines, found, strict=False))
            if len(first) == len(segment):
                newest.update(first)
                return
        rows = zip(segment.coroutines, segment.epochs, segment.seqs, strict=True)
        for row, (coroutine, epoch, seq) in enumerate(rows):
            known = newest.get(coroutine)
            if known is None or epoch > known[0] or (epoch == known[0] and seq >= known[1]):
                newest[coroutine] = (epoch, seq, segment, row)

    def consume(self, coroutine: str, events: int, read: int) -> None:
        known = self.consumed.get(coroutine, (0, 0))
        self.consumed[coroutine] = max(known[0], events), max(known[1], read)

    def merge(self, later: Fold) -> Fold:
        """Take in what was folded of the segments after these; returns this one."""
        for kind, newest in later.newest.items():
            ours = self.newest[kind]
            for id, found in newest.items():
                known = ours.get(id)  # as `keep_newest`
                if known is None or found[0] > known[0] or (found[0] == known[0] and found[1] >= known[1]):
                    ours[id] = found
        for kind, numbered in later.numbered.items():
            for id, below in numbered.items():
                self.numbered[kind][id] = below | self.numbered[kind].get(id, {})
        for id, (events, read) in later.consumed.items():
            self.consume(id, events, read)
        for id, holds in later.holds.items():
            self.holds[id] = self.holds.get(id, []) + holds
        for id, history in later.history.items():
            self.history[id] = self.history.get(id, {}) | history
        return self

    def split(self, count: int, which: Callable[[str], int]) -> list[Fold]:
        """The same as `count` folds, each of the coroutines that `which` gives its number."""
        folds = [Fold() for _ in range(count)]
        for kind, newest in self.newest.items():
            for id, found in newest.items():
                folds[which(id)].newest[kind][id] = found
        for kind, numbered in self.numbered.items():
            for id, below in numbered.items():
                folds[which(id)].numbered[kind][id] = below
        for id in self.consumed:
            folds[which(id)].consumed[id] = self.consumed[id]
        for id in self.holds:
            folds[which(id)].holds[id] = self.holds[id]
        for id in self.history:
            folds[which(id)].history[id] = self.history[id]
        return folds

    def ids(self) -> dict[str, None]:
        ids: dict[str, None] = {}
        for kind, newest in self.newest.items():
            if kind != Kind.SEAL:
                ids.update(dict.fromkeys(newest))
        for kind in self.numbered:
            ids.update(dict.fromkeys(self.numbered[kind]))
        return ids

    def standing(self) -> dict[str, None]:
        """The ids of which nothing is said but that they were adopted and where they stand: most, as a rule."""
        plain = (Kind.ADOPTED, Kind.CHECKPOINT)
        ids = dict.fromkeys([id for kind in plain for id in self.newest[kind]])
        several: list[Mapping[str, Any]] = [*self.numbered.values(), self.holds, self.history]
        for said in [*several, *(newest for kind, newest in self.newest.items() if kind not in plain)]:
            for id in said:
                ids.pop(id, None)
        return ids

    def coroutines(self, damage: list[DamagedError]) -> dict[str, Recovered]:
        """Everything found, read out; a record that fails its own checksum is left out and added to `damage`."""
        collecting = gc.isenabled()
        gc.disable()  # only new objects, and many: the collector would look through all of them again and again
        try:
            return {id: self.read_out(id, damage) for id in self.ids()}
        finally:
            if collecting:
                gc.enable()

    def unconsumed(self, id: str, kind: Kind) -> list[Found]:
        """Its events or items that no checkpoint has done with, by number."""
        below = self.numbered[kind].get(id)
        if not below:
            return []
        events, read = self.consumed.get(id, (0, 0))
        keep_from = events + 1 if kind == Kind.EVENT else read
        return [below[number] for number in sorted(below) if number >= keep_from]

    def read_out(self, id: str, damage: list[DamagedError]) -> Recovered:
        newest = self.newest
        adopted, admitted = newest[Kind.ADOPTED].get(id), newest[Kind.ADMITTED].get(id)
        checkpoint = newer(newest[Kind.CHECKPOINT].get(id), adopted, admitted)
        moved = read(newest[Kind.MOVED].get(id), damage)
        result = Recovered(id, moved=moved, checkpoint=read(checkpoint, damage))
        result.latest = result.checkpoint
        if moved is not None and moved.state and (checkpoint is None or moved.place >= checkpoint[:2]):
            result.latest = moved
        result.admitted = result.checkpoint if admitted is checkpoint else read(admitted, damage)
        result.adopted = result.checkpoint if adopted is checkpoint else read(adopted, damage)
        result.placed = read(newest[Kind.PLACED].get(id), damage)
        tombstone = newest[Kind.TOMBSTONE].get(id)
        result.terminal = read(tombstone or newer(*[newest[kind].get(id) for kind in ENDINGS]), damage)
        if id in self.numbered[Kind.EVENT]:
            result.events = read_all(self.unconsumed(id, Kind.EVENT), damage)
        if id in self.numbered[Kind.ITEM]:
            result.items = read_all(self.unconsumed(id, Kind.ITEM), damage)
        if id in self.holds:
            result.holds = frozenset(record.state.decode() for record in read_all(self.holds[id], damage))
        if id in self.history:
            result.history = read_all([self.history[id][place] for place in sorted(self.history[id])], damage)
        return result


def keep_newest(newest: dict[str, Found], id: str, found: Found) -> None:
    """Of equals, the later one counts."""
    known = newest.get(id)
    if known is None or found[:2] >= known[:2]:
        newest[id] = found


def read(found: Found | None, damage: list[DamagedError]) -> Record | None:
    if found is None:
        return None
    try:
        return found[2].record(found[3])
    except DamagedError as error:
        damage.append(error)
        return None


def read_all(found: Iterable[Found], damage: list[DamagedError]) -> list[Record]:
    return [record for record in (read(each, damage) for each in found) if record is not None]


ENDINGS = sorted(TERMINAL - {Kind.TOMBSTONE})


def newer(*found: Found | None) -> Found | None:
    """The one with the highest `(epoch, seq)`; of equals the first."""
    best: Found | None = None
    for each in found:
        if each is not None and (best is None or each[:2] > best[:2]):
            best = each
    return best


def fold_reading(reading: Reading) -> Recovery:
    fold = Fold(reading.segments)
    damage = list(reading.damage)
    coroutines = fold.coroutines(damage)
    return Recovery(
        reading.writer,
        coroutines,
        reading.length,
        reading.base.number,
        reading.base.revision,
        reading.digest,
        reading.seal,
        damage,
        len(reading.segments),
        reading.bytes_read,
        reading.base.emptied,
        reading.fenced,
    )


def recover(store: Store, writer: str, *, keys: Keys = NO_KEYS) -> Recovery:
    """Read one log and fold it: LIST, parallel GETs, and as much work as it has records since its last compaction.

    Damage is reported in `.damage`, by object, offset and coroutine, and everything else is there.
    Raises: StoreError when the store fails.
    Example: state = recover(store, "host-1").coroutines["order-42"].latest.state
    """
    return fold_reading(read_log(store, writer, keys=keys))
