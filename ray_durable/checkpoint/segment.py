"""A batch of records as one object: an Arrow IPC stream, one column per field, with a footer that vouches for it.

The footer stands behind Arrow's end mark, so any Arrow reader opens an unencrypted segment as it is; only objects of a
few records, which would be mostly schema, have a form of their own (`packed`). Beside the footer's digest of all bytes,
a digest of all columns but the states lets `salvage` tell whose records a damaged object held, and a CRC per record
which states are still good.

Segments are written once and soon compacted, so the quick LZ4 is for them; parts stay, and are packed by zstd, which
takes longer, to about half of that.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from zlib import crc32

import pyarrow as pa
from blake3 import blake3

from ray_durable.checkpoint.footer import PACKED, TIMED, VERSION, Footer, Form, unwrap, wrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import part_name, segment_name
from ray_durable.checkpoint.packed import Columns, pack, unpack
from ray_durable.checkpoint.record import Codec, Kind, Record
from ray_durable.errors import DamagedError

PANDAS = "pandas"
COMPRESS_FROM_BYTES = 16_000
ARROW_FROM_BYTES = 4_000
PACKED_RECORDS_MAX = 256
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

Row = tuple[str, int, int, int, bytes, bytes, int, Any]
"""coroutine, epoch, seq, kind, state, consumed, codec, token: as `Log.append` gathers them. The token is not stored."""

TIME = pa.field("time_ms", pa.int64())
FIELDS = [
    pa.field("coroutine", pa.string()),
    pa.field("epoch", pa.int64()),
    pa.field("seq", pa.int64()),
    pa.field("kind", pa.uint8()),
    pa.field("codec", pa.uint8()),
    pa.field("checksum", pa.uint32()),
    pa.field("consumed", pa.binary()),
    pa.field("state", pa.binary()),
]
METADATA = {"ray_durable": str(VERSION)}
SCHEMA = pa.schema(FIELDS, metadata=METADATA)
TIMED_SCHEMA = pa.schema([TIME, *FIELDS], metadata=METADATA)
"""Of parts, whose records are of different times; the time of a segment's is in its footer."""
SCHEMA_MESSAGE = {schema: schema.serialize().to_pybytes() for schema in (SCHEMA, TIMED_SCHEMA)}
READ = pa.ipc.IpcReadOptions(use_threads=False)
QUICK = pa.ipc.IpcWriteOptions(compression=pa.Codec("lz4"), use_threads=False)
SMALL = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)


def encode(
    writer: str,
    number: int,
    nonce: bytes,
    rows: Sequence[Row],
    form: Form = Form.RECORDS,
    keys: Keys = NO_KEYS,
    *,
    time_ms: int = 0,
    times_ms: Sequence[int] | None = None,
) -> bytes:
    """The object that holds `rows`: at least one, with less than 2 GiB of state. `time_ms`: when it was committed, in
    milliseconds since the epoch; `times_ms`: of each row, in a part."""
    size = sum([len(row[4]) for row in rows])
    if size < ARROW_FROM_BYTES and len(rows) <= PACKED_RECORDS_MAX:
        packed, states = pack(rows)
        times, flags = (b"", PACKED) if times_ms is None else (array("q", times_ms).tobytes(), PACKED | TIMED)
        body = b"".join((len(rows).to_bytes(4, "little"), times, packed, states))
        metadata = blake3(packed).digest(16)
        return wrap(writer, number, nonce, body, form, keys, metadata=metadata, flags=flags, time_ms=time_ms)
    columns = encode_columns(rows)
    metadata = metadata_digest(columns)
    schema = SCHEMA
    if times_ms is not None:
        columns.insert(0, numbers(pa.int64(), array("q", times_ms)))
        schema = TIMED_SCHEMA
    packing = QUICK if times_ms is None else SMALL
    message = serialized(pa.RecordBatch.from_arrays(columns, schema=schema), size, packing)
    body = b"".join((SCHEMA_MESSAGE[schema], message, END_OF_STREAM))
    return wrap(writer, number, nonce, body, form, keys, metadata=metadata, time_ms=time_ms)


def serialized(batch: Any, size: int, packing: Any) -> Any:
    """The batch as one IPC message, packed if it is worth it."""
    if size < COMPRESS_FROM_BYTES:
        return batch.serialize()
    sink = pa.BufferOutputStream()
    with pa.ipc.RecordBatchStreamWriter(sink, batch.schema, options=packing) as stream:
        stream.write_batch(batch)
    return sink.getvalue()[len(SCHEMA_MESSAGE[batch.schema]) : -len(END_OF_STREAM)]


