"""Space on disk stays within twice what is live, for any length of run; and is given back when less is."""

import asyncio
import logging
import random

import numpy
import pytest

from ray_durable.actors.housekeeping import keep_small
from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.config import Settings
from ray_durable.errors import StoreError
from ray_durable.logs import EventLog
from tests.checkpoint.stores import Faulty, Measured
from tests.checkpoint.test_janitor import FOREVER, C, opened, put
from tests.simulation.unthreaded import OneByOne
from tests.simulation.world import Advanced, Executor, World, WorldClock

__all__ = ["opened"]


@pytest.fixture
def scaled(monkeypatch):
    """What is copied as a whole is smaller, so that a small log stands for a large one."""
    monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", 1 << 14)
    monkeypatch.setattr("ray_durable.checkpoint.chunks.PACK_BYTES_MAX", 1 << 18)
    monkeypatch.setattr("ray_durable.checkpoint.writing.ThreadPoolExecutor", OneByOne)  # of several packs, in no order
    monkeypatch.setattr("ray_durable.checkpoint.moving.PACK_BYTES_MAX", 1 << 18)


def test_space_for_chunks_stays_within_twice_what_is_live(opened, scaled):
    store = Measured()
    log = opened(store)
    janitor = Janitor(log, Policy(retention_s=None, garbage_bytes_min=1 << 18))
    arrays = {f"a{n}": numpy.random.default_rng(n).random(65_536) for n in range(16)}
    live = sum(array.nbytes for array in arrays.values())
    chance = random.Random(2)
    for id, array in arrays.items():  # the last ones sleep, and their states are never written again
        put(log, (id, 1, 0, C, dumps(array, log.chunks)))
    peaks, written = [], store.bytes
    for seq in range(1, 1500):
        id = f"a{chance.randrange(12)}"
        start, size = chance.randrange(60_000), chance.choice([1, 5000])
        arrays[id][start : start + size] = numpy.random.default_rng(seq).random(size)
        before = store.bytes
        put(log, (id, 1, seq, C, dumps(arrays[id], log.chunks)))
        written += store.bytes - before
        if janitor.is_due():
            janitor.compact()
            peaks.append(store.mark() / live)
    assert written > 5 * live
    assert len(peaks) > 10
    assert max(peaks) < 2, peaks
    found = recover(store, "w").coroutines
    elsewhere = Chunks(store, "reader")
    for id, array in arrays.items():
        assert (loads(found[id].latest.state, elsewhere) == array).all()


def test_space_for_records_stays_within_twice_what_is_live(opened, scaled):
    store = Measured()
    log = opened(store)
    janitor = Janitor(log, Policy(retention_s=None, garbage_bytes_min=1 << 16))
    chance = random.Random(5)
    for n in range(4000):
        log.append(f"{n:08d}", 1, 0, C, chance.randbytes(300))
    log.flush()
    janitor.compact()
    live, peaks = store.bytes, []
    for seq in range(1, 70_000):
        log.append(f"{chance.randrange(4000):08d}", 1, seq, C, chance.randbytes(300))
        if seq % 100 == 0:
            log.flush()
            if janitor.is_due():
                store.mark()
                janitor.compact()
                peaks.append(store.mark() / live)
    assert len(peaks) > 20
    assert max(peaks) < 2, peaks


class Timed(Measured):
    """Takes a world's time for each byte; for compaction's objects a multiple."""

    def __init__(self, world, compaction_slower):
        super().__init__()
        self.world, self.compaction_slower = world, compaction_slower

    def take_time(self, name, size):
        factor = self.compaction_slower if "/parts/" in name or "/base-" in name else 1
        self.world.sleep(0.001 + factor * size / 10_000_000)

    def create(self, name, data):
        self.take_time(name, len(data))
        super().create(name, data)

    def read(self, name, start=0, length=None):
        found = super().read(name, start, length)
        self.take_time(name, len(found))
        return found


