"""A log's tail folded piece by piece, so that what is in memory grows with what the tail says and not with the tail.

A segment stays in memory whole as long as one of its records counts, though most of them may have newer ones by then.
So when much has come, compared with what was kept, the records that still count are taken out of their segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

from ray_durable.checkpoint.footer import PACKED
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import Fold, Found
from ray_durable.checkpoint.rewriting import taken
from ray_durable.checkpoint.segment import Row, Segment

__all__ = ["Gathered", "pieces"]

PIECE_BYTES = 8 << 20
CONDENSE_FROM_BYTES, AGAIN_FROM, SPARSE = 32 << 20, 2, 0.5
"""Condensed when so much has come, that many times what was kept the last time, if no more than this share counts."""
ROW_BYTES = 300
"""About what a record takes in memory besides its state."""


@dataclass(slots=True)
class Gathered:
    """What some segments say, added in the order of their numbers."""

    fold: Fold = field(default_factory=Fold)
    stored: int = 0
    """Bytes of the segments in the store."""
    rows: int = 0
    segments: int = 0
    here: int = 0
    """Records in memory, whether they count or not."""
    kept: int = 0
    """About the bytes in memory when they were last condensed, and since."""
    since: int = 0

    def add(self, segments: Iterable[Segment]) -> None:
        """Raises: DamagedError."""
        for segment in segments:
            self.fold.add(segment)
            self.segments += 1
            self.stored += segment.size
            self.rows += len(segment)
            self.here += len(segment)
            self.since += segment.states_bytes() + ROW_BYTES * len(segment)
        if self.since > max(CONDENSE_FROM_BYTES, AGAIN_FROM * self.kept):
            counting = len(self.fold)
            if counting <= SPARSE * self.here:
                forget_consumed(self.fold)
                self.kept, self.here = condense(self.fold), len(self.fold)
            else:
                self.kept += self.since
            self.since = 0

    @property
    def counting_bytes(self) -> int:
        """About how many of the stored bytes say something."""
        return self.stored * len(self.fold) // max(1, self.rows)


def pieces(numbers: Sequence[int], sizes: dict[int, int]) -> Iterator[list[int]]:
    """Segments, of these sizes, as many at a time as should be read at once."""
    piece: list[int] = []
    size = 0
    for number in numbers:
        piece.append(number)
        size += sizes.get(number, 0)
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def forget_consumed(fold: Fold) -> None:
    """Drop events and items that a checkpoint has done with: marks only grow."""
    for kind in (Kind.EVENT, Kind.ITEM):
        numbered = fold.numbered[kind]
        for id in list(numbered.keys() & fold.consumed.keys()):
            left = {found[1]: found for found in fold.unconsumed(id, kind)}
            if left:
                numbered[id] = left
            else:
                del numbered[id]


def condense(fold: Fold) -> int:
    """Move the records that count into one segment of their own, and let go of the others. About how many bytes that
    takes. Raises: DamagedError."""
    places: dict[int, tuple[Segment, dict[int, int]]] = {}
    for _, _, segment, row in everything(fold):
        known = places.get(id(segment))
        if known is None:
            known = places[id(segment)] = segment, {}
        known[1][row] = 0
    rows: list[Row] = []
    times_ms: list[int] = []
    for segment, its_rows in places.values():
        order = list(its_rows)
        its_rows.update(zip(order, range(len(rows), len(rows) + len(order)), strict=True))
        rows += taken(segment, order)
        times_ms += [segment.times_ms[row] for row in order]
    if not rows:
        return 0
    there = as_segment(segment, rows, times_ms)

    def moved(found: Found) -> Found:
        return found[0], found[1], there, places[id(found[2])][1][found[3]]

    for newest in [*fold.newest.values(), *(each for kind in fold.numbered.values() for each in kind.values())]:
        newest.update({key: moved(found) for key, found in newest.items()})  # type: ignore[attr-defined]
    for history in fold.history.values():
        history.update({place: moved(found) for place, found in history.items()})
    for holds in fold.holds.values():
        holds[:] = map(moved, holds)
    return there.states_bytes() + ROW_BYTES * len(rows)


def everything(fold: Fold) -> Iterator[Found]:
    """Where each record stands that counts."""
    for newest in fold.newest.values():
        yield from newest.values()
    for numbered in fold.numbered.values():
        for below in numbered.values():
            yield from below.values()
    for holds in fold.holds.values():
        yield from holds
    for history in fold.history.values():
        yield from history.values()


def as_segment(like: Segment, rows: list[Row], times_ms: list[int]) -> Segment:
    """Records as if one segment held them, which is in memory only."""
    ids, epochs, seqs, kinds, states, consumed, codecs, _ = map(list, zip(*rows, strict=True))
    footer = replace(like.footer, flags=PACKED)
    checksums = list(map(crc32, states))
    return Segment("", footer, 0, ids, epochs, seqs, kinds, codecs, checksums, consumed, times_ms, states)
