"""Keeping a live log small: rewrites what matters into a base, archives what is over, deletes what both replace.

Runs in a thread of the owner's process while the log is written to. Order is everything: parts before the base that
names them, an archive before the tombstones that replace what is in it, deletion last, and only after a commit that
began after the base stood has become durable, which proves that nobody had sealed the log (rule 6). A crash at any
point leaves objects that nothing names, which `maintenance` finds; never a record that is nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ray_durable.checkpoint.archive import ArchiveRow, archive_name, encode_archive
from ray_durable.checkpoint.compaction import (
    Keeping,
    Policy,
    at_once,
    expired,
    is_due,
    partition_of,
    partitions_for,
    room,
    room_meanwhile,
    survivors,
)
from ray_durable.checkpoint.footer import Form, wrap
from ray_durable.checkpoint.garbage import Garbage
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.moving import Mover
from ray_durable.checkpoint.names import base_name, chunk_name, part_name, segment_name
from ray_durable.checkpoint.reading import NO_BASE, Base
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.recovery import Fold, Found
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.segment import Row, Segment, decode, encode
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import AlreadyExists, StoreError

PART_ROWS_MAX = 50_000
PART_BYTES_MAX = 32 << 20
"""Of states: a larger part would time out on a slow link."""
LOOK_LEAST_BYTES = 16 << 10
NEVER = float("inf")


@dataclass(slots=True)
class Part:
    """One object of the base. `covers`: everything of its partition in segments below that is in it."""

    name: str
    size: int
    covers: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one compaction did."""

    segments: int
    bytes_before: int
    bytes_after: int
    archived: int
    packs_deleted: int


def nothing_released() -> Mapping[str, int]:
    return {}


