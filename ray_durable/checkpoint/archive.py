"""Finished coroutines whose retention is over, as Parquet: one row each, for pandas, DuckDB or pyarrow as it is.

A store with keys gets its archives signed and encrypted like all else; `read_archive` opens both kinds. A janitor that
died between its archive and its base leaves an archive whose rows come once more in a later one, so a reader of several
drops what it has seen, by coroutine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from ray_durable.checkpoint.footer import Form, unwrap, wrap
from ray_durable.checkpoint.keys import NO_KEY, NO_KEYS, Keys
from ray_durable.checkpoint.names import is_ours
from ray_durable.checkpoint.record import Record
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import DamagedError

ARCHIVE = "archive/"
SCHEMA = pa.schema(
    [
        ("coroutine", pa.string()),
        ("outcome", pa.string()),
        ("finished", pa.timestamp("ms", tz="UTC")),
        ("epoch", pa.int64()),
        ("checkpoints", pa.int64()),
        ("writer", pa.string()),
        ("result", pa.binary()),
        ("about", pa.map_(pa.string(), pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """How a coroutine ended, and what its describer says of it."""

    end: Record
    about: Mapping[str, str]


def archive_name(writer: str, data: bytes) -> str:
    """An archive is named by its contents, which is how damage to plain Parquet is found."""
    return f"{ARCHIVE}{writer}-{blake3(data).hexdigest(16)}.parquet"


def encode_archive(rows: Sequence[ArchiveRow], writer: str, keys: Keys = NO_KEYS) -> bytes:
    """Parquet bytes, wrapped if there are keys."""
    columns = {
        "coroutine": [row.end.coroutine for row in rows],
        "outcome": [row.end.kind.name.lower() for row in rows],
        "finished": [row.end.time_ms for row in rows],
        "epoch": [row.end.epoch for row in rows],
        "checkpoints": [row.end.seq for row in rows],
        "writer": [writer] * len(rows),
        "result": [row.end.state for row in rows],
        "about": [list(row.about.items()) for row in rows],
    }
    table = pa.table(
        {
            name: pa.array(columns[name], pa.int64()).cast(kind)
            if name == "finished"
            else pa.array(columns[name], kind)
            for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    if keys.signing_id == NO_KEY and keys.encryption_id == NO_KEY:
        return data
    return wrap(writer, 0, bytes(16), data, Form.ARCHIVE, keys)


def read_archive(store: Store, name: str, keys: Keys = NO_KEYS) -> Any:
    """One archive as a pyarrow Table. Raises: DamagedError, NotFoundError."""
    data = store.read(name)
    if not name.endswith(archive_name("", data).removeprefix(ARCHIVE)):
        raise DamagedError("read", name, "its name is not the digest of its bytes", 0)
    if keys.signing or keys.encryption_required:
        _, body = unwrap(name, data, keys)
        data = bytes(body)
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError("read", name, f"it is not sound Parquet ({error})", -1) from error


def read_archives(store: Store, keys: Keys = NO_KEYS) -> Iterator[dict[str, Any]]:
    """Every archived coroutine once, as a dict of the archive's columns; files of other names are not looked at.
    Raises: DamagedError, StoreError."""
    seen: set[str] = set()
    for listed in store.list(ARCHIVE):
        if not is_ours(listed.name):
            continue
        for row in read_archive(store, listed.name, keys).to_pylist():
            if row["coroutine"] not in seen:
                seen.add(row["coroutine"])
                yield row
