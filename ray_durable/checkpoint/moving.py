"""Emptying packs of chunks of which little is needed: their live pages go to a new pack, and the base says where.

`Mover` goes along with one compaction: it meets every state that survives, learns which packs they need, copies what
the retiring packs still have to give, and so makes them needless.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ray_durable.checkpoint.chunks import Pack
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.references import MARK, Extent, Reference, find_references, unpack_extents
from ray_durable.checkpoint.relocation import Relocations, Run


@dataclass(slots=True)
class Mover:
    """What one compaction learns of packs. `before`: where pages went in earlier ones; `retiring`: packs to empty."""

    log: Log
    before: Relocations
    retiring: set[int]
    references: dict[bytes, Reference] = field(default_factory=dict)
    emptied: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    """Packs that were durable when the compaction began."""
    after: Relocations = field(default_factory=Relocations)
    extents: set[Extent] = field(default_factory=set)
    """All that surviving states refer to, by its old place."""
    archived: int = 0

    def __post_init__(self) -> None:
        self.known = set(self.log.chunks.sizes)
        self.retiring &= self.known

    def meet(self, states: Iterable[bytes]) -> None:
        for state in states:
            if MARK in state:
                for found in find_references(state):
                    if found.writer == self.log.writer:
                        self.references[found.pack()] = found  # one buffer may lie in several packs

    def move(self) -> str:
        """Copy what is live in the retiring packs into a new pack, which is durable on return. The relocations for the
        base, as text."""
        self.extents = {extent for each in self.references.values() for extent in self.extents_of(each)}
        here = without_overlaps(self.before.follow(self.extents))
        copied = self.copy([extent for extent in here if extent.pack in self.retiring])
        named = {pack for reference in self.references.values() for pack, _ in reference.packs}
        self.after = self.before.moved_on(copied).only(named)
        self.emptied = set(self.retiring)
        return self.after.pack() if self.after.runs else ""

    def extents_of(self, reference: Reference) -> list[Extent]:
        if reference.map is None:
            return list(reference.extents)
        chunks = self.log.chunks
        listed = b"".join(chunks.pieces(reference.writer, self.before.follow([reference.map])))
        return [*unpack_extents(listed), reference.map]

    def copy(self, wanted: list[Extent]) -> Relocations:
        if not wanted:
            return Relocations({pack: [] for pack in self.retiring})
        chunks = self.log.chunks
        pack: Pack = chunks.reserve()
        runs: dict[int, list[Run]] = {pack: [] for pack in self.retiring}
        for extent, data in zip(wanted, chunks.pieces(self.log.writer, wanted), strict=True):
            there = pack.add(bytes(data))
            runs[extent.pack].append((extent.offset, extent.length, there.pack, there.offset))
        self.log.objects.create(*chunks.encode(pack), pack.number)
        chunks.sizes[pack.number] = pack.size
        self.known.add(pack.number)
        return Relocations(runs)

    def live_after(self) -> dict[int, int]:
        """Bytes that surviving states need of each pack, now that the retiring ones are emptied."""
        live = dict.fromkeys(self.known - self.emptied, 0)
        for extent in without_overlaps(self.after.follow(self.extents)):
            live[extent.pack] = live.get(extent.pack, 0) + extent.length
        return live


def without_overlaps(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes, each once, by pack and offset."""
    out: list[Extent] = []
    for each in sorted(extents, key=lambda extent: (extent.pack, extent.offset)):
        if out and out[-1].pack == each.pack and each.offset < out[-1].offset + out[-1].length:
            end = max(out[-1].offset + out[-1].length, each.offset + each.length)
            out[-1] = Extent(each.pack, out[-1].offset, end - out[-1].offset)
        else:
            out.append(each)
    return out
