import random
import threading

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_durable.checkpoint.chunks import PACK_BYTES_MAX, PAGE_BYTES, Chunks, tree_digest
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.references import Extent, Reference, find_references
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import DamagedError


def saved(chunks, data, owner=None):
    """A reference to `data`, and the bytes that its commit wrote."""
    reference = chunks.save(memoryview(data), owner)
    packs = chunks.take(0)
    for pack in packs:
        chunks.store.create(*chunks.encode(pack))
    return reference, sum(pack.size for pack in packs)


@pytest.fixture
def chunks():
    return Chunks(MemoryStore(), "w")


def test_an_unchanged_buffer_is_not_written_again(chunks):
    data = bytearray(random.Random(1).randbytes(3_000_001))
    first, written = saved(chunks, data)
    assert written == len(data)
    again, none = saved(chunks, data)
    assert none == 0
    assert again == first
    assert chunks.load(again) == data


def test_a_change_writes_the_pages_that_it_touched(chunks):
    data = bytearray(random.Random(1).randbytes(4_000_000))
    before = bytes(data)
    old, _ = saved(chunks, data)
    for at in (5, 1_000_000, 3_999_999):
        data[at] ^= 1
    new, written = saved(chunks, data)
    assert written <= 3 * PAGE_BYTES
    assert chunks.load(new) == data
    assert chunks.load(old) == before


@given(st.lists(st.tuples(st.integers(0, 399_999), st.integers(1, 30_000)), max_size=10), st.integers(0, 400_000))
@settings(max_examples=25, deadline=None)
def test_any_changes_read_back(changes, cut):
    chunks = Chunks(MemoryStore(), "w")
    data = bytearray(random.Random(1).randbytes(400_000))
    references = []
    for at, length in changes:
        data[at : at + length] = bytes(len(data[at : at + length]))
        references.append((saved(chunks, data)[0], bytes(data)))
    references.append((saved(chunks, data[:cut])[0], bytes(data[:cut])))
    for reference, expected in references:
        assert chunks.load(reference) == expected


def test_equal_buffers_of_different_coroutines_are_stored_once(chunks):
    data = random.Random(1).randbytes(500_000)
    saved(chunks, bytearray(data))
    assert saved(chunks, bytearray(data))[1] == 0


def test_an_immutable_buffer_is_known_by_identity(chunks):
    data = random.Random(1).randbytes(500_000)
    first, _ = saved(chunks, data, data)
    chunks.blocks.clear()  # so that hashing again would show
    chunks.pages.clear()
    assert saved(chunks, data, data) == (first, 0)


def test_references_are_found_however_deep_they_are(chunks):
    reference, _ = saved(chunks, bytearray(300_000))
    (found,) = find_references(b"before" + reference + b"after" + reference[:20])
    assert found == Reference.unpack(reference)
    assert found.writer == "w"


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_reference_that_is_none(data):
    for state in (data, b"\x93rdrefer" + data):
        for found in find_references(state):
            assert found.pack() in state


def test_damage_to_a_chunk_is_found(chunks):
    reference, _ = saved(chunks, bytearray(random.Random(1).randbytes(300_000)))
    (name,) = chunks.store.objects
    body = bytearray(chunks.store.objects[name])
    body[1000] ^= 1
    chunks.store.objects[name] = bytes(body)
    with pytest.raises(DamagedError) as caught:
        chunks.load(reference)
    assert caught.value.name == name


def test_chunks_are_encrypted_when_a_key_is_set():
    chunks = Chunks(MemoryStore(), "w", keys=Keys(encryption=[b"k" * 32]))
    data = b"very secret " * 20_000
    reference, _ = saved(chunks, bytearray(data))
    assert all(b"very secret" not in body for body in chunks.store.objects.values())
    assert chunks.load(reference) == data


def test_chunks_are_durable_before_the_record_that_needs_them():
    store = MemoryStore()
    order = []
    create = store.create
    store.create = lambda name, data: (order.append(name), create(name, data))[1]
    log = open_log(store, "w")
    array = numpy.random.rand(100_000)
    for seq in range(3):
        array[seq] = 0
        log.append("a", 1, seq, Kind.CHECKPOINT, dumps({"array": array}, log.chunks))
        log.flush()
    assert ["chunks" in name for name in order] == [True, False] * 3
    state = recover(store, "w").coroutines["a"].latest.state
    assert (loads(state, Chunks(store, "other"))["array"] == array).all()
    log.close()


