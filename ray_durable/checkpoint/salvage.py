"""Damaged objects: whose records they held, and which of their states are still good.

A segment that fails its digest is refused as a whole by every ordinary reader. Here its parts are looked at one by one:
if all columns but the states fit their own digest, it is known whose records these were, and each state that fits its
CRC can be had. A signed store is given nothing back from an object whose signature does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import pyarrow as pa

from ray_durable.checkpoint.footer import Footer, read_footer
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.record import Kind, Record
from ray_durable.checkpoint.segment import FIELDS, KINDS, metadata_digest, read_batch
from ray_durable.errors import DamagedError


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What is left of a damaged object. `good`: records whose state is whole; `lost`: coroutines with one that is not,
    with the place of that record."""

    name: str
    good: list[Record]
    lost: list[tuple[str, int, int]]


def salvage(name: str, data: bytes, keys: Keys = NO_KEYS) -> Salvaged:
    """Look into an object that `decode` refused. Raises: DamagedError when not even its metadata can be believed."""
    footer = read_footer(name, data)
    if keys.signing or keys.encryption_required:
        raise DamagedError("salvage", name, "the store has keys: nothing of a damaged object can be believed", -1)
    try:
        batch = read_batch(footer, pa.py_buffer(memoryview(data)[: footer.start]))
        batch.validate(full=True)
        batch = batch.select([field.name for field in FIELDS])
        if metadata_digest(batch.columns) != footer.metadata:
            raise DamagedError("salvage", name, "its metadata is damaged too", 0)
        return sort_out(name, footer, batch)
    except (pa.ArrowException, StopIteration, UnicodeDecodeError, KeyError, ValueError, OSError, MemoryError) as error:
        raise DamagedError("salvage", name, f"its Arrow data cannot be read ({error})", 0) from error


def sort_out(name: str, footer: Footer, batch: pa.RecordBatch) -> Salvaged:
    good: list[Record] = []
    lost: list[tuple[str, int, int]] = []
    for row in batch.to_pylist():
        if row["kind"] not in KINDS or crc32(row["state"]) != row["checksum"]:
            lost.append((row["coroutine"], row["epoch"], row["seq"]))
            continue
        good.append(
            Record(
                row["coroutine"],
                row["epoch"],
                row["seq"],
                Kind(row["kind"]),
                row["state"],
                row["consumed"],
                row["codec"],
                footer.time_ms,
            )
        )
    return Salvaged(name, good, lost)
