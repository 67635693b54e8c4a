"""Random bytes, flipped bits and cut objects: never a crash, never a load. Over 100,000 inputs in all."""

import random

import pytest

from ray_durable.checkpoint.archive import ArchiveRow, archive_name, encode_archive, read_archive
from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.fencing import Seal
from ray_durable.checkpoint.footer import FOOTER_BYTES, Form, wrap
from ray_durable.checkpoint.keys import NO_KEYS
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.reading import Base, decode_plan
from ray_durable.checkpoint.record import Consumed, Kind, Record
from ray_durable.checkpoint.references import find_references
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.salvage import salvage
from ray_durable.checkpoint.segment import decode, encode, rows_of
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import DamagedError

NAME = segment_name("w", 3)
STATES = [b"small", b"x" * 300, bytes(range(256)) * 40, b""]


def segment(large):
    records = [
        Record(f"c{n}", 1, n, Kind.CHECKPOINT, STATES[n % (4 if large else 2)] * (20 if large else 1))
        for n in range(30 if large else 2)
    ]
    return encode("w", 3, b"n" * 16, rows_of(records))


SMALL, LARGE = segment(False), segment(True)


def mutate(chance, data):
    """A damaged copy: bits flipped, bytes replaced, a piece cut, doubled or moved; never the same bytes."""
    while True:
        out = bytearray(data)
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            at = chance.randrange(len(out)) if out else 0
            match chance.randrange(6):
                case 0 | 1 if out:
                    out[at] ^= 1 << chance.randrange(8)
                case 2 if out:
                    out[at] = chance.randrange(256)
                case 3:
                    del out[at : at + chance.choice([1, 8, 64, 4000])]
                case 4:
                    out[at:at] = out[at : at + chance.choice([1, 8, 64])]
                case 5:
                    out[at : at + 8] = chance.randbytes(8)
        if bytes(out) != data:
            return bytes(out)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("whole", [SMALL, LARGE], ids=["small", "large"])
def test_no_damaged_segment_loads(whole):
    chance = random.Random(len(whole))
    for _ in range(30_000):
        damaged = mutate(chance, whole)
        if damaged == whole:
            continue
        with pytest.raises(DamagedError):
            decode(NAME, damaged)


@pytest.mark.timeout(200)
def test_what_is_salvaged_is_what_was_written():
    chance = random.Random(5)
    written = {record.coroutine: record for record in decode(NAME, LARGE).records()}
    found = 0
    for _ in range(6_000):
        try:
            left = salvage(NAME, mutate(chance, LARGE))
        except DamagedError:
            continue
        found += len(left.good)
        for record in left.good:
            known = written[record.coroutine]
            assert (record.state, record.place, record.kind) == (known.state, known.place, known.kind)
    assert found > 1000


@pytest.mark.timeout(200)
def test_arrow_data_that_its_footer_vouches_for_is_refused_too():
    """A forger without keys can make any digest fit: then Arrow itself must not be trusted with what it reads."""
    from ray_durable.checkpoint.footer import PACKED, TIMED

    chance = random.Random(6)
    small_body, large_body = SMALL[: -FOOTER_BYTES - 1], LARGE[: -FOOTER_BYTES - 1]
    refused = 0
    for n in range(12_000):
        body, flags = (small_body, chance.choice([PACKED, PACKED | TIMED])) if n % 2 else (large_body, 0)
        forged = wrap("w", 3, b"n" * 16, mutate(chance, body), Form.RECORDS, flags=flags)
        try:
            for record in decode(NAME, forged).records():
                assert isinstance(record.state, bytes)
        except DamagedError:
            refused += 1
    assert refused > 6_000


@pytest.mark.timeout(200)
def test_random_bytes_are_nothing_to_anybody():
    chance = random.Random(7)
    store = MemoryStore()
    chunks = Chunks(store, "w")
    readers = [
        lambda data: decode(NAME, data),
        lambda data: decode_plan(NAME, data, NO_KEYS),
        lambda data: salvage(NAME, data),
        Seal.unpack,
        Base.unpack,
        chunks.load,
        lambda data: Relocations.unpack(data.decode("latin-1")),
    ]
    for n in range(20_000):
        data = chance.randbytes(chance.choice([0, 3, 50, 200, 1000]))
        if n % 3 == 0:
            data += SMALL[-FOOTER_BYTES - 1 :]
        for read in readers:
            try:
                read(data)
            except (DamagedError, ValueError):
                continue
            assert data in (b"",), (read, data)
        assert find_references(data) == []
        Consumed.unpack(data)


@pytest.mark.timeout(200)
def test_no_damaged_archive_loads():
    chance = random.Random(8)
    store = MemoryStore()
    whole = encode_archive([ArchiveRow(Record("a", 1, 2, Kind.COMPLETED, b"result"), {"function": "f"})], "w")
    name = archive_name("w", whole)
    for _ in range(5_000):
        store.objects[name] = mutate(chance, whole)
        with pytest.raises(DamagedError):
            read_archive(store, name)


@pytest.mark.timeout(200)
def test_no_damaged_chunk_loads():
    chance = random.Random(9)
    chunks = Chunks(MemoryStore(), "w")
    reference = chunks.save(memoryview(chance.randbytes(70_000)))
    (pack,) = chunks.take(0)
    name, whole = chunks.encode(pack)
    for _ in range(2_000):
        damaged = mutate(chance, whole)
        chunks.store.objects[name] = damaged
        if damaged[:70_000] == whole[:70_000]:
            assert bytes(chunks.load(reference)) == whole[:70_000]
            continue
        with pytest.raises(DamagedError):
            chunks.load(reference)
