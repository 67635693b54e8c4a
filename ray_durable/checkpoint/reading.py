"""Reading one log: its objects in order, from the newest base up to the first gap or the seal.

That contiguous prefix is all that any reader sees, the log's own writer included (rules 1 and 2). The owner may compact
while we read: then something listed is not found, and the reading starts over from a new listing. A gap below later
objects is believed only when a second listing shows it too: a directory scan that runs beside a compaction can miss a
base and still notice that its numbers are gone, but never twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from ray_durable.checkpoint.fencing import Seal, first_free
from ray_durable.checkpoint.footer import Form, unwrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import (
    base_name,
    is_ours,
    log_prefix,
    parse_log_object,
    part_name,
    plan_name,
    segment_name,
)
from ray_durable.checkpoint.segment import Segment, decode
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import DamagedError, NotFoundError, StoreError

PARALLEL = 8
NO_BASE = (0, 0)
Bases = set[tuple[int, int]]
FRESH_LISTINGS_MAX = 100


class CompactedMeanwhile(Exception):
    """A signal to start over, never seen outside: something that was listed is gone, as the log was compacted since."""


@dataclass(frozen=True, slots=True)
class Base:
    """What compaction left of everything below `number`: the parts that hold it."""

    number: int
    revision: int = 0
    parts: tuple[str, ...] = ()
    emptied: bool = False
    """The log was sealed, all of it is adopted or finished, and only its end stays."""
    relocated: str = ""
    """Where pages of packs that are gone are now, as `relocation` writes it."""

    def pack(self) -> bytes:
        return json.dumps(
            {
                "number": self.number,
                "revision": self.revision,
                "parts": self.parts,
                "emptied": self.emptied,
                "relocated": self.relocated,
            }
        ).encode()

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Base:
        """Raises: ValueError for bytes that `pack` does not make."""
        try:
            head = json.loads(bytes(data))
            return cls(
                int(head["number"]),
                int(head["revision"]),
                tuple(map(str, head["parts"])),
                bool(head["emptied"]),
                str(head["relocated"]),
            )
        except (KeyError, TypeError, UnicodeDecodeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a base: {error}") from error


@dataclass(slots=True)
class Reading:
    """What was read of one log. `digest` covers the bytes of base and segments, in order."""

    writer: str
    base: Base
    length: int
    """The first free number; a sealed log's is the seal's."""
    segments: list[Segment] = field(default_factory=list)
    """The base's parts, then the segments, oldest first; without those that are damaged."""
    fenced: bool = False
    """It has a seal: nobody can add to it. Its plan follows; until that is made, `seal` is None."""
    seal: Seal | None = None
    damage: list[DamagedError] = field(default_factory=list)
    digest: bytes = b""
    bytes_read: int = 0


def read_log(store: Store, writer: str, *, start: int = 0, keys: Keys = NO_KEYS, parallel: int = PARALLEL) -> Reading:
    """Read a log's prefix that counts. `start`: segments below it are not wanted; if the log was compacted past it, all
    of the base is. Raises: StoreError when the store fails; damage is reported in the reading, and the rest is read."""
    with ThreadPoolExecutor(parallel, thread_name_prefix="read") as pool:

        def run_all(read_one: Callable[[str], Any], names: list[str]) -> Iterable[Any]:
            return (pool.map if len(names) > 2 else map)(read_one, names)

        return read_log_with(store, writer, run_all, start, keys)


def read_log_with(
    store: Store,
    writer: str,
    run_all: Callable[[Callable[[str], Any], list[str]], Iterable[Any]],
    start: int = 0,
    keys: Keys = NO_KEYS,
) -> Reading:
    """`read_log`, with its parallel reads done by `run_all(read_one, names)`."""
    for _ in range(FRESH_LISTINGS_MAX):
        try:
            return LogReader(store, writer, run_all, keys).read(start)
        except CompactedMeanwhile:
            continue
    raise StoreError("read", log_prefix(writer), f"it changed under {FRESH_LISTINGS_MAX} readings in a row")


