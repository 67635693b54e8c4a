"""Emptying packs of chunks of which little is needed: their live pages go to new packs, and the base says where.

`Mover` goes along with one compaction: it meets every state that survives, learns which packs they need, chooses those
to empty, copies what these still have to give, and so makes them needless. The log is written to meanwhile. So before
anything is copied, the writer is kept from referring to more of the chosen packs than is about to be copied, and
all that it had made until then is waited for and met too: no state can refer to a page that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ray_durable.checkpoint.chunks import PACK_BYTES_MAX, Pack
from ray_durable.checkpoint.compaction import Policy, retire
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.references import MARK, Extent, Reference, find_references, unpack_extents
from ray_durable.checkpoint.relocation import Relocations, Run

SETTLE_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Mover:
    """What one compaction learns of packs. `before`: where pages went in earlier ones; `cut`: it sees the segments
    below; `since(cut)`: all states that the log has been given from there on."""

    log: Log
    before: Relocations
    policy: Policy
    cut: int
    since: Callable[[int], Iterable[bytes]]
    references: dict[bytes, Reference] = field(default_factory=dict)
    extents: set[Extent] = field(default_factory=set)
    """All that surviving states refer to, by its old place."""
    retiring: set[int] = field(default_factory=set)
    """Packs that are emptied."""
    copied: Relocations = field(default_factory=Relocations)
    after: Relocations = field(default_factory=Relocations)
    live: dict[int, int] = field(default_factory=dict)
    """Bytes that surviving states need of each pack that stays, once `move` is done."""
    archived: int = 0

    def meet(self, states: Iterable[bytes]) -> None:
        for state in states:
            if MARK in state:
                for found in find_references(state):
                    if found.writer == self.log.writer:
                        self.references[found.pack()] = found  # one buffer may lie in several packs

    def move(self) -> str:
        """Copy what is live in packs with little in them to new ones, which are durable on return. The relocations for
        the base, as text. Raises: FencedError, LogStoppedError, StoreError."""
        chunks = self.log.chunks
        if not chunks.sizes and not self.before.runs:
            return ""
        self.learn()
        self.retiring = retire(self.met_sizes(), self.live, self.policy)
        if self.retiring or self.before.runs:
            chunks.narrow(by_pack(self.here(), self.retiring))
            self.log.settle(SETTLE_TIMEOUT_S)
            self.meet(self.since(self.cut))
            self.learn()
        self.copied = self.copy([extent for extent in self.here() if extent.pack in self.retiring])
        needed = {pack for reference in self.references.values() for pack, _ in reference.packs}
        # A state that was made just now may refer to what is emptied just now.
        self.after = self.before.moved_on(self.copied).only(needed | self.retiring)
        self.live = live_in(self.after.follow(self.extents))
        return self.after.pack() if self.after.runs else ""

    def learn(self) -> None:
        self.extents = {extent for each in self.references.values() for extent in self.extents_of(each)}
        self.live = live_in(self.here())

    def here(self) -> list[Extent]:
        """The extents by where they are now, each byte once."""
        return without_overlaps(self.before.follow(self.extents))

    def met_sizes(self) -> dict[int, int]:
        """The packs whose states have been met, as they came before segments below the cut; with their sizes."""
        chunks = self.log.chunks
        return {pack: size for pack, size in list(chunks.sizes.items()) if chunks.came_with[pack] < self.cut}

    def extents_of(self, reference: Reference) -> list[Extent]:
        if reference.map is None:
            return list(reference.extents)
        chunks = self.log.chunks
        listed = b"".join(chunks.pieces(reference.writer, self.before.follow([reference.map])))
        return [*unpack_extents(listed), reference.map]

    def copy(self, wanted: list[Extent]) -> Relocations:
        chunks = self.log.chunks
        runs: dict[int, list[Run]] = {pack: [] for pack in self.retiring}
        pack: Pack | None = None
        for batch in batches(wanted, PACK_BYTES_MAX):
            for extent, data in zip(batch, chunks.pieces(self.log.writer, batch), strict=True):
                if pack is not None and pack.size + extent.length > PACK_BYTES_MAX:
                    self.write(pack)
                    pack = None
                pack = chunks.reserve() if pack is None else pack
                there = pack.add(bytes(data))
                runs[extent.pack].append((extent.offset, extent.length, there.pack, there.offset))
        if pack is not None:
            self.write(pack)
        return Relocations(runs)

    def write(self, pack: Pack) -> None:
        chunks = self.log.chunks
        self.log.objects.create(*chunks.encode(pack), pack.number)
        chunks.sizes[pack.number] = pack.size
        chunks.came_with[pack.number] = -1


def batches(extents: list[Extent], size_max: int) -> Iterable[list[Extent]]:
    """So many at a time that about `size_max` bytes of them are in memory."""
    batch: list[Extent] = []
    size = 0
    for each in extents:
        batch.append(each)
        size += each.length
        if size >= size_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def by_pack(extents: Iterable[Extent], packs: Iterable[int]) -> dict[int, list[Extent]]:
    """The extents that lie in `packs`, for each of these."""
    found: dict[int, list[Extent]] = {pack: [] for pack in packs}
    for each in extents:
        if each.pack in found:
            found[each.pack].append(each)
    return found


def live_in(extents: Iterable[Extent]) -> dict[int, int]:
    """Bytes of each pack that are needed."""
    live: dict[int, int] = {}
    for each in without_overlaps(extents):
        live[each.pack] = live.get(each.pack, 0) + each.length
    return live


def without_overlaps(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes, each once, by pack and offset, in as few extents as they are."""
    out: list[Extent] = []
    for each in sorted(extents, key=lambda extent: (extent.pack, extent.offset)):
        if out and out[-1].pack == each.pack and each.offset <= out[-1].offset + out[-1].length:
            end = max(out[-1].offset + out[-1].length, each.offset + each.length)
            out[-1] = Extent(each.pack, out[-1].offset, end - out[-1].offset)
        else:
            out.append(each)
    return out