class FullSpeed:
    """Coroutines that write their next checkpoint as soon as the last is durable, beside a janitor; in virtual time."""

    store_kind = Timed

    def __init__(self, states, policy, compaction_slower):
        self.world = World(1)
        process = self.world.process("host")
        self.store = self.store_kind(self.world, compaction_slower)
        self.states, self.seqs = states, dict.fromkeys(states, 0)
        self.log = Log(
            self.store, "w", executor=Executor(process), on_durable=self.write, on_error=self.world.failures.append,
            call_soon=lambda fn, *args: self.world.push(0, process, lambda: fn(*args)), clock=WorldClock(self.world),
        )  # fmt: skip
        self.log.advanced = Advanced(self.world)
        self.janitor, self.live, self.compactions = Janitor(self.log, policy), 0, 0
        process.spawn(self.compact)
        self.world.push(0, process, lambda: self.write(list(states)))

    def write(self, ids):
        for id in ids:
            self.seqs[id] += 1
            self.log.append(id, 1, self.seqs[id], C, self.states[id](self.log.chunks), token=id)
        self.log.commit()

    def compact(self):
        while True:
            self.world.sleep(0.02)
            if self.janitor.is_due():
                self.janitor.compact()
                self.compactions += 1
                self.live = max(self.live, self.janitor.base_bytes + self.janitor.garbage.pack_live)


def record(number):
    chance = random.Random(number)
    return lambda chunks: chance.randbytes(300)


def large(number):
    chance = numpy.random.default_rng(number)
    array = chance.random(32_768)

    def next_state(chunks):
        start = chance.integers(30_000)
        array[start : start + 2000] = chance.random(2000)
        return dumps(array, chunks)

    return next_state


@pytest.mark.parametrize("compaction_slower", [1, 10, 100])
@pytest.mark.parametrize(("state", "count"), [(record, 4000), (large, 16)], ids=["records", "chunks"])
def test_space_stays_within_twice_what_is_live_beside_writers_at_full_speed(state, count, compaction_slower, scaled):
    policy = Policy(retention_s=None, garbage_bytes_min=1 << 17)
    found = FullSpeed({f"c{n}": state(n) for n in range(count)}, policy, compaction_slower)
    found.world.run(600, lambda: found.compactions == 14)
    assert found.compactions == 14
    assert found.log.rows_durable > 4 * count  # whoever writes is slowed down, not stopped
    assert found.store.most < 0.97 * (2 * found.live + 2 * policy.garbage_bytes_min)


class Refusing(Timed):
    """Does not do one thing for some time: to create what compaction makes, or to delete."""

    refused = ""

    def create(self, name, data):
        self.refuse("create", name, self.refused in name if self.refused else False)
        super().create(name, data)

    def delete(self, name):
        self.refuse("delete", name, self.refused == "delete")
        super().delete(name)

    def refuse(self, operation, name, whether):
        if whether:
            self.world.sleep(0.01)
            raise StoreError(operation, name, "not now")


class Stubborn(FullSpeed):
    """Whose janitor tries again a second later, as a host's does."""

    store_kind = Refusing

    def compact(self):
        self.janitor.watch(lambda: None)
        while True:
            self.world.sleep(0.02)
            try:
                if self.janitor.is_due():
                    self.janitor.compact()
                    self.compactions += 1
                elif self.janitor.doomed:
                    self.janitor.clear()
            except StoreError:
                self.world.sleep(1)


@pytest.mark.parametrize("refused", ["/parts/", "delete"])
def test_writers_are_held_up_while_a_store_refuses_compaction_and_go_on_in_full_after(refused, scaled):
    policy = Policy(retention_s=None, garbage_bytes_min=1 << 18)
    found = Stubborn({f"c{n}": record(n) for n in range(1000)}, policy, 1)
    world, store = found.world, found.store
    world.run(600, lambda: found.compactions == 4)
    quick = found.log.rows_durable / world.now
    bound = 2 * found.janitor.base_bytes + 2 * policy.garbage_bytes_min
    assert store.mark() < bound
    store.refused, rows = refused, found.log.rows_durable
    world.run(world.now + 180)
    assert found.log.error is None
    assert store.bytes < 2 * bound + 180 * 80_000
    assert found.log.rows_durable - rows > 180 * 50  # nobody stands still
    store.refused = ""
    world.run(world.now + 60, lambda: found.compactions == 7)
    store.mark()
    since, rows = world.now, found.log.rows_durable
    world.run(world.now + 60, lambda: found.compactions == 10)
    assert store.mark() < bound
    assert (found.log.rows_durable - rows) / (world.now - since) > quick / 2


