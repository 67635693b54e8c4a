"""Which rows one compaction writes into the parts of its base, and what goes to the archive: in bulk, and no effects.

Of most coroutines nothing is said but where they stand. Their rows are taken from each segment at once, by columns,
which costs a fraction of taking them one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any
from zlib import crc32

from ray_durable.checkpoint.archive import ArchiveRow
from ray_durable.checkpoint.compaction import Policy, expired, partition_of, survivors
from ray_durable.checkpoint.record import TERMINAL, Codec, Kind
from ray_durable.checkpoint.recovery import Fold, Found
from ray_durable.checkpoint.segment import Row, Segment

__all__ = ["Rows", "kept"]

PART_ROWS_MAX = 50_000
PART_BYTES_MAX = 32 << 20
"""Of states: a larger part would time out on a slow link."""

ENDED = frozenset(map(int, TERMINAL - {Kind.TOMBSTONE}))


@dataclass(slots=True)
class Rows:
    """Rows, and when each was committed."""

    rows: list[Row] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)

    def add(self, found: Iterable[Found]) -> None:
        """Records as they are. Raises: DamagedError."""
        by_segment: dict[int, tuple[Segment, list[int]]] = {}
        for _, _, segment, at in found:
            known = by_segment.get(id(segment))
            if known is None:
                known = by_segment[id(segment)] = segment, []
            known[1].append(at)
        for segment, places in by_segment.values():
            self.rows += taken(segment, places)
            self.times_ms += [segment.times_ms[at] for at in places]

    def parted(self) -> Iterator[Rows]:
        """As they go into one part each."""
        rows, times_ms = self.rows, self.times_ms
        start = size = 0
        for at, length in enumerate([len(row[4]) for row in rows]):
            size += length
            if at > start and (size > PART_BYTES_MAX or at - start == PART_ROWS_MAX):
                yield Rows(rows[start:at], times_ms[start:at])
                start, size = at, length
        if rows:
            yield Rows(rows[start:], times_ms[start:])

    def ended_ms(self) -> list[int]:
        """When coroutines ended, of those that are not over yet."""
        return [time_ms for row, time_ms in zip(self.rows, self.times_ms, strict=True) if row[3] in ENDED]

    def split(self, which: Iterable[int], partitions: int) -> dict[int, Rows]:
        """By partition."""
        found = {each: Rows() for each in which}
        if len(found) == 1:
            return dict.fromkeys(found, self)
        for row, time_ms in zip(self.rows, self.times_ms, strict=True):
            its = found[partition_of(row[0], partitions)]
            its.rows.append(row)
            its.times_ms.append(time_ms)
        return found


def taken(segment: Segment, places: list[int]) -> Iterable[Row]:
    """Rows of one segment. Raises: DamagedError."""
    if len(places) < 2:
        places = places * 2  # `itemgetter` of one gives no tuple
        return list(taken(segment, places))[:1]
    get: Callable[[Any], tuple[Any, ...]] = itemgetter(*places)
    states = segment.states_at(places)
    for at, state, checksum in zip(places, states, get(segment.checksums), strict=True):
        if crc32(state) != checksum:
            segment.state(at)  # says so
    columns = map(get, (segment.coroutines, segment.epochs, segment.seqs, segment.kinds))
    return zip(*columns, states, get(segment.consumed), get(segment.codecs), repeat(None), strict=False)


def kept(
    fold: Fold,
    policy: Policy,
    now_ms: int,
    elsewhere: Sequence[int],
    released: Mapping[str, int],
    describe: Callable[[Any], Mapping[str, str]] | None,
) -> tuple[Rows, list[ArchiveRow]]:
    """What stays of all in `fold`, and what goes to the archive: see `expired` and `survivors`. Raises:
    DamagedError."""
    rows, archived = Rows(), list[ArchiveRow]()
    standing = fold.standing()
    for kind in (Kind.ADOPTED, Kind.CHECKPOINT):  # what `survivors` would keep of them, in a fraction of its time
        newest = fold.newest[kind]
        rows.add(
            newest.values() if newest.keys() <= standing.keys() else [newest[id] for id in standing if id in newest]
        )
    if len(standing) < len(fold):
        over = expired(fold, policy, now_ms, elsewhere)
        for id in fold.ids():
            if id not in standing:
                keeping = survivors(fold, id, policy, now_ms, over, released)
                rows.add(keeping.records)
                if keeping.archive is not None:
                    archived.append(archive_row(fold, id, keeping.archive, describe))
                    rows.rows.append(tombstone(archived[-1]))
                    rows.times_ms.append(now_ms)
    return rows, archived


def archive_row(fold: Fold, id: str, found: Found, describe: Callable[[Any], Mapping[str, str]] | None) -> ArchiveRow:
    end = found[2].record(found[3])
    admitted = fold.newest[Kind.ADMITTED].get(id)
    source = end if admitted is None else admitted[2].record(admitted[3])
    return ArchiveRow(end, dict(describe(source)) if describe is not None else {})


def tombstone(archived: ArchiveRow) -> Row:
    end = archived.end
    return end.coroutine, end.epoch, end.seq, int(Kind.TOMBSTONE), b"", b"", int(Codec.OPAQUE), None
