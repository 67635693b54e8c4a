"""What compaction keeps, when it is due, and what may go: decisions over plain data.

A log's tail of segments grows with its history; a base holds what still matters of everything before a number. The base
is rewritten in partitions, by a hash of the coroutine's id, so that at no time more than one partition is there twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from ray_durable.checkpoint.record import TERMINAL, Consumed, Kind
from ray_durable.checkpoint.recovery import Fold, Found
from ray_durable.checkpoint.references import find_references

__all__ = [
    "OVER",
    "ROOM_LEAST",
    "Keeping",
    "Policy",
    "at_once",
    "ends",
    "is_due",
    "partition_of",
    "partitions_for",
    "retire",
    "room",
    "room_meanwhile",
    "survivors",
]

PARTITION_BYTES = 1 << 20
PARTITIONS_FEW, PARTITIONS_MAX = 16, 1024
PARTITION_BYTES_MAX = 64 << 20
"""Beyond so many partitions they grow, up to that size: compaction has one in memory, and on disk twice for a while."""
MOST = 1.7
"""Of what may gather: what there is at most, with what is written during a compaction and what that has there twice.
With two of it, space would be twice what is live; a little is left for what nobody can foresee."""
EARLY_MAX = 0.75
ROOM_LEAST = 1 / 8
AT_ONCE, AT_ONCE_LEAST = 1 / 4, 64 << 10
OVER = 1 << 62
"""In the place of an epoch: the coroutine has ended, wherever it was."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When compaction runs, and what it keeps.

    `garbage_ratio`: run when that share of what is live may be garbage, and `garbage_bytes_min` besides; or when there
    are `tail_segments_max` segments since the last base. `retention_s`: results of finished coroutines are
    archived when that old; None: never. `retention_count`: or when there are more than that. `tombstone_s`: how long
    after that "expired" is answered; None: for ever. `pack_garbage_ratio`: how much garbage may stay in packs of
    chunks, as a share of what is live there; `pack_copy_ratio`: how much of that is copied at a time, at most.
    """

    garbage_ratio: float = 0.5
    garbage_bytes_min: int = 4 << 20
    tail_segments_max: int = 4_000
    retention_s: float | None = 604_800.0
    retention_count: int | None = None
    tombstone_s: float | None = None
    pack_garbage_ratio: float = 0.15
    pack_copy_ratio: float = 0.25


@dataclass(frozen=True, slots=True)
class Keeping:
    """What was found to be the fate of one coroutine's records."""

    records: list[Found]
    archive: Found | None = None
    """Its end, when it goes to the archive and leaves a tombstone."""
    tombstone_only: bool = False


def is_due(policy: Policy, live_bytes: int, garbage_bytes: int, tail_segments: int, meanwhile_bytes: int = 0) -> bool:
    """Whether a log should be compacted now. `garbage_bytes`: of all that it has stored, what may not be needed;
    `meanwhile_bytes`: what was written while the last compaction ran."""
    return tail_segments >= policy.tail_segments_max or room(policy, live_bytes, garbage_bytes, meanwhile_bytes) <= 0


def allowed(policy: Policy, live_bytes: int) -> float:
    """Bytes of garbage that may gather between compactions."""
    return policy.garbage_bytes_min + policy.garbage_ratio * live_bytes


def room(policy: Policy, live_bytes: int, garbage_bytes: int, meanwhile_bytes: int = 0) -> float:
    """How many bytes more of garbage there may be until a log should be compacted: so early that what is written
    meanwhile finds room too, but not without end."""
    most = allowed(policy, live_bytes)
    return most - min(meanwhile_bytes, EARLY_MAX * most) - garbage_bytes


def room_meanwhile(
    policy: Policy, live_bytes: int, garbage_bytes: int, copied_bytes: float, floor: float = ROOM_LEAST
) -> float:
    """How many bytes may be written while a compaction runs, so that there is never more than twice what is live and
    `garbage_bytes_min`. `copied_bytes`: what compaction has there twice for a while; `floor`: what is given in any
    case, as a share of what may gather."""
    most = allowed(policy, live_bytes)
    return max(floor * most, MOST * most - garbage_bytes - copied_bytes)


def at_once(policy: Policy, live_bytes: int) -> float:
    """How many bytes one commit may take, so that it does not go far beyond what makes a compaction due."""
    return max(AT_ONCE_LEAST, AT_ONCE * allowed(policy, live_bytes))


def partitions_for(live_bytes: int) -> int:
    """In how many partitions a base of so many bytes is written; a power of two."""
    count = 1
    while count < PARTITIONS_MAX and count * partition_bytes(count) < live_bytes:
        count *= 2
    return count


def partition_bytes(partitions: int) -> int:
    """How large they may become before there are to be more."""
    return PARTITION_BYTES if partitions < PARTITIONS_FEW else PARTITION_BYTES_MAX


def partition_of(coroutine: str, partitions: int) -> int:
    return crc32(coroutine.encode()) % partitions


def ended(fold: Fold, id: str) -> Found | None:
    """The newest record that says how a coroutine ended, tombstones aside."""
    found = [fold.newest[kind][id] for kind in TERMINAL if kind is not Kind.TOMBSTONE and id in fold.newest[kind]]
    return max(found, key=lambda each: each[:2], default=None)


