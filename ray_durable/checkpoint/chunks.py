"""Large buffers beside a log, stored once: an unchanged one costs no bytes at the next checkpoint, a changed one only
the pages that differ.

A buffer is hashed (blake3) in blocks of 64 KiB; only in blocks that are new are its pages of 8 KiB looked at one by
one. A page that this log has stored is referred to, wherever it came from; new ones are copied into the pending *pack*,
which the next commit writes before its segment. So pages of many coroutines share one object, and what a durable record
refers to is durable. A reference holds a digest over the blocks: whatever is read is checked against it as a whole.

Immutable buffers (`bytes`, Arrow's) are known by identity and hashed once. `benchmarks/checkpoint.py --only buffers`
measures 64 MiB unchanged and with 1 % of its memory pages touched. Smaller pages would take longer, for fewer bytes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from ray_durable.checkpoint.footer import Form, unwrap, wrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import chunk_name
from ray_durable.checkpoint.reading import current_base
from ray_durable.checkpoint.references import (
    INLINE_EXTENTS,
    Extent,
    Reference,
    pack_extents,
    unpack_extents,
)
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import DamagedError, NotFoundError
from ray_durable.metrics import NO_METRICS, Metrics

BLOCK_BYTES = 64 << 10
PAGE_BYTES = 8 << 10
PACK_BYTES_MAX = 4 << 20
"""A larger one would be copied whole when half of it is needed, and time out on a slow link."""
OWNERS_MAX = 1024
OWNERS_BYTES_MAX = 1 << 30


@dataclass(slots=True)
class Pack:
    """Pages on their way into one object."""

    number: int
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, data: bytes) -> Extent:
        extent = Extent(self.number, self.size, len(data))
        self.pieces.append(data)
        self.size += len(data)
        return extent


class Chunks:
    """The large buffers of one log. Give it to `dumps` and `loads` as `log.chunks`."""

    def __init__(
        self,
        store: Store,
        writer: str,
        *,
        nonce: bytes = bytes(16),
        keys: Keys = NO_KEYS,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self.store, self.writer, self.nonce, self.keys, self.metrics = store, writer, nonce, keys, metrics
        self.pages: dict[bytes, Extent] = {}
        self.blocks: dict[bytes, tuple[Extent, ...]] = {}
        self.references: dict[bytes, bytes] = {}
        """By digest of the whole: what is stored already needs no new map."""
        self.owners: OrderedDict[int, tuple[Any, bytes, int]] = OrderedDict()
        self.owners_bytes = 0
        self.pending = Pack(0)
        self.filled: list[Pack] = []
        """Further ones of the coming commit, which have as much as one should hold."""
        self.packs_begun = 1
        self.sizes: dict[int, int] = {}
        """Bytes in each pack that is on its way or stored."""
        self.came_with: dict[int, int] = {}
        """The segment before which each was written."""
        self.lock = threading.Lock()

    # -- saving

    def save(self, data: memoryview, owner: Any = None) -> bytes:
        """Keep `data` with the next commit, and return a reference to it. `owner`: the object that it belongs to, if
        that never changes; the same one again costs nothing."""
        if owner is not None and (known := self.owners.get(id(owner))) is not None and known[0] is owner:
            self.owners.move_to_end(id(owner))
            self.count("reused", 1, len(data))
            return known[1]
        data = data.cast("B")
        with self.lock:
            before = self.gathered
            digest, extents = self.place(data)
            reference = self.references.get(digest) or self.refer(digest, len(data), extents)
            self.references[digest] = reference
            written = self.gathered - before
        self.count("written", -(-written // PAGE_BYTES), written)
        self.count("reused", (len(data) - written) // PAGE_BYTES, max(0, len(data) - written))
        if owner is not None:
            self.remember(owner, reference, len(data))
        return reference

    def place(self, data: memoryview) -> tuple[bytes, list[Extent]]:
        """Where each byte of `data` is, or will be with the next commit."""
        digest = blake3()
        extents: list[Extent] = []
        for start in range(0, len(data), BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            name = blake3(block).digest()
            found = self.blocks.get(name)
            if found is None:
                # What is stored must be what was hashed, also if another thread changes the buffer meanwhile.
                copy = bytes(block)
                name = blake3(copy).digest()
                found = self.blocks[name] = self.place_pages(memoryview(copy))
            digest.update(name)
            extents.extend(found)
        return digest.digest(), merged(extents)

    def place_pages(self, block: memoryview) -> tuple[Extent, ...]:
        extents = []
        pages = self.pages
        for start in range(0, len(block), PAGE_BYTES):
            page = block[start : start + PAGE_BYTES]
            name = blake3(page).digest()
            extent = pages.get(name)
            if extent is None:
                extent = pages[name] = self.add(bytes(page))
            extents.append(extent)
        return tuple(merged(extents))

    def refer(self, digest: bytes, length: int, extents: list[Extent]) -> bytes:
        where = None
        if len(extents) > INLINE_EXTENTS:
            where = self.add(pack_extents(extents))
        needed: dict[int, int] = {}
        for extent in [*extents, where] if where is not None else extents:
            needed[extent.pack] = needed.get(extent.pack, 0) + extent.length
        inline = () if where is not None else tuple(extents)
        return Reference(self.writer, digest, length, tuple(sorted(needed.items())), inline, where).pack()

    def add(self, data: bytes) -> Extent:
        if self.pending.size and self.pending.size + len(data) > PACK_BYTES_MAX:
            self.filled.append(self.pending)
            self.pending = self.begin()
        return self.pending.add(data)

    @property
    def gathered(self) -> int:
        """Bytes that wait for the next commit."""
        return self.pending.size + sum(pack.size for pack in self.filled)

    def remember(self, owner: Any, reference: bytes, size: int) -> None:
        self.owners[id(owner)] = (owner, reference, size)
        self.owners_bytes += size
        while len(self.owners) > OWNERS_MAX or self.owners_bytes > OWNERS_BYTES_MAX:
            _, (_, _, gone) = self.owners.popitem(last=False)
            self.owners_bytes -= gone

    def count(self, outcome: str, pages: int, size: int) -> None:
        self.metrics.chunks.add(pages, outcome)
        self.metrics.chunk_bytes.add(size, outcome)

    # -- committing, in the log's threads

    def take(self, segment: int) -> list[Pack]:
        """The packs to write before `segment`; a new one is begun."""
        if not self.pending.size:
            return []
        with self.lock:
            packs = [*self.filled, self.pending]
            self.filled, self.pending = [], self.begin()
            for pack in packs:
                self.sizes[pack.number] = pack.size
                self.came_with[pack.number] = segment
        return packs

    def begin(self) -> Pack:
        self.packs_begun += 1
        return Pack(self.packs_begun - 1)

    def reserve(self) -> Pack:
        """An empty pack for the caller to fill and write."""
        with self.lock:
            return self.begin()

    def encode(self, pack: Pack) -> tuple[str, bytes]:
        """A pack as an object: its name and bytes."""
        data = wrap(self.writer, pack.number, self.nonce, b"".join(pack.pieces), Form.CHUNKS, self.keys)
        return chunk_name(self.writer, f"{pack.number:016d}"), data

    def narrow(self, live: Mapping[int, Sequence[Extent]]) -> None:
        """Refer to nothing in these packs from now on but to what is live: compaction is about to copy that elsewhere
        and to take them away. `live`: by pack, sorted and apart."""
        spans = {
            pack: ([each.offset for each in extents], [each.offset + each.length for each in extents])
            for pack, extents in live.items()
        }

        def is_kept(extent: Extent) -> bool:
            if extent.pack not in spans:
                return True
            starts, ends = spans[extent.pack]
            at = bisect_right(starts, extent.offset) - 1
            return at >= 0 and extent.offset + extent.length <= ends[at]

        self.change(live, lambda extents: extents if all(map(is_kept, extents)) else None)

    def redirect(self, moved: Relocations) -> None:
        """What has been copied out of packs is referred to where it is now."""

        def there(extents: Sequence[Extent]) -> Sequence[Extent] | None:
            found = merged(moved.follow(extents))
            return None if any(each.pack in moved.runs for each in found) else found

        self.change(moved.runs, there)

    def change(self, packs: Container[int], new: Callable[[Sequence[Extent]], Sequence[Extent] | None]) -> None:
        """Put `new(extents)` in the place of all extents in `packs`, or nothing if that is None. References are made
        anew when they are asked for. The search takes a while; `save` waits only for the changes."""
        pages = [(name, each, new((each,))) for name, each in list(self.pages.items()) if each.pack in packs]
        blocks = [
            (name, each, new(each))
            for name, each in list(self.blocks.items())
            if any(extent.pack in packs for extent in each)
        ]
        with self.lock:
            for name, page, extents in pages:
                if self.pages.get(name) is page:
                    if extents is None or len(extents) != 1:
                        del self.pages[name]
                    else:
                        self.pages[name] = extents[0]
            for name, block, extents in blocks:
                if self.blocks.get(name) is block:
                    if extents is None:
                        del self.blocks[name]
                    else:
                        self.blocks[name] = tuple(extents)
            for digest, reference in list(self.references.items()):
                if any(pack in packs for pack in needs(reference)):
                    del self.references[digest]
            for key, (_, reference, size) in list(self.owners.items()):
                if any(pack in packs for pack in needs(reference)) and self.owners.pop(key, None) is not None:
                    self.owners_bytes -= size

    # -- loading

    def load(self, reference: bytes) -> bytearray:
        """The buffer that `reference` names. Raises: DamagedError when any byte of it is not as it was saved."""
        wanted = Reference.unpack(reference)
        relocated = ""
        while True:
            try:
                return self.read(wanted, Relocations.unpack(relocated))
            except NotFoundError:  # compaction has moved it; perhaps once more while we looked
                known, relocated = relocated, current_base(self.store, wanted.writer, self.keys).relocated
                if relocated == known:
                    raise

    def read(self, wanted: Reference, relocations: Relocations) -> bytearray:
        extents = list(wanted.extents)
        if wanted.map is not None:
            listed = b"".join(self.pieces(wanted.writer, relocations.follow([wanted.map])))
            extents = list(unpack_extents(listed))
        data = bytearray()
        for piece in self.pieces(wanted.writer, relocations.follow(extents)):
            data += piece
        if len(data) != wanted.length or tree_digest(memoryview(data)) != wanted.digest:
            name = chunk_name(wanted.writer, f"{wanted.packs[0][0]:016d}") if wanted.packs else wanted.writer
            raise DamagedError("read", name, "a large buffer in it is not as it was saved", -1)
        return data

    def pieces(self, writer: str, extents: list[Extent]) -> list[memoryview]:
        """The bytes of each extent, one read per pack."""
        spans: dict[int, tuple[int, int]] = {}
        for each in extents:
            first, last = spans.get(each.pack, (each.offset, each.offset))
            spans[each.pack] = min(first, each.offset), max(last, each.offset + each.length)
        bodies = {pack: (first, self.span(writer, pack, first, last)) for pack, (first, last) in spans.items()}
        out = []
        for each in extents:
            first, body = bodies[each.pack]
            out.append(body[each.offset - first : each.offset - first + each.length])
        return out

    def span(self, writer: str, pack: int, first: int, last: int) -> memoryview:
        name = chunk_name(writer, f"{pack:016d}")
        if not self.keys.encryption_required:
            return memoryview(self.store.read(name, first, last - first))
        _, body = unwrap(name, self.store.read(name), self.keys)
        return body[first:last]


def needs(reference: bytes) -> list[int]:
    """The packs that a reference needs."""
    return [pack for pack, _ in Reference.unpack(reference).packs]


def merged(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes in as few extents as they are."""
    out: list[Extent] = []
    for each in extents:
        if out and out[-1].pack == each.pack and out[-1].offset + out[-1].length == each.offset:
            out[-1] = Extent(each.pack, out[-1].offset, out[-1].length + each.length)
        else:
            out.append(each)
    return out


def tree_digest(data: memoryview) -> bytes:
    digest = blake3()
    for start in range(0, len(data), BLOCK_BYTES):
        digest.update(blake3(data[start : start + BLOCK_BYTES]).digest())
    return digest.digest()