@dataclass(slots=True)
class Janitor:
    """Compacts one live log; its methods belong to one thread, which is not the event loop's.

    `released()` tells which coroutines moved away and are known to be adopted there (id → epoch). `describe(state)`
    gives further columns for the archive out of an admission's or end's state.
    Example:
        janitor = Janitor(log)
        if janitor.is_due():
            janitor.compact()
    """

    log: Log
    policy: Policy = field(default_factory=Policy)
    released: Callable[[], Mapping[str, int]] = nothing_released
    describe: Callable[[Any], Mapping[str, str]] | None = None
    base: Base = field(default_factory=lambda: Base(0))
    parts: dict[int, list[Part]] = field(default_factory=dict)
    partitions: int = 1
    garbage: Garbage = field(default_factory=Garbage)
    doomed: deque[str] = field(default_factory=deque)
    """Objects that nothing needs any more, in the order of going; one that could not be deleted is tried again."""
    unnamed: set[str] = field(default_factory=set)
    """Parts that wait for the base that names them."""
    meanwhile: int = 0
    """Bytes that were written while the last compaction ran."""
    due: Callable[[], object] | None = None
    """Who is to be told; see `watch`."""
    running: bool = False

    def __post_init__(self) -> None:
        self.log.observe = self.garbage.observe
        self.log.pace.at_once = at_once(self.policy, 0)

    @property
    def base_bytes(self) -> int:
        return sum(part.size for parts in self.parts.values() for part in parts)

    def is_due(self) -> bool:
        return is_due(self.policy, *self.estimate(), len(self.log.tail.sizes), self.meanwhile)

    def room(self) -> float:
        """How many bytes more may be written until it is due."""
        return room(self.policy, *self.estimate(), self.meanwhile)

    def watch(self, due: Callable[[], object]) -> None:
        """Call `due` as soon as so much has been written that a compaction is due, also after each that succeeds. It is
        called by a thread of the log's and only says so. Whoever asks for it is to call `compact` soon, or this again:
        until then a quick writer is slowed down as during a compaction."""
        with self.log.advanced:
            self.due = due
            self.look_out()

    def unwatch(self) -> None:
        """Nobody will compact any more."""
        with self.log.advanced:
            self.due = None
            self.look_out()

    def look_out(self) -> None:
        if not self.running:
            self.log.pace.end()
            self.log.advanced.notify_all()
        by = NEVER if self.due is None else max(LOOK_LEAST_BYTES, self.room())
        self.log.tail.call_when_grown(by, self.grown)

    def grown(self) -> None:
        """So much has been written that this is due, or perhaps only was expected to be."""
        if self.due is not None:
            if not self.running:
                self.log.pace.begin(self.room_meanwhile())
            self.due()

    def estimate(self) -> tuple[int, int]:
        """Bytes that are needed, and that may not be."""
        pack_bytes = sum(list(self.log.chunks.sizes.values()))
        live = self.garbage.live(self.base_bytes)
        return live, self.base_bytes + self.log.tail.bytes + pack_bytes - live

    def compact(self) -> Report:
        """Rewrite everything durable so far into a new base, and delete what it replaces; a writer who is quicker than
        this is slowed down meanwhile. Raises: FencedError, LogStoppedError when the log ends meanwhile (nothing is lost
        then), StoreError, DamagedError."""
        with self.log.advanced:
            self.running = True
            self.log.pace.begin(self.room_meanwhile())
        succeeded = False
        try:
            report = self.compact_now()
            succeeded = True
        finally:
            with self.log.advanced:
                self.running = False
                self.log.pace.at_once = at_once(self.policy, self.estimate()[0])
                self.due = self.due if succeeded else None  # nobody is held up because a store fails
                self.look_out()
        return report

    def room_meanwhile(self) -> float:
        """How many bytes may be written from now until a compaction has ended."""
        copied = self.base_bytes / self.partitions + self.policy.pack_copy_ratio * self.garbage.pack_live
        return room_meanwhile(self.policy, *self.estimate(), copied)

    def compact_now(self) -> Report:
        log = self.log
        self.doomed += self.unnamed  # of a compaction that was cut short before its base stood
        self.unnamed.clear()
        self.clear()
        self.garbage.begin()
        first = self.base.number
        cut, saying = self.cut()
        before = self.base_bytes + log.tail.bytes
        tail = self.read([segment_name(log.writer, number) for number in saying])
        mover = Mover(log, Relocations.unpack(self.base.relocated), self.policy, cut, self.states_since)
        fresh = Fold(tail)
        fresh_bytes = sum(segment.size for segment in tail) * len(fresh) // max(1, sum(map(len, tail)))
        partitions, before_it = max(self.partitions, partitions_for(self.base_bytes + fresh_bytes)), self.partitions
        now_ms = int(log.clock.now() * 1000)
        for each, its_fresh in enumerate(fresh.split(before_it, lambda id: partition_of(id, before_it))):
            # What was one partition may be several already, if a store has failed in the middle of this.
            old = [part for key in self.parts if key % before_it == each for part in self.parts[key]]
            others = {key: parts for key, parts in self.parts.items() if key % before_it != each}
            fold = Fold(self.read_parts(old)).merge(its_fresh)
            archived: list[ArchiveRow] = []
            which = range(each, partitions, before_it)
            made = others | self.rewrite(which, partitions, fold, cut, now_ms, mover, archived)
            last = each == before_it - 1
            self.finish(cut if last else self.base.number, made, old, mover if last else None, archived)
            log.pace.done = (each + 1) / before_it
        self.partitions = partitions
        self.collect(first, cut, mover)
        self.meanwhile = log.tail.bytes
        log.metrics.compactions.add(1)
        log.metrics.compacted_segments.add(len(tail), "rewritten")
        return Report(cut - first, before, self.base_bytes, mover.archived, len(mover.retiring))

    def cut(self) -> tuple[int, list[int]]:
        """Up to where this compaction goes: all below counts; and which segments below are to be read."""
        return self.log.durable_tail()

    # -- reading

    def read(self, names: list[str]) -> list[Segment]:
        if not names:
            return []
        with ThreadPoolExecutor(4, thread_name_prefix="compact") as pool:
            run = pool.map if len(names) > 8 and self.log.store.remote else map
            return [
                decode(name, data, self.log.keys)
                for name, data in zip(names, run(self.log.store.read, names), strict=True)
            ]

    def read_parts(self, parts: Iterable[Part]) -> list[Segment]:
        return self.read([part_name(self.log.writer, part.name) for part in parts])

    def states_since(self, cut: int) -> Iterator[bytes]:
        for number in range(cut, self.log.progress.durable):
            (segment,) = self.read([segment_name(self.log.writer, number)])
            yield from map(segment.state, range(len(segment)))

    # -- writing

    def rewrite(
        self,
        which: Iterable[int],
        partitions: int,
        fold: Fold,
        cut: int,
        now_ms: int,
        mover: Mover,
        archived: list[ArchiveRow],
    ) -> dict[int, list[Part]]:
        """Write the parts of some partitions, and collect what goes to the archive."""
        rows: dict[int, list[tuple[Row, int]]] = {each: [] for each in which}
        over = expired(fold, self.policy, now_ms, partitions // len(rows))
        released, standing = self.released(), fold.standing()
        adopted, checkpoints = fold.newest[Kind.ADOPTED], fold.newest[Kind.CHECKPOINT]
        for id in standing:  # what `survivors` would keep of them, in a fraction of its time
            its = rows[partition_of(id, partitions)]
            its += [as_it_is(found) for found in (adopted.get(id), checkpoints.get(id)) if found is not None]
        for id in [id for id in fold.ids() if id not in standing] if len(standing) < len(fold) else ():
            keeping = survivors(fold, id, self.policy, now_ms, over, released)
            rows[partition_of(id, partitions)] += self.rows_of(id, fold, keeping, now_ms, archived)
        made: dict[int, list[Part]] = {}
        for each, found in rows.items():
            made[each] = [self.write_part(rows_of_part, cut) for rows_of_part in parted(found)]
            mover.meet(row[4] for row, _ in found)
            self.garbage.keep(row for row, _ in found)
        mover.archived += len(archived)
        return made

    def rows_of(
        self, id: str, fold: Fold, keeping: Keeping, now_ms: int, archived: list[ArchiveRow]
    ) -> list[tuple[Row, int]]:
        out: list[tuple[Row, int]] = []
        out += map(as_it_is, keeping.records)
        if keeping.archive is not None:
            _, _, segment, row = keeping.archive
            end = segment.record(row)
            admitted = fold.newest[Kind.ADMITTED].get(id)
            source = end if admitted is None else admitted[2].record(admitted[3])
            archived.append(ArchiveRow(end, dict(self.describe(source)) if self.describe is not None else {}))
            out.append(((id, end.epoch, end.seq, int(Kind.TOMBSTONE), b"", b"", int(Codec.OPAQUE), None), now_ms))
        return out

    def write_part(self, rows: list[tuple[Row, int]], cut: int) -> Part:
        log = self.log
        name = log.clock.unique()
        data = encode(
            log.writer, cut, log.nonce, [row for row, _ in rows], Form.PART, log.keys, times_ms=[t for _, t in rows]
        )
        self.unnamed.add(part_name(log.writer, name))
        log.objects.create(part_name(log.writer, name), data, cut)
        return Part(name, len(data), cut)

    def finish(
        self,
        number: int,
        made: dict[int, list[Part]],
        old: list[Part],
        mover: Mover | None,
        archived: list[ArchiveRow],
    ) -> None:
        """Let a new base of the parts `made` take effect, and delete the `old` ones, which it replaces."""
        log = self.log
        if archived:
            data = encode_archive(archived, log.writer, log.keys)
            create_named_by_contents(log.store, archive_name(log.writer, data), data)
            log.metrics.archived.add(len(archived))
        relocated = self.base.relocated if mover is None else mover.move()
        revision = self.base.revision + 1 if number == self.base.number else 1
        names = tuple(part.name for each in sorted(made) for part in made[each])
        base = Base(number, revision, names, relocated=relocated)
        name = base_name(log.writer, number, revision)
        log.objects.create(name, wrap(log.writer, number, log.nonce, base.pack(), Form.BASE, log.keys), number)
        previous, self.base, self.parts = self.base, base, made
        self.unnamed.clear()
        log.prove()
        if (previous.number, previous.revision) != NO_BASE:
            self.doomed.append(base_name(log.writer, previous.number, previous.revision))
        self.doomed += [part_name(log.writer, part.name) for part in old]
        if mover is None:
            self.clear()

    # -- deleting

    def collect(self, first: int, cut: int, mover: Mover) -> None:
        """Delete the segments from `first` on, and packs, that the base has made needless."""
        log, chunks = self.log, self.log.chunks
        log.forget_tail(cut)
        chunks.redirect(mover.copied)
        for pack in mover.retiring:
            del chunks.sizes[pack], chunks.came_with[pack]
        self.garbage.end(sum(mover.live.values()))
        self.doomed += [segment_name(log.writer, number) for number in range(first, cut)]
        self.doomed += [chunk_name(log.writer, f"{pack:016d}") for pack in mover.retiring]
        self.clear()
        log.metrics.compacted_segments.add(cut - first, "deleted")

    def clear(self) -> None:
        """Delete what nothing needs, in order, on which readers rely. Raises: StoreError; the rest goes next time."""
        while self.doomed:
            self.log.store.delete(self.doomed[0])
            self.doomed.popleft()


def parted(rows: list[tuple[Row, int]]) -> Iterator[list[tuple[Row, int]]]:
    """Rows as they go into one part each."""
    start = size = 0
    for at, (row, _) in enumerate(rows):
        size += len(row[4])
        if at > start and (size > PART_BYTES_MAX or at - start == PART_ROWS_MAX):
            yield rows[start:at]
            start, size = at, len(row[4])
    if rows:
        yield rows[start:]


def create_named_by_contents(store: Store, name: str, data: bytes) -> None:
    """Make an object whose name says what is in it: one that is there already is this one. Raises: StoreError."""
    try:
        store.create(name, data)
    except AlreadyExists:
        pass
    except StoreError:
        if store.read(name) != data:  # raises again if it is not there
            raise


def as_it_is(found: Found) -> tuple[Row, int]:
    """A record as it is to be written again, with its time. Raises: DamagedError."""
    epoch, seq, segment, at = found
    row = (
        segment.coroutines[at],
        epoch,
        seq,
        segment.kinds[at],
        segment.state(at),
        segment.consumed[at],
        segment.codecs[at],
        None,
    )
    return row, segment.times_ms[at]