def expired(fold: Fold, policy: Policy, now_ms: int, elsewhere: Sequence[int] = ()) -> set[str]:
    """The finished coroutines whose retention is over, by age or by count. `fold` may be one of several partitions:
    then `elsewhere` says when those in the others ended, in order."""
    over: set[str] = set()
    finished = sorted(ends(fold), reverse=True)
    for rank, (ended_ms, id) in enumerate(finished):
        too_old = policy.retention_s is not None and now_ms - ended_ms > policy.retention_s * 1000
        newer = rank + len(elsewhere) - bisect_right(elsewhere, ended_ms)
        if too_old or (policy.retention_count is not None and newer >= policy.retention_count):
            over.add(id)
    return over


def ends(fold: Fold) -> Iterator[tuple[int, str]]:
    """When coroutines ended, of those that are not over yet."""
    for kind in TERMINAL - {Kind.TOMBSTONE}:
        for id, found in fold.newest[kind].items():
            if id not in fold.newest[Kind.TOMBSTONE]:
                yield time_of(found), id


def survivors(fold: Fold, id: str, policy: Policy, now_ms: int, over: set[str], released: Mapping[str, int]) -> Keeping:
    """What stays of one coroutine. `over`: those whose retention is over; `released`: coroutines that were sent
    away at that epoch, or before, and are known to have been adopted there: nothing here is needed but chunks."""
    newest = fold.newest
    tombstone = newest[Kind.TOMBSTONE].get(id)
    if tombstone is not None:
        forgotten = policy.tombstone_s is not None and now_ms - time_of(tombstone) > policy.tombstone_s * 1000
        return Keeping([] if forgotten else [tombstone], tombstone_only=True)
    end = ended(fold, id)
    history = [found for _, found in sorted(fold.history.get(id, {}).items())]
    if end is not None:
        if id in over:
            return Keeping([], archive=end)
        kept = [*history, end, *fold.unconsumed(id, Kind.ITEM), *some(newest[Kind.ADMITTED].get(id))]
        return Keeping(kept + some(newest[Kind.ADOPTED].get(id)) if has_unread_elsewhere(fold, id, end) else kept)
    if is_released(newest, id, released):
        moved = newest[Kind.MOVED].get(id)
        if released[id] >= OVER:
            return Keeping([])
        if moved is None or not refers(moved):
            return Keeping(history)
        return Keeping([*history, *fold.holds.get(id, ()), moved])  # its adopter may need our chunks until it has ended
    kept = [
        *history,
        *(found for kind in KEPT_NEWEST for found in some(newest[kind].get(id))),
        *fold.holds.get(id, ()),
        *fold.unconsumed(id, Kind.EVENT),
        *fold.unconsumed(id, Kind.ITEM),
    ]
    return Keeping(list({(each[2].name, each[3]): each for each in kept}.values()))


def has_unread_elsewhere(fold: Fold, id: str, end: Found) -> bool:
    """Whether the reader may still want items of an ended coroutine that are not records here: its adoption has brought
    them along."""
    marks = Consumed.unpack(end[2].consumed[end[3]])
    logged = fold.numbered[Kind.ITEM].get(id, {})
    return any(index not in logged for index in range(max(marks.read, fold.consumed.get(id, (0, 0))[1]), marks.emitted))


def is_released(newest: Mapping[int, Mapping[str, Found]], id: str, released: Mapping[str, int]) -> bool:
    """Whether the last that the log says of a coroutine is that it goes elsewhere (it moved, or was placed), and there
    it has been adopted. One that has come back since is here."""
    away = max((newest[kind][id][0] for kind in SENT_AWAY if id in newest[kind]), default=None)
    here = newest[Kind.ADOPTED].get(id)
    return away is not None and released.get(id, -1) >= away and (here is None or here[0] < away)


def refers(found: Found) -> bool:
    """Whether a record's state has buffers in chunks."""
    return bool(find_references(found[2].record(found[3]).state))


SENT_AWAY = (Kind.MOVED, Kind.PLACED, Kind.ADMITTED)
KEPT_NEWEST = (Kind.ADMITTED, Kind.PLACED, Kind.ADOPTED, Kind.CHECKPOINT, Kind.MOVED)


def some(found: Found | None) -> list[Found]:
    return [] if found is None else [found]


def time_of(found: Found) -> int:
    return found[2].times_ms[found[3]]


def retire(sizes: Mapping[int, int], live: Mapping[int, int], policy: Policy) -> set[int]:
    """The packs to empty: those with the least that is needed in them, until little garbage is left in the others. As
    what is copied is there twice for a while, not much is copied at a time; but always what is in one pack."""
    needed = sum(live.values())
    garbage = sum(sizes.values()) - sum(live.get(pack, 0) for pack in sizes)
    copied = 0
    chosen: set[int] = set()
    for pack in sorted(sizes, key=lambda pack: live.get(pack, 0) / sizes[pack]):
        copied += live.get(pack, 0)
        too_much = copied > policy.pack_copy_ratio * needed and copied > live.get(pack, 0)
        if garbage <= policy.pack_garbage_ratio * needed or too_much:
            break
        chosen.add(pack)
        garbage -= sizes[pack] - live.get(pack, 0)
    return chosen