def encode_columns(rows: Sequence[Row]) -> list[Any]:
    ids, epochs, seqs, kinds, states, consumed, codecs, _ = zip(*rows, strict=True)
    return [
        texts(ids),
        numbers(pa.int64(), array("q", epochs)),
        numbers(pa.int64(), array("q", seqs)),
        numbers(pa.uint8(), bytes(kinds)),
        numbers(pa.uint8(), bytes(codecs)),
        numbers(pa.uint32(), array("I", map(crc32, states))),
        binaries(consumed),
        binaries(states),
    ]


def texts(values: Sequence[str]) -> Any:
    """A column of them. `pa.array` is quicker by a little, but the first call of it loads pandas, where that is
    installed: a fourth of a second in the middle of a commit, and 50 MiB, for nothing."""
    if PANDAS in sys.modules:
        return pa.array(values, pa.string())
    joined = "".join(values)
    data = joined.encode()
    if len(data) != len(joined):
        return column(pa.string(), [len(each.encode()) for each in values], data)
    return column(pa.string(), map(len, values), data)


def binaries(values: Sequence[bytes]) -> Any:
    """As `texts`."""
    if PANDAS in sys.modules:
        return pa.array(values, pa.binary())
    return column(pa.binary(), map(len, values), b"".join(values))


def column(kind: Any, lengths: Iterable[int], data: bytes) -> Any:
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def numbers(kind: Any, values: Any) -> Any:
    """A column over the memory of `values`."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


@dataclass(frozen=True, slots=True)
class Segment:
    """One verified object of a log with its columns; states are taken out one by one, on demand."""

    name: str
    footer: Footer
    size: int
    coroutines: list[str]
    epochs: list[int]
    seqs: list[int]
    kinds: list[int]
    codecs: list[int]
    checksums: list[int]
    consumed: list[bytes]
    times_ms: list[int]
    states: Any = field(repr=False)
    """The Arrow column, or in a small segment a list of bytes."""

    def __len__(self) -> int:
        return len(self.coroutines)

    def is_plain(self) -> bool:
        """Whether it holds nothing but checkpoints that only the newest of each coroutine counts of."""
        return (
            self.kinds.count(Kind.CHECKPOINT) == len(self)
            and not any(self.consumed)
            and not any(codec & Codec.KEPT for codec in set(self.codecs))
        )

    def state(self, row: int) -> bytes:
        """Raises: DamagedError."""
        state: bytes = self.states[row] if self.footer.flags & PACKED else self.states[row].as_py()
        if crc32(state) != self.checksums[row]:
            raise DamagedError("read", self.name, f"record {row} fails its checksum", -1, (self.coroutines[row],))
        return state

    def states_at(self, rows: list[int]) -> list[bytes]:
        """Several states at once, which is much quicker; not compared with their checksums."""
        if self.footer.flags & PACKED:
            return [self.states[row] for row in rows]
        found: list[bytes] = self.states.take(numbers(pa.int64(), array("q", rows))).to_pylist()
        return found

    def states_bytes(self) -> int:
        """How long all states are, about."""
        return sum(map(len, self.states)) if self.footer.flags & PACKED else int(self.states.nbytes)

    def state_bytes(self, row: int) -> int:
        """How long a state is, which is not read for that."""
        return len(self.states[row] if self.footer.flags & PACKED else self.states[row].as_buffer())

    def record(self, row: int) -> Record:
        return Record(
            self.coroutines[row],
            self.epochs[row],
            self.seqs[row],
            Kind(self.kinds[row]),
            self.state(row),
            self.consumed[row],
            self.codecs[row],
            self.times_ms[row],
        )

    def records(self) -> Iterator[Record]:
        return map(self.record, range(len(self)))


def decode(name: str, data: bytes, keys: Keys = NO_KEYS) -> Segment:
    """Verify an object of a log and read its columns. Raises: DamagedError, also for one that has another's name."""
    footer, body = unwrap(name, data, keys)
    if written_as(footer) != name:
        raise DamagedError("read", name, f"it was written as {written_as(footer)}", footer.start)
    return from_body(name, footer, body, len(data))


