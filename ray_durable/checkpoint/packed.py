"""The form of small segments: their columns' bytes one after the other, made without Arrow.

A commit of a few records happens when nobody else runs, right after the thread has slept in fsync, so that all code it
touches is cold; an Arrow batch, which touches much, took some 200 µs there. The columns are laid out as Arrow has them
in memory: for text and bytes the offsets, then the values.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any
from zlib import crc32

import pyarrow as pa

__all__ = ["pack", "unpack"]


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


def unpack(data: memoryview, count: int, schema: Any) -> Any:
    """The batch of `count` rows, not validated. Raises: pa.ArrowInvalid when the bytes do not suffice."""
    at = 0

    def take(size: int) -> Any:
        nonlocal at
        if size < 0 or at + size > len(data):
            raise pa.ArrowInvalid("its columns are cut off")
        at += size
        return pa.py_buffer(data[at - size : at].tobytes())  # a copy is aligned

    columns = []
    for kind in schema.types:
        if kind in (pa.string(), pa.binary()):
            ends = take(4 * (count + 1))
            buffers = [None, ends, take(memoryview(ends).cast("i")[count] if ends.size else 0)]
        else:
            buffers = [None, take(count * kind.bit_width // 8)]
        columns.append(pa.Array.from_buffers(kind, count, buffers))
    if at != len(data):
        raise pa.ArrowInvalid("there is something behind its columns")
    return pa.RecordBatch.from_arrays(columns, schema=schema)
