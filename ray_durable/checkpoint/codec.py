"""State to bytes and back: one pickle per coroutine, so that identity within it is kept.

The pickler is C's, protocol 5, with the compiler's reducers for frames, and one per thread is used again and again (a
new one costs 0.6 µs, as much as pickling a small state). What it refuses, or would name by `__main__`, goes to the
compiler's pickler, which takes functions and classes by value; what that refuses too is named, with the path to it.
Large buffers go to `chunks`, if given: stored once, and only what has changed at the next checkpoint.

Nothing here checks anything that it loads: bytes come from a log, which has verified them.
"""

from __future__ import annotations

import pickle
import struct
from collections import deque
from typing import Any, Protocol

from ray_durable.checkpoint.tensors import reducer_of
from ray_durable.compiler import references
from ray_durable.errors import CannotSaveError, StoreError

__all__ = ["CHUNKED", "LARGE_BYTES", "BufferStore", "dumps", "dumps_given", "loads", "reduces"]

LARGE_BYTES = 64 << 10
"""Buffers from this size on go to chunks; smaller ones stay in the pickle."""

CHUNKED = b"\x93rdchunk"
"""How a state begins whose large buffers lie elsewhere; a pickle begins with 0x80."""
COUNTS = struct.Struct("<II")
PART = struct.Struct("<?I")
IDLE_MAX = 16

MAIN = b"\x8c\x08__main__\x94"  # a class or function of `__main__` by name: another process has another one
MAIN_LENGTH = MAIN[1]  # one byte is looked for in a fifth of the time

REFUSALS = (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError, NotImplementedError)
"""What picklers and `__reduce__` methods raise for what they will not do."""


class BufferStore(Protocol):
    """Where large buffers go; `chunks.Chunks` is one."""

    def save(self, data: memoryview, owner: Any) -> bytes:
        """Keep `data`, and return a reference to it. `owner`: the object that it belongs to if it never changes."""

    def load(self, reference: bytes) -> bytearray:
        """What was kept. Raises: DamagedError, NotFoundError."""


REDUCERS: dict[type, Any] = {}
"""How objects of further types are pickled here, and nowhere else."""


def reduces(kind: type, reducer: Any) -> None:
    """Have objects of exactly this type pickled by `reducer`, which returns what a `__reduce__` does."""
    REDUCERS[kind] = reducer


class Reducers(references.Table):
    """The compiler's, and those of libraries whose objects have large buffers that they would copy."""

    def __missing__(self, kind: type) -> Any:
        found = REDUCERS.get(kind) or reducer_of(kind)
        if found is None:
            return super().__missing__(kind)
        self[kind] = found
        return found


class ByValue(pickle.Pickler):
    """Functions and classes that no import finds go by source. Unlike the compiler's own, its table is the instance's:
    C's pickler heeds that only where the class has none."""

    def reducer_override(self, obj: Any) -> Any:
        return references.reducer_override(obj)


class Pickling:
    """A pickler that is used again and again, and where it writes to."""

    __slots__ = ("buffers", "out_of_band", "parts", "pickler", "write")

    def __init__(self, kind: type[pickle.Pickler] = pickle.Pickler, *, by_key: bool = False) -> None:
        self.parts: list[bytes] = []
        self.write = self.parts.append
        self.buffers: list[pickle.PickleBuffer] = []
        self.out_of_band = False
        self.pickler = kind(self, 5, buffer_callback=self.keep_in_band)
        table = references.dispatch_table(by_key=by_key, functions=kind is pickle.Pickler)
        self.pickler.dispatch_table = Reducers(table)

    def keep_in_band(self, buffer: pickle.PickleBuffer) -> bool:
        if not self.out_of_band or buffer.raw().nbytes < LARGE_BYTES:
            return True
        self.buffers.append(buffer)
        return False


IDLE: tuple[deque[Pickling], deque[Pickling]] = deque(maxlen=IDLE_MAX), deque(maxlen=IDLE_MAX)
"""Picklers that nobody uses just now: with code in the pickle, and with code by key."""