def written_as(footer: Footer) -> str:
    """The name that an object with records had at first. A part has its own in the place of the writer's nonce."""
    if footer.form is Form.PART:
        return part_name(footer.writer, footer.nonce.hex())
    if footer.form in (Form.RECORDS, Form.SEAL):
        return segment_name(footer.writer, footer.number)
    return f"a {footer.form.name.lower()} of {footer.writer!r}"


def from_body(name: str, footer: Footer, body: memoryview, size: int) -> Segment:
    if footer.flags & PACKED:
        return from_packed(name, footer, body, size)
    try:
        batch = read_batch(footer, pa.py_buffer(body))
        batch.validate(full=True)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        kinds = [] if any(column.null_count for column in batch.columns) else numbers_of(columns["kind"])
        if len(kinds) != len(batch) or not KINDS.issuperset(kinds):
            raise DamagedError("read", name, "it holds records of no known kind", 0)
        return Segment(
            name,
            footer,
            size,
            columns["coroutine"].to_pylist(),
            numbers_of(columns["epoch"]),
            numbers_of(columns["seq"]),
            kinds,
            numbers_of(columns["codec"]),
            numbers_of(columns["checksum"]),
            columns["consumed"].to_pylist(),
            numbers_of(columns["time_ms"]) if "time_ms" in columns else [footer.time_ms] * len(kinds),
            columns["state"],
        )
    except (pa.ArrowException, StopIteration, UnicodeDecodeError, OSError) as error:
        raise DamagedError("read", name, f"its Arrow data cannot be read ({error})", 0) from error


def from_packed(name: str, footer: Footer, body: memoryview, size: int) -> Segment:
    try:
        times_ms, (ids, epochs, seqs, kinds, codecs, checksums, consumed, states) = unpacked(footer, body)
    except ValueError as error:
        raise DamagedError("read", name, f"its columns cannot be read ({error})", 0) from error
    if not KINDS.issuperset(kinds):
        raise DamagedError("read", name, "it holds records of no known kind", 0)
    return Segment(name, footer, size, ids, epochs, seqs, kinds, codecs, checksums, consumed, times_ms, states)


def unpacked(footer: Footer, body: memoryview) -> tuple[list[int], Columns]:
    """The times of a small object's records, and their columns. Raises: ValueError."""
    count = int.from_bytes(body[:4], "little")
    if not footer.flags & TIMED:
        columns = unpack(body[4:], count)
        return [footer.time_ms] * count, columns
    start = 4 + 8 * count
    if start > len(body):
        raise ValueError("its times are cut off")
    return body[4:start].cast("q").tolist(), unpack(body[start:], count)


ARRAY_TYPES = {pa.int64(): "q", pa.uint32(): "I", pa.uint8(): "B"}


def numbers_of(column: Any) -> list[int]:
    """A validated column of numbers without nulls, quicker than its `to_pylist`."""
    if not len(column):
        return []
    width = column.type.bit_width // 8
    values = memoryview(column.buffers()[1])[width * column.offset : width * (column.offset + len(column))]
    return array(ARRAY_TYPES[column.type], values.tobytes()).tolist()


def read_batch(footer: Footer, body: Any) -> Any:
    """Raises: pa.ArrowException and others for what is no batch of ours."""
    if footer.flags & PACKED:
        _, columns = unpacked(footer, memoryview(body))
        return pa.RecordBatch.from_pydict(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA)
    with pa.ipc.open_stream(body, options=READ) as stream:
        batch = stream.read_next_batch()
    if not (batch.schema.equals(SCHEMA) or batch.schema.equals(TIMED_SCHEMA)):
        raise pa.ArrowInvalid("its columns are not ours")
    return batch


KINDS = frozenset(int(kind) for kind in Kind)


def metadata_digest(columns: Sequence[Any]) -> bytes:
    """A digest of every column but the states, over their values (not their stored, perhaps compressed, bytes)."""
    digest = blake3()
    for column in columns[:-1]:
        n = len(column)
        _, *buffers = column.buffers()
        if len(buffers) == 2:
            offsets, values = buffers
            used = memoryview(offsets)[: 4 * (n + 1)]
            digest.update(used)
            if values is not None:
                digest.update(memoryview(values)[: used.cast("i")[n]])
        else:
            digest.update(memoryview(buffers[0])[: n * column.type.bit_width // 8])
    return digest.digest(16)


def rows_of(records: Iterable[Record]) -> list[Row]:
    """Records in the shape that `encode` takes."""
    return [(r.coroutine, r.epoch, r.seq, int(r.kind), r.state, r.consumed, r.codec, None) for r in records]