@dataclass(slots=True)
class LogReader:
    """One attempt to read a log."""

    store: Store
    writer: str
    run_all: Callable[[Callable[[str], Any], list[str]], Iterable[Any]]
    keys: Keys

    def read(self, start: int) -> Reading:
        bases, numbers = self.list_twice_if_gap()
        base_number, revision = max(bases, default=NO_BASE)
        reading = Reading(self.writer, Base(base_number, revision), base_number)
        digest = blake3()
        if (base_number, revision) != NO_BASE and (start < base_number or start == 0):
            self.read_base(reading, digest)
        free = first_free(base_number, numbers)
        first = start if base_number <= start <= free else base_number
        listed = [segment_name(self.writer, n) for n in range(first, free)]
        for name, found in zip(listed, self.run_all(self.fetch, listed), strict=True):
            if found is None:
                raise CompactedMeanwhile
            if self.add(reading, digest, name, found):
                break
        else:
            self.read_on(reading, digest, free)
        self.check_end(reading)
        reading.digest = digest.digest()
        return reading

    def list_twice_if_gap(self) -> tuple[Bases, set[int]]:
        """Numbers and revisions of the bases, and of the segments that no base covers."""
        bases, numbers = self.list()
        newest = max(bases, default=NO_BASE)
        if numbers and first_free(newest[0], numbers) <= max(numbers):
            again_bases, again = self.list()
            if max(again_bases, default=NO_BASE) == newest:
                return again_bases, again | numbers
            raise CompactedMeanwhile
        return bases, numbers

    def list(self) -> tuple[Bases, set[int]]:
        prefix = log_prefix(self.writer)
        found = [parse_log_object(listed.name.removeprefix(prefix)) for listed in self.store.list(prefix)]
        bases = {(each.number, each.revision) for each in found if each is not None and each.base}
        lowest = max(bases, default=NO_BASE)[0]
        return bases, {each.number for each in found if each is not None and not each.base and each.number >= lowest}

    def read_base(self, reading: Reading, digest: Any) -> None:
        whole = self.read_base_object(reading, digest)
        if not whole:
            if not reading.damage:
                raise CompactedMeanwhile  # a newer base has replaced it
            reading.base = replace(reading.base, parts=self.parts_there())
        names = [part_name(self.writer, part) for part in reading.base.parts]
        for part, found in zip(names, self.run_all(self.fetch, names), strict=True):
            if found is None:
                bases, _ = self.list()
                if max(bases, default=NO_BASE) != (reading.base.number, reading.base.revision):
                    raise CompactedMeanwhile
                if whole:
                    reading.damage.append(DamagedError("read", part, "the base names it and it is missing", -1))
                continue
            self.add(reading, digest, part, found)

    def parts_there(self) -> tuple[str, ...]:
        """All parts, when a damaged base cannot name its own. Those of an earlier base that are not deleted yet do no
        harm: of two records of a coroutine the newer one counts."""
        prefix = part_name(self.writer, "")
        found = (each.name for each in self.store.list(prefix))
        return tuple(name.removeprefix(prefix) for name in found if is_ours(name))

    def read_base_object(self, reading: Reading, digest: Any) -> bool:
        """Whether the base is there and sound; it is in `reading` then."""
        name = base_name(self.writer, reading.base.number, reading.base.revision)
        data = self.fetch(name)
        if data is None:
            return False
        digest.update(blake3(data).digest())
        reading.bytes_read += len(data)
        try:
            footer, body = unwrap(name, data, self.keys)
            base = Base.unpack(body)
            if footer.form is not Form.BASE or base_name(footer.writer, base.number, base.revision) != name:
                raise DamagedError("read", name, "it is not the base of this name", 0)
            reading.base = base
        except DamagedError as error:
            reading.damage.append(error)
            return False
        except ValueError as error:
            reading.damage.append(DamagedError("read", name, str(error), 0))
            return False
        return True

    def add(self, reading: Reading, digest: Any, name: str, data: bytes) -> bool:
        """Take one object in; whether it ends the log."""
        try:
            segment = decode(name, data, self.keys)
        except DamagedError as error:
            reading.damage.append(error)
            segment = None
        reading.bytes_read += len(data)
        if segment is not None and segment.footer.form is Form.SEAL:
            return self.add_seal(reading, segment)
        digest.update(blake3(data).digest())
        if segment is None or segment.footer.form is Form.RECORDS:
            reading.length = int(name.rpartition("/")[2]) + 1 if "/parts/" not in name else reading.length
        if segment is not None:
            reading.segments.append(segment)
        return False

    def add_seal(self, reading: Reading, segment: Segment) -> bool:
        reading.fenced, reading.length = True, segment.footer.number
        name = plan_name(self.writer, reading.length)
        data = self.fetch(name)
        if data is not None:
            try:
                reading.seal = decode_plan(name, data, self.keys)
            except DamagedError as error:
                reading.damage.append(error)
        return True

    def read_on(self, reading: Reading, digest: Any, number: int) -> None:
        """What was written since the listing, or a stale listing has left out."""
        reading.length = number
        while (data := self.fetch(name := segment_name(self.writer, number))) is not None:
            if self.add(reading, digest, name, data):
                return
            number += 1

    def check_end(self, reading: Reading) -> None:
        """Nothing but perhaps a seal is at `length`: either the log ends there, or it was compacted past that while we
        read. Then a base above it was made before anything was deleted, so a listing from now on shows one. The missing
        number is no proof of the end, nor is the seal, which a slow sealer may have put into the hole; nor is what lies
        before, though deletion goes by number, as a delayed put may have made it again."""
        base = reading.base
        if reading.length > base.number:
            before = segment_name(self.writer, reading.length - 1)
        elif (base.number, base.revision) != NO_BASE:
            before = base_name(self.writer, base.number, base.revision)
        else:
            before = None
        if before is not None:  # a directory scan beside the next compaction can miss both of its bases
            try:
                self.store.read(before, 0, 1)
            except NotFoundError:
                raise CompactedMeanwhile from None
        bases, _ = self.list()
        newest = max(bases, default=NO_BASE)
        if newest[0] > reading.length or newest < (base.number, base.revision):
            raise CompactedMeanwhile

    def fetch(self, name: str) -> bytes | None:
        try:
            return self.store.read(name)
        except NotFoundError:
            return None