def dumps(state: Any, chunks: BufferStore | None = None, *, by_key: bool = False) -> bytes:
    """`state` as bytes for `Log.append`. Large buffers go to `chunks`, if given (`log.chunks`).

    `by_key`: frames only name their code, which the caller stores beside the checkpoints (`identity.exported`); else
    code that no import finds is in the bytes.
    Raises: CannotSaveError, naming the value that cannot be saved and the path to it.
    Example: log.append(id, epoch, seq, Kind.CHECKPOINT, dumps(state))
    """
    idle = IDLE[by_key]
    try:
        pickling = idle.pop()
    except IndexError:  # other threads use them, or a reducer has come here again
        pickling = Pickling(by_key=by_key)
    pickling.out_of_band = chunks is not None
    try:
        pickling.pickler.dump(state)
    except REFUSALS:  # a pickler that failed is not used again
        return by_value(state, chunks, by_key)
    pickling.pickler.clear_memo()
    parts, buffers = pickling.parts, pickling.buffers
    if len(parts) == 1 and not buffers:
        data = parts[0]
    else:
        data = b"".join(parts) if chunks is None else with_chunks(parts, buffers, chunks)
        buffers.clear()
    parts.clear()
    idle.append(pickling)
    return by_value(state, chunks, by_key) if MAIN_LENGTH in data and MAIN in data else data


def dumps_given(value: Any, given: str, function: str) -> bytes:
    """`dumps` of what a function is given or gives. `given` says what that is, one of `CannotSaveError.GIVEN`.

    Raises: CannotSaveError, which says so."""
    try:
        return dumps(value)
    except CannotSaveError as refusal:
        raise refusal.of(given, function) from None


def by_value(state: Any, chunks: BufferStore | None, by_key: bool) -> bytes:
    """`state` with the source of functions and classes that no import finds. Raises: CannotSaveError."""
    pickling = Pickling(ByValue, by_key=by_key)
    pickling.out_of_band = chunks is not None
    try:
        pickling.pickler.dump(state)
    except REFUSALS as refusal:
        raise cannot_save(state, refusal) from refusal
    return b"".join(pickling.parts) if chunks is None else with_chunks(pickling.parts, pickling.buffers, chunks)


def cannot_save(state: Any, refusal: Exception) -> CannotSaveError:
    """The error for a state that no pickler takes: which value, where, and why."""
    found = references.find_unpicklable(state)
    if found is None:
        return CannotSaveError("state", type(state).__name__, str(refusal) or type(refusal).__name__)
    kind = type(found.value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return CannotSaveError(found.path, name, found.reason, found.function, found.filename, found.lineno)


def with_chunks(parts: list[bytes], buffers: list[pickle.PickleBuffer], chunks: BufferStore) -> bytes:
    """A pickle whose large parts are replaced by references.

    C's pickler hands a large `bytes` object to `write` as it is, so that is a part of its own here, whose identity
    says that it has not changed.
    """
    out = [CHUNKED, COUNTS.pack(len(parts), len(buffers))]
    for part in parts:
        large = len(part) >= LARGE_BYTES
        data = chunks.save(memoryview(part), part) if large else part
        out += (PART.pack(large, len(data)), data)
    for buffer in buffers:
        raw = buffer.raw()
        data = chunks.save(raw, raw.obj if is_immutable(raw.obj) else None)
        out += (PART.pack(raw.readonly, len(data)), data)
    return b"".join(out)


def is_immutable(owner: Any) -> bool:
    return type(owner) is bytes or (type(owner).__module__ == "pyarrow.lib" and not getattr(owner, "is_mutable", True))


def loads(data: bytes, chunks: BufferStore | None = None) -> Any:
    """What `dumps` was given, from bytes that a log has verified. `chunks`: where its large buffers are.

    Raises: whatever the classes in it raise when they are made again; DamagedError for a chunk that is not as it was.
    """
    if not data.startswith(CHUNKED):
        return pickle.loads(data)
    if chunks is None:
        raise StoreError("load", "chunks", "the state has large buffers in the store, and no chunks to read them by")
    n_parts, n_buffers = COUNTS.unpack_from(data, len(CHUNKED))
    offset = len(CHUNKED) + COUNTS.size
    parts, buffers = [], []
    for n in range(n_parts + n_buffers):
        flag, length = PART.unpack_from(data, offset)
        offset += PART.size
        piece = data[offset : offset + length]
        offset += length
        if n < n_parts:
            parts.append(chunks.load(piece) if flag else piece)
        else:
            buffer = chunks.load(piece)
            buffers.append(memoryview(buffer).toreadonly() if flag else buffer)
    return pickle.loads(b"".join(parts), buffers=buffers)
