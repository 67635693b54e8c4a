"""How a state names a large buffer that lies in chunks beside a log, and how such names are found again in a state.

A reference is opaque to whoever carries the state, and may be nested in it at any depth: it begins with a mark that a
search finds. It says which packs it needs, and how much of each, so that whoever collects garbage need not follow it.
What it names by mistake (bytes of a user that look like the mark) only keeps something longer than needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MARK = b"\x93rdrefer"
HEAD = struct.Struct("<8sI32sQBII")  # mark, size of all, digest, length of the buffer, of the writer's name; counts
PACK = struct.Struct("<IQ")
EXTENT = struct.Struct("<IQI")
INLINE_EXTENTS = 16
MAPPED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes at `offset` in pack number `pack`."""

    pack: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A buffer of `length` bytes under the log of `writer`. `packs`: bytes needed of each pack. `extents`: where it is;
    if there are many, they are themselves stored, at `map`."""

    writer: str
    digest: bytes
    length: int
    packs: tuple[tuple[int, int], ...]
    extents: tuple[Extent, ...]
    map: Extent | None = None

    def pack(self) -> bytes:
        name = self.writer.encode()
        stored = (self.map,) if self.map is not None else self.extents
        count = len(stored) if self.map is None else MAPPED
        size = HEAD.size + len(name) + PACK.size * len(self.packs) + EXTENT.size * len(stored)
        return b"".join(
            [
                HEAD.pack(MARK, size, self.digest, self.length, len(name), len(self.packs), count),
                name,
                *(PACK.pack(*each) for each in self.packs),
                pack_extents(stored),
            ]
        )

    @classmethod
    def unpack(cls, data: bytes, start: int = 0) -> Reference:
        """Raises: ValueError for bytes that `pack` does not make."""
        try:
            mark, size, digest, length, name_length, n_packs, n_extents = HEAD.unpack_from(data, start)
            n_stored = 1 if n_extents == MAPPED else n_extents
            known = HEAD.size + name_length + PACK.size * n_packs + EXTENT.size * n_stored
            if mark != MARK or size != known or start + size > len(data):
                raise ValueError("not a reference to chunks")
            at = start + HEAD.size
            writer = data[at : at + name_length].decode()
            at += name_length
            packs = tuple(PACK.iter_unpack(data[at : at + PACK.size * n_packs]))
            stored = tuple(unpack_extents(data[at + PACK.size * n_packs : start + size]))
        except (struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"not a reference to chunks: {error}") from error
        if n_extents != MAPPED:
            return cls(writer, digest, length, packs, stored)
        return cls(writer, digest, length, packs, (), stored[0])


def pack_extents(extents: Iterable[Extent]) -> bytes:
    return b"".join([EXTENT.pack(each.pack, each.offset, each.length) for each in extents])


def unpack_extents(data: bytes) -> Iterator[Extent]:
    return (Extent(*each) for each in EXTENT.iter_unpack(data))


def find_references(state: bytes) -> list[Reference]:
    """Every reference in `state`, however deep."""
    found = []
    at = state.find(MARK)
    while at >= 0:
        try:
            found.append(Reference.unpack(state, at))
        except ValueError:
            pass  # bytes of a user that begin as ours do
        at = state.find(MARK, at + 1)
    return found
