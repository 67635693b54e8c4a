"""The form of small segments and parts: their columns' bytes one after the other, written and read without Arrow.

A commit of a few records happens when nobody else runs, right after the thread has slept in fsync, so that all code it
touches is cold; an Arrow batch, which touches much, takes long there. Reading a few records is quicker without Arrow
too; with many of them the difference goes. The columns are laid out as Arrow has them in memory: for text and bytes
the offsets, then the values.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple
from zlib import crc32

__all__ = ["Columns", "pack", "unpack"]


def pack(rows: Sequence[tuple[Any, ...]]) -> tuple[bytes, bytes]:
    """The columns of `rows` (see `segment.Row`): all but the states, and the states."""
    ids, epochs, seqs, kinds, states, consumed, codecs, _ = zip(*rows, strict=True)
    texts = [id.encode() for id in ids]
    metadata = b"".join(
        (
            offsets(texts),
            *texts,
            array("q", epochs).tobytes(),
            array("q", seqs).tobytes(),
            bytes(kinds),
            bytes(codecs),
            array("I", map(crc32, states)).tobytes(),
            offsets(consumed),
            *consumed,
        )
    )
    return metadata, b"".join((offsets(states), *states))


def offsets(values: Sequence[bytes]) -> bytes:
    return array("i", accumulate(map(len, values), initial=0)).tobytes()


class Columns(NamedTuple):
    """A small segment's columns, by row."""

    coroutines: list[str]
    epochs: list[int]
    seqs: list[int]
    kinds: list[int]
    codecs: list[int]
    checksums: list[int]
    consumed: list[bytes]
    states: list[bytes]


def unpack(data: memoryview, count: int) -> Columns:
    """The columns of `count` rows; their states are not checked yet. Raises: ValueError for bytes that `pack` does not
    make."""
    ids, at = values(data, 0, count)
    numbers: list[list[int]] = []
    for form, size in (("q", 8 * count), ("q", 8 * count), ("B", count), ("B", count), ("I", 4 * count)):
        column = data[at : at + size]
        if len(column) != size:
            raise ValueError("its columns are cut off")
        numbers.append(column.cast(form).tolist())  # type: ignore[call-overload]
        at += size
    consumed, at = values(data, at, count)
    states, at = values(data, at, count)
    if at != len(data):
        raise ValueError("there is something behind its columns")
    epochs, seqs, kinds, codecs, checksums = numbers
    return Columns([id.decode() for id in ids], epochs, seqs, kinds, codecs, checksums, consumed, states)


def values(data: memoryview, at: int, count: int) -> tuple[list[bytes], int]:
    """A column of texts or bytes that begins at `at`, and where it ends. Raises: ValueError."""
    start = at + 4 * (count + 1)
    if start > len(data):
        raise ValueError("its columns are cut off")
    ends = data[at:start].cast("i").tolist()
    if ends[0] != 0 or start + ends[-1] > len(data) or any(end < begin for begin, end in pairwise(ends)):
        raise ValueError("its columns are cut off or overlap")
    body = data[start : start + ends[-1]].tobytes()
    return [body[begin:end] for begin, end in pairwise(ends)], start + ends[-1]