def test_a_buffer_that_changes_while_it_is_saved_is_never_half_stored(chunks):
    data = bytearray(2_000_000)
    stop = threading.Event()

    def scribble():
        chance = random.Random(3)
        while not stop.is_set():
            data[chance.randrange(len(data))] = chance.randrange(256)

    thread = threading.Thread(target=scribble)
    thread.start()
    references = [saved(chunks, data)[0] for _ in range(10)]
    stop.set()
    thread.join()
    for reference in references:
        loaded = chunks.load(reference)  # raises if its digest does not fit
        assert tree_digest(memoryview(loaded)) == Reference.unpack(reference).digest


def test_what_compaction_takes_away_is_stored_again(chunks):
    data = bytearray(random.Random(1).randbytes(300_000))
    saved(chunks, data)
    chunks.narrow({0: [Extent(0, 0, 100_000)]})  # only that is going to be copied
    reference, written = saved(chunks, data)
    kept = 100_000 - 100_000 % PAGE_BYTES
    assert written == 300_000 - kept
    assert [pack for pack, _ in Reference.unpack(reference).packs] == [0, 1]


def test_what_compaction_has_moved_is_referred_to_where_it_is(chunks):
    data = random.Random(1).randbytes(300_000)
    saved(chunks, data)
    there = chunks.reserve()
    there.add(data)
    chunks.store.create(*chunks.encode(there))
    chunks.redirect(Relocations({0: [(0, 300_000, there.number, 0)]}))
    chunks.store.objects.pop("logs/w/chunks/0000000000000000")
    reference, written = saved(chunks, data)
    assert written == 0
    assert chunks.load(reference) == data


def test_a_pack_has_a_size_that_a_slow_link_can_bear(chunks):
    data = random.Random(1).randbytes(3 * PACK_BYTES_MAX + 5)
    reference, written = saved(chunks, data)
    assert written == len(data)
    assert max(chunks.sizes.values()) <= PACK_BYTES_MAX
    assert len(chunks.sizes) == 4
    assert chunks.load(reference) == data


def test_a_pack_that_is_emptied_twice_keeps_what_is_known_of_its_pages():
    once = Relocations({1: [(0, 300, 3, 0)]})
    assert once.moved_on(Relocations({1: [], 0: []})).runs == {0: [], 1: [(0, 300, 3, 0)]}
    assert once.moved_on(Relocations({1: [(300, 10, 4, 0)], 3: [(0, 300, 4, 10)]})).runs[1] == [
        (0, 300, 4, 10),
        (300, 10, 4, 0),
    ]


def test_what_has_moved_is_found_behind_what_has_not():
    once = Relocations({4: [(2200, 2200, 6, 0)]})
    assert once.follow([Extent(4, 200, 4200)]) == [Extent(4, 200, 2000), Extent(6, 0, 2200)]
    assert Relocations({1: [(2200, 4200, 4, 200)]}).moved_on(once).runs[1] == [(4200, 2200, 6, 0)]


def test_relocated_pages_are_followed():
    first = Relocations({1: [(0, 100, 5, 1000), (300, 50, 5, 1100)]})
    assert first.follow([Extent(1, 10, 20), Extent(2, 0, 5), Extent(1, 300, 50)]) == [
        Extent(5, 1010, 20),
        Extent(2, 0, 5),
        Extent(5, 1100, 50),
    ]
    assert first.follow([Extent(1, 90, 20)]) == [Extent(5, 1090, 10), Extent(1, 100, 10)]
    later = Relocations({5: [(1000, 60, 7, 0), (1060, 90, 8, 40)]})
    both = first.moved_on(later)
    assert both.follow([Extent(1, 50, 30)]) == [Extent(7, 50, 10), Extent(8, 40, 20)]
    assert both.follow([Extent(5, 1000, 10)]) == [Extent(7, 0, 10)]
    assert Relocations.unpack(both.pack()).runs == both.runs
    assert set(both.only([1]).runs) == {1}
    assert both.only([1]).targets() == {7: 60, 8: 90}