def decode_plan(name: str, data: bytes, keys: Keys) -> Seal:
    """Raises: DamagedError."""
    footer, body = unwrap(name, data, keys)
    if footer.form is not Form.PLAN or plan_name(footer.writer, footer.number) != name:
        raise DamagedError("read", name, "it is not the plan of this name", 0)
    try:
        return Seal.unpack(bytes(body))
    except ValueError as error:
        raise DamagedError("read", name, str(error), 0) from error


def current_base(store: Store, writer: str, keys: Keys = NO_KEYS) -> Base:
    """The newest base of a log; one at 0 when it has none. Raises: StoreError, DamagedError."""
    for _ in range(FRESH_LISTINGS_MAX):
        reader = LogReader(store, writer, map, keys)
        number, revision = max(reader.list()[0], default=NO_BASE)
        reading = Reading(writer, Base(number, revision), number)
        if (number, revision) == NO_BASE or reader.read_base_object(reading, blake3()):
            return reading.base
        if reading.damage:
            raise reading.damage[0]
    raise StoreError("read", log_prefix(writer), f"its base changed under {FRESH_LISTINGS_MAX} readers in a row")


class Records:
    """Records of a log from some segment on, in order. After iteration `next` is where to go on, and `seal` its end.

    When the log was compacted past `start`, all that it still holds comes, older records again among it: fold by
    `(epoch, seq)`, do not count. `damage` names what could not be read.
    """

    def __init__(self, reading: Reading) -> None:
        self.next = reading.length
        self.seal = reading.seal
        self.damage = reading.damage
        self.segments = reading.segments

    def __iter__(self) -> Iterator[Any]:
        for segment in self.segments:
            yield from segment.records()


def read_records(store: Store, writer: str, start: int = 0, *, keys: Keys = NO_KEYS) -> Records:
    """The records of a log from segment `start` up to its first gap or seal: for following it step by step.

    Raises: StoreError.
    Example:
        records = read_records(store, "host-1", next)
        for record in records: ...
        next = records.next
    """
    return Records(read_log(store, writer, start=start, keys=keys))
