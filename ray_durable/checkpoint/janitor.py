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
    ROOM_LEAST,
    Policy,
    at_once,
    ends,
    is_due,
    partition_of,
    partitions_for,
    room,
    room_meanwhile,
)
from ray_durable.checkpoint.footer import Form, wrap
from ray_durable.checkpoint.garbage import Garbage
from ray_durable.checkpoint.gathering import Gathered, pieces
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.moving import Mover
from ray_durable.checkpoint.names import base_name, chunk_name, log_prefix, part_name, segment_name
from ray_durable.checkpoint.reading import NO_BASE, Base
from ray_durable.checkpoint.recovery import Fold
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.rewriting import Rows, kept
from ray_durable.checkpoint.segment import Segment, decode, encode
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import AlreadyExists, LogStoppedError, StoreError

LOOK_LEAST_BYTES = 16 << 10
REFUSED_LEAST_BYTES = 64 << 10
"""What a commit may take, about one a second, when a store has refused compaction and there is no room left."""
NEVER = float("inf")


@dataclass(slots=True)
class Part:
    """One object of the base. `covers`: everything of its partition in segments below that is in it."""

    name: str
    size: int
    covers: int


@dataclass(frozen=True, slots=True)
class Coming:
    """A base that is about to stand, and what it replaces."""

    base: Base
    data: bytes
    parts: PartsByKey
    replaced: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """What one compaction did."""

    segments: int
    bytes_before: int
    bytes_after: int
    archived: int
    packs_deleted: int