@pytest.mark.parametrize("size", [300, 200_000])
def test_space_is_given_back_when_coroutines_end_and_nothing_else_happens(opened, size):
    store = Measured()
    log = opened(store)
    janitor = Janitor(log, Policy(retention_s=None, garbage_bytes_min=1 << 16))
    count = 600_000 // size
    for n in range(count):
        log.append(f"c{n}", 1, 1, C, dumps([random.Random(n).randbytes(size), n], log.chunks))
    log.flush()
    janitor.compact()
    before = store.bytes
    assert not janitor.is_due()
    for n in range(count):
        log.append(f"c{n}", 1, 2, Kind.COMPLETED, b"")
    log.flush()
    assert janitor.is_due()
    janitor.compact()
    assert store.bytes < before / 5  # their ends are kept
    assert not janitor.is_due()


def test_space_is_given_back_when_a_state_shrinks(opened):
    store = Measured()
    log = opened(store)
    janitor = Janitor(log, Policy(retention_s=None, garbage_bytes_min=1 << 16))
    put(log, ("a", 1, 1, C, dumps(numpy.random.default_rng(1).random(100_000), log.chunks)))
    janitor.compact()
    assert not janitor.is_due()
    put(log, ("a", 1, 2, C, b"small"))
    assert janitor.is_due()
    janitor.compact()
    assert store.bytes < 5_000


def test_a_store_that_fails_to_delete_gives_its_space_back_later(opened):
    inner = Measured()
    failing = [False]

    def fault(operation, name):
        if failing[0] and operation == "delete":
            raise StoreError("delete", name, "not now")

    log = opened(Faulty(inner, fault))
    janitor = Janitor(log, FOREVER)
    for seq in range(20):
        put(log, ("a", 1, seq, C, dumps(random.Random(seq).randbytes(70_000), log.chunks)))
    failing[0] = True
    with pytest.raises(StoreError, match="not now"):
        janitor.compact()
    assert log.pace.room == float("inf")  # nobody is slowed down by a compaction that has failed
    found = recover(inner, "w").coroutines["a"].latest
    assert loads(found.state, Chunks(inner, "reader")) == random.Random(19).randbytes(70_000)
    failing[0] = False
    janitor.compact()
    assert inner.bytes < 80_000
    assert loads(found.state, Chunks(inner, "reader")) == random.Random(19).randbytes(70_000)


@pytest.mark.timeout(30)
def test_a_host_goes_on_compacting_when_a_store_has_refused_what_that_writes_for_long(opened, monkeypatch):
    monkeypatch.setattr("ray_durable.actors.housekeeping.LOOK_EVERY_S", 0.02)
    inner, refusing = Measured(), [True]
    refused = []

    def fault(operation, name):
        if operation == "create" and "/parts/" in name and refusing:
            refused.append(name)
            return "before"
        return None

    log = opened(Faulty(inner, fault), retry_for_s=0.05)

    async def live():
        small = asyncio.create_task(keep_small(log, Settings.load({}), EventLog(logging.Logger("quiet"))))
        while len(set(refused)) < 3 or not janitor_is_done():
            log.append("a", 1, len(refused), C, random.Random(len(refused)).randbytes(1 << 20))
            log.commit()
            await asyncio.sleep(0.01)
            if len(set(refused)) == 3:
                refusing.clear()
        small.cancel()

    def janitor_is_done():
        return any("/parts/" in name for name in inner.objects)

    asyncio.run(live())
    log.flush()
    assert log.error is None
    assert recover(inner, "w").damage == []


@pytest.mark.timeout(30)
def test_a_host_deletes_soon_what_a_store_would_not_delete_for_a_while(opened, monkeypatch):
    monkeypatch.setattr("ray_durable.actors.housekeeping.LOOK_EVERY_S", 0.02)
    inner, refused = Measured(), []

    def fault(operation, name):
        if operation == "delete" and len(refused) < 5:
            refused.append(name)
            return "before"
        return None

    log = opened(Faulty(inner, fault))

    async def live():
        small = asyncio.create_task(keep_small(log, Settings.load({}), EventLog(logging.Logger("quiet"))))
        for seq in range(6):
            log.append("a", 1, seq, C, random.Random(seq).randbytes(1 << 20))
            log.commit()
        while len(refused) < 5 or not inner.objects.keys().isdisjoint(refused):  # nothing more is written
            await asyncio.sleep(0.01)
        small.cancel()

    asyncio.run(live())
    assert recover(inner, "w").coroutines["a"].latest.seq == 5
