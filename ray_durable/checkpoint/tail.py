"""What a live log's segments since the last base weigh, and which of them still say something.

Most segments of a busy log say nothing any more: each coroutine in them has a newer checkpoint in a later one. Those
need not be read to be compacted away, which is most of the work of compaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.segment import Row

__all__ = ["Tail"]

CHECKPOINT = int(Kind.CHECKPOINT)
KEPT = int(Codec.KEPT)


class Tail:
    """The durable segments of one log that no base has replaced, told of in the order of their numbers.

    Its caller sees to it that one thread at a time is in here."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.bytes = 0
        """All that is in them."""
        self.mixed: set[int] = set()
        """Segments that hold more than checkpoints of which only each coroutine's newest counts."""
        self.newest: dict[str, int] = {}
        """The segment with the newest checkpoint, by coroutine, of the segments that hold nothing else."""
        self.left: float = float("inf")
        """Bytes that may be added until `grown` is called."""
        self.grown: Callable[[], object] = lambda: None

    def call_when_grown(self, by: float, grown: Callable[[], object]) -> None:
        """Call `grown` once, as soon as `by` more bytes are durable; in place of what was asked for before."""
        self.grown, self.left = grown, by

    def add(self, number: int, size: int, rows: Sequence[Row], beside: int = 0) -> None:
        """Segment `number`, of `size` stored bytes, is durable, and so are all before it. `beside`: bytes of the packs
        that came with it."""
        self.sizes[number] = size
        self.bytes += size
        self.left -= size + beside
        if self.left <= 0:
            self.left = float("inf")
            self.grown()
        if [row for row in rows if row[3] != CHECKPOINT or row[5] or row[6] & KEPT]:  # `any` of a generator: twice that
            self.mixed.add(number)
        else:
            self.newest.update(dict.fromkeys([row[0] for row in rows], number))

    def saying(self, below: int) -> list[int]:
        """The segments below a number that a base which replaces them has to be made from."""
        found = self.mixed.union(self.newest.values())
        return sorted(number for number in found if number < below)

    def forget(self, below: int) -> None:
        """A base has replaced the segments below this number."""
        self.sizes = {number: size for number, size in self.sizes.items() if number >= below}
        self.bytes = sum(self.sizes.values())
        self.mixed = {number for number in self.mixed if number >= below}
        self.newest = {id: number for id, number in self.newest.items() if number >= below}