PartsByKey = dict[int, list[Part]]


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
    parts: PartsByKey = field(default_factory=dict)
    partitions: int = 1
    ended: dict[int, list[int]] = field(default_factory=dict)
    """When coroutines ended that are in each partition, if that matters."""
    garbage: Garbage = field(default_factory=Garbage)
    doomed: deque[str] = field(default_factory=deque)
    """Objects that nothing needs any more, in the order of going; one that could not be deleted is tried again."""
    replaced: list[str] = field(default_factory=list)
    """What the newest base has replaced, as long as it is not proven that nobody had sealed the log before."""
    emptied_to: int = 0
    """Segments below are deleted, or doomed."""
    coming: Coming | None = None
    """A base of which it is not known whether it stands."""
    unnamed: set[str] = field(default_factory=set)
    """Parts that wait for the base that names them."""
    meanwhile: int = 0
    """Bytes that were written while the last compaction ran."""
    due: Callable[[], object] | None = None
    """Who is to be told; see `watch`."""
    running: bool = False
    refused: bool = False
    """The last compaction was cut short by the store."""

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
        if not self.running and not (self.refused and self.due is not None and self.is_due()):
            self.log.pace.end()
            self.log.advanced.notify_all()
        by = NEVER if self.due is None else max(LOOK_LEAST_BYTES, self.room())
        self.log.tail.call_when_grown(by, self.grown)

    def grown(self) -> None:
        """So much has been written that this is due, or perhaps only was expected to be."""
        if self.due is not None:
            if not self.running:
                self.hold()
            self.due()

    def hold(self) -> None:
        """A quick writer is slowed down from now on. While the store refuses to have this log compacted, no room is
        given twice, and what a writer still gets is a trickle, so that its coroutines and moves do not stand still."""
        pace = self.log.pace
        if not self.refused or pace.room == NEVER:
            pace.begin(self.room_meanwhile(), REFUSED_LEAST_BYTES if self.refused else 0)
        elif (left := self.room_meanwhile(floor=0)) > max(0, pace.room - pace.written):  # a part of it was done
            pace.begin(left, REFUSED_LEAST_BYTES)
        else:
            pace.least, pace.done = REFUSED_LEAST_BYTES, 0.0

    def estimate(self) -> tuple[int, int]:
        """Bytes that are needed, and that may not be."""
        pack_bytes = sum(list(self.log.chunks.sizes.values()))
        live = self.garbage.live(self.base_bytes)
        return live, self.base_bytes + self.log.tail.bytes + pack_bytes - live

    def compact(self) -> Report:
        """Rewrite everything durable so far into a new base, and delete what it replaces; a writer who is quicker than
        this is slowed down meanwhile. Raises: FencedError, LogStoppedError when the log ends meanwhile (nothing is lost
        then), StoreError when only this could not be done, DamagedError. Who watches is then to try again: until this
        succeeds, writers get no more room than there was."""
        with self.log.advanced:
            self.running = True
            self.hold()
        succeeded = False
        try:
            report = self.compact_now()
            succeeded = True
        except LogStoppedError as error:
            if self.log.error is None:  # a part may be refused where segments are not: nothing but this has ended
                raise StoreError("compact", log_prefix(self.log.writer), error.reason) from error
            raise
        finally:
            with self.log.advanced:
                self.running = False
                self.log.pace.at_once = at_once(self.policy, self.estimate()[0])
                self.refused = not succeeded
                self.look_out()
            self.log.metrics.compactions_refused.add(not succeeded and self.log.error is None)
        return report

    def room_meanwhile(self, floor: float = ROOM_LEAST) -> float:
        """How many bytes may be written from now until a compaction has ended."""
        copied = self.base_bytes / self.partitions + self.policy.pack_copy_ratio * self.garbage.pack_live
        return room_meanwhile(self.policy, *self.estimate(), copied, floor)

    def compact_now(self) -> Report:
        log = self.log
        self.stand()
        self.doomed += self.unnamed  # of a compaction that was cut short before its base stood
        self.unnamed.clear()
        self.clear()
        self.garbage.begin()
        first = self.emptied_to
        cut, saying = self.cut()
        before = self.base_bytes + log.tail.bytes
        tail = self.gather(saying)
        mover = Mover(log, Relocations.unpack(self.base.relocated), self.policy, cut, self.states_since)
        partitions = max(self.partitions, partitions_for(self.base_bytes + tail.counting_bytes))
        before_it = self.partitions
        now_ms = int(log.clock.now() * 1000)
        folds = tail.fold.split(before_it, lambda id: partition_of(id, before_it))
        for each, its_fresh in enumerate(folds):
            # What was one partition may be several already, if a store has failed in the middle of this.
            old = [part for key in self.parts if key % before_it == each for part in self.parts[key]]
            others = {key: parts for key, parts in self.parts.items() if key % before_it != each}
            fold = Fold(self.read_parts(old)).merge(its_fresh)
            elsewhere = self.ended_elsewhere(each, before_it, folds)
            rows, archived = kept(fold, self.policy, now_ms, elsewhere, self.released(), self.describe)
            mover.archived += len(archived)
            made = others | self.rewrite(rows, range(each, partitions, before_it), partitions, cut, mover)
            last = each == before_it - 1
            self.finish(cut if last else self.base.number, made, old, mover if last else None, archived)
            log.pace.done = (each + 1) / before_it
        self.partitions = partitions
        self.collect(cut, mover)
        self.meanwhile = log.tail.bytes
        log.metrics.compactions.add(1)
        log.metrics.compacted_segments.add(tail.segments, "rewritten")
        return Report(cut - first, before, self.base_bytes, mover.archived, len(mover.retiring))

    def cut(self) -> tuple[int, list[int]]:
        """Up to where this compaction goes: all below counts; and which segments below are to be read."""
        return self.log.durable_tail()

    # -- reading

    def gather(self, numbers: list[int]) -> Gathered:
        """What these segments say, read a few at a time."""
        tail = Gathered()
        for piece in pieces(numbers, self.log.tail.sizes):
            tail.add(self.read([segment_name(self.log.writer, number) for number in piece]))
        return tail

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

    def ended_elsewhere(self, partition: int, partitions: int, later: list[Fold]) -> list[int]:
        """When coroutines of other partitions ended, in order; those after this one have not been rewritten yet."""
        if self.policy.retention_count is None:
            return []
        known = [at for key, found in self.ended.items() if key % partitions != partition for at in found]
        return sorted(known + [at for fold in later[partition + 1 :] for at, _ in ends(fold)])

    # -- writing

    def rewrite(self, found: Rows, which: Iterable[int], partitions: int, cut: int, mover: Mover) -> PartsByKey:
        """Write the parts of some partitions."""
        made: PartsByKey = {}
        for each, rows in found.split(which, partitions).items():
            made[each] = [self.write_part(part, cut) for part in rows.parted()]
            self.ended[each] = rows.ended_ms() if self.policy.retention_count is not None else []
        mover.meet([row[4] for row in found.rows])
        self.garbage.keep(found.rows)
        return made

    def write_part(self, part: Rows, cut: int) -> Part:
        log = self.log
        name = log.clock.unique()
        nonce = bytes.fromhex(name)  # so that no part passes for another
        data = encode(log.writer, cut, nonce, part.rows, Form.PART, log.keys, times_ms=part.times_ms)
        self.unnamed.add(part_name(log.writer, name))
        log.objects.create(part_name(log.writer, name), data, cut, nonce)
        return Part(name, len(data), cut)

    def finish(
        self,
        number: int,
        made: PartsByKey,
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
        data = wrap(log.writer, number, log.nonce, base.pack(), Form.BASE, log.keys)
        self.coming = Coming(base, data, made, [part_name(log.writer, part.name) for part in old])
        self.stand()
        log.prove()
        self.doomed += self.replaced
        self.replaced.clear()
        if mover is None:
            self.clear()

    def stand(self) -> None:
        """Have the base that is coming stand. If the store fails, it may or may not; so it comes first next time."""
        log, coming, previous = self.log, self.coming, self.base
        if coming is None:
            return
        base = coming.base
        log.objects.create(base_name(log.writer, base.number, base.revision), coming.data, base.number)
        self.base, self.parts, self.coming = base, coming.parts, None
        self.unnamed.clear()
        if (previous.number, previous.revision) != NO_BASE:
            self.replaced.append(base_name(log.writer, previous.number, previous.revision))
        self.replaced += coming.replaced

    # -- deleting

    def collect(self, cut: int, mover: Mover) -> None:
        """Delete the segments below `cut`, and packs, that the base has made needless."""
        log, chunks = self.log, self.log.chunks
        log.forget_tail(cut)
        chunks.redirect(mover.copied)
        for pack in mover.retiring:
            del chunks.sizes[pack], chunks.came_with[pack]
        self.garbage.end(sum(mover.live.values()))
        log.metrics.compacted_segments.add(cut - self.emptied_to, "deleted")
        self.doomed += [segment_name(log.writer, number) for number in range(self.emptied_to, cut)]
        self.emptied_to = cut
        self.doomed += [chunk_name(log.writer, f"{pack:016d}") for pack in mover.retiring]
        self.clear()

    def clear(self) -> None:
        """Delete what nothing needs, in order, on which readers rely. Raises: StoreError; the rest goes next time."""
        while self.doomed:
            self.log.store.delete(self.doomed[0])
            self.doomed.popleft()


def create_named_by_contents(store: Store, name: str, data: bytes) -> None:
    """Make an object whose name says what is in it: one that is there already is this one. Raises: StoreError."""
    try:
        store.create(name, data)
    except AlreadyExists:
        pass
    except StoreError:
        if store.read(name) != data:  # raises again if it is not there
            raise
