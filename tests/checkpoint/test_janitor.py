import random
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_durable.checkpoint.archive import ARCHIVE, read_archive, read_archives
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.compaction import Policy, is_due, partition_of, partitions_for, retire
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.maintenance import verify
from ray_durable.checkpoint.record import Codec, Consumed, Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import FencedError, StoreError
from tests.checkpoint.stores import Faulty, Measured

FOREVER = Policy(retention_s=None)
C = Kind.CHECKPOINT


@pytest.fixture
def opened():
    logs = []

    def make(store, **given):
        log = open_log(store, "w", **given)
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.own_executor.shutdown()


def put(log, *records):
    for id, epoch, seq, kind, *rest in records:
        codec = rest[2] if len(rest) > 2 else Codec.PICKLE
        log.append(id, epoch, seq, kind, *rest[:1] or (b"",), consumed=rest[1] if len(rest) > 1 else b"", codec=codec)
    log.flush()


def readable(recovery):
    """All that a reader can see of unfinished coroutines, and how the others ended."""
    return {
        id: (each.terminal, each.items)
        if each.terminal
        else (each.latest, each.admitted, each.placed, each.adopted, each.moved, each.events, each.items, each.history)
        for id, each in recovery.coroutines.items()
    }


def test_compaction_keeps_what_is_readable_and_deletes_the_rest(store, opened):
    log = opened(store)
    for seq in range(200):
        put(log, ("a", 1, seq, C, b"a%d" % seq), (f"b{seq % 5}", 1, seq, C, b"b"), (f"e{seq % 3}", 1, seq, Kind.EVENT))
    put(log, ("e0", 1, 1, C, b"", Consumed(events=197).pack()), ("z", 1, 3, Kind.COMPLETED, b"done"))
    before = recover(store, "w")
    report = Janitor(log, FOREVER).compact()
    after = recover(store, "w")
    assert readable(after) == readable(before)
    assert after.damage == []
    assert after.base == before.length
    assert report.segments == 201
    objects = [each.name for each in store.list("logs/w/")]
    assert len(objects) == 3, objects  # one part, its base, and the mark that proved the log unsealed


def test_compaction_goes_on_and_on(store, opened):
    log = opened(store)
    janitor = Janitor(log, FOREVER)
    for round in range(5):
        for seq in range(20):
            put(log, *((f"c{n}", round + 1, seq, C, b"%d.%d" % (round, seq)) for n in range(10)))
        janitor.compact()
        assert len(store.list("logs/w/")) == 3
    assert {each.latest.state for each in recover(store, "w").coroutines.values()} == {b"4.19"}


def test_partitions_replace_each_other_one_by_one_also_when_they_become_more(opened, monkeypatch):
    monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", 20_000)
    store = Measured()
    log = opened(store)
    janitor = Janitor(log, FOREVER)
    chance = random.Random(4)
    numbers = []
    for round in range(1, 13):
        put(log, *((f"c{n}", 1, round, C, chance.randbytes(1500)) for n in range(20 * round)))
        before, stored, partitions = recover(store, "w"), store.bytes, janitor.partitions
        store.mark()
        janitor.compact()
        assert readable(recover(store, "w")) == readable(before)
        if partitions >= 4:
            assert store.most - stored < 0.6 * janitor.base_bytes  # a fourth, what is new, and our own objects
        numbers.append(janitor.partitions)
    assert set(numbers) >= {2, 8, 16}
    assert len(janitor.base.parts) == 16
    assert sum(each.name.startswith("logs/w/parts/") for each in store.list("logs/w/")) == 16


@pytest.mark.parametrize("bytes_then", [4_000, 1_000, 16_000])
@pytest.mark.parametrize("deletes", range(5))
def test_a_store_that_fails_while_partitions_become_more_loses_nothing(opened, monkeypatch, deletes, bytes_then):
    """Whether they are to be as many at the next attempt, more or fewer."""
    inner, left = MemoryStore(), []

    def fault(operation, name):
        if left and operation == "delete" and "/parts/" in name:
            left.pop()
            return None if left else "before"
        return None

    def partition_bytes(size):
        monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", size)

    chance = random.Random(4)
    log = opened(Faulty(inner, fault))
    janitor = Janitor(log, FOREVER)
    partition_bytes(8_000)
    put(log, *((f"c{n}", 1, 1, C, chance.randbytes(300)) for n in range(80)))
    janitor.compact()
    assert janitor.partitions == 4
    partition_bytes(4_000)
    put(log, *((f"c{n}", 1, 2, C, chance.randbytes(300)) for n in range(0, 160, 2)))
    before = recover(inner, "w")
    left += [None] * deletes
    if deletes:
        with pytest.raises(StoreError, match="cut before"):
            janitor.compact()
        assert readable(recover(inner, "w")) == readable(before)
    partition_bytes(bytes_then)
    janitor.compact()
    assert readable(recover(inner, "w")) == readable(before)
    assert recover(inner, "w").damage == []
    assert len(inner.list("logs/w/parts/")) == len(janitor.base.parts)
    assert janitor.partitions >= 4


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("which", [1, 2, 3, 4])
def test_a_compaction_that_the_store_refused_is_repeated_and_no_base_is_taken_for_another(
    opened, monkeypatch, which, landed
):
    """A log may live on where one object of its compaction is refused for long, with or without coming to be."""
    monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", 2000)
    inner, refused = MemoryStore(), []

    def fault(operation, name):
        if refused and "/base-" in name and operation in ("create", "read"):
            if operation == "create" and name not in refused:
                refused.append(name)
            if refused.index(name) == which:
                return "after" if landed and operation == "create" else "before"
        return None

    log = opened(Faulty(inner, fault), retry_for_s=0.05)
    janitor = Janitor(log, FOREVER)
    chance = random.Random(4)

    def write(seq):
        states = [dumps(chance.randbytes(70_000 if n < 3 else 99), log.chunks) for n in range(40)]
        put(log, *((f"c{n}", 1, seq, C, state) for n, state in enumerate(states)))

    for seq in range(3):
        write(seq)
    janitor.compact()
    assert janitor.partitions == 4
    write(3)
    refused.append("from now on")
    with pytest.raises(StoreError, match="its store failed for 0.05 s"):
        janitor.compact()
    assert log.error is None
    for seq in range(4, 6):
        write(seq)
        refused.clear()
        before = recover(inner, "w")
        janitor.compact()
        after = recover(inner, "w")
        assert readable(after) == readable(before)
        assert after.damage == []
    assert verify(inner).findings == []  # nothing is left that nothing names
    assert sum(each.name.rpartition("/")[2].isdecimal() for each in inner.list("logs/w/0")) < 10
    for id, found in after.coroutines.items():
        assert len(loads(found.latest.state, log.chunks)) == (70_000 if id in ("c0", "c1", "c2") else 99)


def test_parts_are_no_larger_than_a_slow_link_takes(opened, monkeypatch):
    monkeypatch.setattr("ray_durable.checkpoint.rewriting.PART_BYTES_MAX", 10_000)
    store = MemoryStore()
    log = opened(store)
    put(log, *((f"c{n}", 1, 1, C, random.Random(n).randbytes(2_000)) for n in range(20)), ("d", 1, 1, C, bytes(40_000)))
    before = recover(store, "w")
    janitor = Janitor(log, FOREVER)
    janitor.compact()
    assert readable(recover(store, "w")) == readable(before)
    assert len(janitor.base.parts) == 5
    assert max(each.size for each in store.list("logs/w/parts/")) < 12_000


KINDS = [C, C, C, Kind.EVENT, Kind.ITEM, Kind.ADOPTED, Kind.MOVED, Kind.PLACED, Kind.ADMITTED, Kind.COMPLETED]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(KINDS), st.binary(max_size=8), st.booleans()),
        st.just("compact"),
        st.just("commit"),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=60)
def test_compaction_anywhere_changes_nothing_that_is_readable(steps):
    stores = MemoryStore(), MemoryStore()
    logs = [open_log(store, "w") for store in stores]
    janitor = Janitor(logs[0], FOREVER)
    numbers, ended, clock = {}, set(), 0
    for step in steps:
        clock += 1
        if step == "compact":
            for log in logs:
                log.flush()
            janitor.compact()
        elif step == "commit":
            for log in logs:
                log.flush()
        elif step[0] not in ended:
            id, kind, state, marked = step
            number = numbers[id, kind] = numbers.get((id, kind), 0) + 1
            seq = number if kind is Kind.EVENT else number - 1 if kind is Kind.ITEM else clock
            consumed = b""
            if kind is C and marked:
                consumed = Consumed(numbers.get((id, Kind.EVENT), 0), 0, numbers.get((id, Kind.ITEM), 0)).pack()
            if kind is Kind.COMPLETED:
                ended.add(id)
            codec = Codec.PICKLE | Codec.KEPT if kind is C and len(state) == 8 else Codec.PICKLE
            for log in logs:
                log.append(id, 1, seq, kind, state, consumed=consumed, codec=codec)
    for log in logs:
        log.close()

    def without_times(recovery):
        return str(readable(recovery)).split("time_ms=")[0], {
            id: [
                (r.kind, r.place, r.state, r.consumed)
                for part in facts
                for r in (part if isinstance(part, list) else [part])
                if r is not None
            ]
            for id, facts in readable(recovery).items()
        }

    assert without_times(recover(stores[0], "w"))[1] == without_times(recover(stores[1], "w"))[1]


def test_a_log_is_compacted_while_it_is_written_and_read(tmp_path, opened):
    store = LocalStore(tmp_path)
    log = opened(store)
    stop, errors, written = threading.Event(), [], [0]

    def write():
        seq = 0
        while not stop.is_set():
            seq += 1
            for n in range(20):
                log.append(f"c{n}", 1, seq, C, b"%d" % seq)
            log.flush()
            written[0] = seq

    def read():
        while not stop.is_set():
            known = written[0]
            try:
                found = recover(store, "w")
                if known and min(each.latest.seq for each in found.coroutines.values()) < known:
                    errors.append(f"{known} was durable and is gone")
                if found.damage:
                    errors.append(found.damage)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    janitor = Janitor(log, FOREVER)
    for _ in range(15):
        janitor.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {each.latest.seq for each in recover(store, "w").coroutines.values()} == {written[0]}


def test_a_sealed_log_is_not_compacted_away(store, opened):
    log = opened(store)
    for seq in range(10):
        put(log, ("a", 1, seq, C, b"%d" % seq))
    sealed = seal(store, "w", "me", b"plan")
    with pytest.raises(FencedError):
        Janitor(log, FOREVER).compact()
    found = recover(store, "w")
    assert found.coroutines["a"].latest.state == b"9"
    assert found.sealed.plan == sealed.plan
    assert sum(each.name.rpartition("/")[2].isdecimal() for each in store.list("logs/w/")) == 11


def test_a_sealer_that_was_slow_meets_the_base_and_seals_above_it():
    inner = MemoryStore()
    log = open_log(inner, "w")
    janitor = Janitor(log, FOREVER)
    for seq in range(5):
        put(log, ("a", 1, seq, C, b"%d" % seq))
    once = iter([True])

    def fault(operation, name):
        if operation == "create" and next(once, False):  # the log goes on and frees the number that the sealer chose
            for seq in range(5, 10):
                put(log, ("a", 1, seq, C, b"%d" % seq))
            janitor.compact()

    sealed = seal(Faulty(inner, fault), "w", "me", b"plan")
    assert sealed.length > 5
    assert sealed.recovery.coroutines["a"].latest.state == b"9"
    log.append("a", 1, 10, C, b"10")
    with pytest.raises(FencedError):
        log.flush()
    log.own_executor.shutdown()


def test_finished_coroutines_are_archived_and_leave_a_tombstone(store, opened):
    log = opened(store)
    put(log, *((f"c{n}", 1, 5, Kind.COMPLETED if n % 2 else Kind.FAILED, b"result %d" % n) for n in range(6)))
    put(log, ("alive", 1, 1, C, b"s"))
    janitor = Janitor(log, Policy(retention_count=2), describe=lambda record: {"function": "f"})
    janitor.compact()
    found = recover(store, "w").coroutines
    tombstones = [id for id, each in found.items() if each.terminal and each.terminal.kind is Kind.TOMBSTONE]
    assert len(tombstones) == 4
    assert found["alive"].latest.state == b"s"
    rows = {row["coroutine"]: row for row in read_archives(store)}
    assert set(rows) == set(tombstones)
    row = rows[tombstones[0]]
    assert row["result"] == b"result " + tombstones[0][1:].encode()
    assert row["outcome"] == ("completed" if int(tombstones[0][1:]) % 2 else "failed")
    assert row["about"] == [("function", "f")]
    assert row["finished"].year >= 2024
    janitor.compact()
    assert len(store.list(ARCHIVE)) == 1


def test_as_many_finished_ones_stay_as_are_asked_for_in_however_many_partitions(opened, monkeypatch):
    monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", 500)
    store, now = MemoryStore(), iter(range(1, 1000))
    log = opened(store)
    monkeypatch.setattr(
        log, "clock", SimpleNamespace(now=lambda: next(now), unique=SYSTEM_CLOCK.unique, monotonic=float)
    )
    janitor = Janitor(log, Policy(retention_s=None, retention_count=20))
    finished = []
    for round in range(6):
        for n in range(5, 10):
            finished.append(f"c{round}-{n}")
            put(log, (finished[-1], 1, 1, Kind.COMPLETED, random.Random(n).randbytes(100)), ("x", 1, n, C, b""))
        janitor.compact()
        kinds = {id: each.terminal.kind for id, each in recover(store, "w").coroutines.items() if each.terminal}
        stay = [id for id in finished if kinds[id] is Kind.COMPLETED]
        assert stay == finished[-20:]
    assert janitor.partitions == 16
    assert sorted(row["coroutine"] for row in read_archives(store)) == sorted(finished[:-20])


def test_any_parquet_reader_opens_an_archive(tmp_path, opened):
    import pandas

    log = opened(LocalStore(tmp_path))
    put(log, ("a", 1, 5, Kind.COMPLETED, b"result"))
    Janitor(log, Policy(retention_count=0)).compact()
    (file,) = (tmp_path / "archive").iterdir()
    frame = pandas.read_parquet(file)
    assert frame["coroutine"].tolist() == ["a"]


def test_archives_are_sealed_by_the_stores_keys(opened):
    store, keys = MemoryStore(), Keys(signing=[b"s" * 32], encryption=[b"e" * 32])
    log = opened(store, keys=keys)
    put(log, ("a", 1, 5, Kind.COMPLETED, b"secret result"))
    Janitor(log, Policy(retention_count=0)).compact()
    (name,) = [name for name in store.objects if name.startswith(ARCHIVE)]
    assert b"secret" not in store.objects[name]
    assert read_archive(store, name, keys).column("result").to_pylist() == [b"secret result"]
    assert recover(store, "w", keys=keys).damage == []


def test_tombstones_go_when_their_own_time_is_over(opened):
    store = MemoryStore()
    log = opened(store)
    put(log, ("a", 1, 5, Kind.COMPLETED, b"result"))
    janitor = Janitor(log, Policy(retention_count=0, tombstone_s=-1))
    janitor.compact()
    assert recover(store, "w").coroutines["a"].terminal.kind is Kind.TOMBSTONE
    janitor.compact()
    assert recover(store, "w").coroutines == {}


def test_one_that_has_come_back_to_its_log_is_not_taken_for_released(store, opened):
    log = opened(store)
    put(log, ("c", 1, 0, Kind.ADOPTED, b"a"), ("c", 2, 3, Kind.MOVED, b"m"), ("gone", 2, 3, Kind.MOVED, b"m"))
    put(log, ("c", 3, 3, Kind.ADOPTED, b"back"), ("c", 3, 4, C, b"newest"))
    Janitor(log, FOREVER, released=lambda: {"c": 2, "gone": 2}).compact()
    found = recover(store, "w").coroutines
    assert found["c"].latest.state == b"newest"
    assert found["c"].live
    assert "gone" not in found


def test_an_admission_goes_once_it_is_adopted_where_it_was_placed_last(store, opened):
    log = opened(store)
    put(log, ("early", 1, 0, Kind.ADMITTED, b"e"), ("early", 1, 0, Kind.PLACED, b"h1"))
    put(log, ("again", 1, 0, Kind.ADMITTED, b"g"), ("again", 2, 0, Kind.PLACED, b"h2"))
    Janitor(log, FOREVER, released=lambda: {"early": 1, "again": 1}).compact()
    assert set(recover(store, "w").coroutines) == {"again"}


def test_what_was_adopted_elsewhere_goes_once_that_is_known(opened):
    store = MemoryStore()
    log = opened(store)
    put(log, ("a", 1, 1, Kind.ADOPTED, b"x"), ("a", 2, 5, Kind.MOVED, b"y"), ("b", 1, 1, C, b"z"))
    released = {}
    janitor = Janitor(log, FOREVER, released=lambda: released)
    janitor.compact()
    assert set(recover(store, "w").coroutines) == {"a", "b"}
    released["a"] = 2
    janitor.compact()
    assert set(recover(store, "w").coroutines) == {"b"}


def test_history_is_kept_on_request(opened):
    store = MemoryStore()
    log = opened(store)
    for seq in range(10):
        put(log, ("a", 1, seq, C, b"%d" % seq, b"", Codec.PICKLE | Codec.KEPT), ("b", 1, seq, C, b"%d" % seq))
    Janitor(log, FOREVER).compact()
    found = recover(store, "w").coroutines
    assert [record.state for record in found["a"].history] == [b"%d" % seq for seq in range(10)]
    assert found["b"].history == []


def test_decisions_of_compaction():
    policy = Policy(garbage_ratio=0.5, garbage_bytes_min=100, tail_segments_max=10)
    assert not is_due(policy, 1000, 400, 5)
    assert not is_due(policy, 1000, 599, 5)
    assert is_due(policy, 1000, 600, 5)
    assert is_due(policy, 0, 100, 1)
    assert is_due(policy, 1 << 40, 0, 10)
    assert partitions_for(0) == 1
    assert partitions_for(1 << 30) == 16
    assert partitions_for(4 << 30) == 64
    assert partitions_for(1 << 60) == 1024
    assert {partition_of(f"c{n}", 4) for n in range(100)} == {0, 1, 2, 3}


def test_the_emptiest_packs_go_first_and_not_too_much_at_a_time():
    policy = Policy(pack_garbage_ratio=0.2, pack_copy_ratio=0.3)
    sizes = {1: 100, 2: 100, 3: 100, 4: 100}
    assert retire(sizes, {1: 100, 2: 100, 3: 90, 4: 80}, policy) == set()  # little garbage
    assert retire(sizes, {1: 100, 2: 100, 3: 50}, policy) == {4}  # 50 left of 250 needed
    assert retire(sizes, {1: 100, 2: 40, 3: 45, 4: 10}, policy) == {4, 2}  # with 3, too much would be there twice
    assert retire({1: 100}, {1: 60}, policy) == {1}  # one, whatever its size


def test_compaction_begins_so_early_that_what_is_written_meanwhile_finds_room():
    policy = Policy(garbage_bytes_min=100, garbage_ratio=0.5)
    assert [is_due(policy, 0, garbage, 0) for garbage in (99, 100)] == [False, True]
    assert [is_due(policy, 400, garbage, 0) for garbage in (299, 300)] == [False, True]
    assert [is_due(policy, 400, garbage, 0, meanwhile_bytes=60) for garbage in (239, 240)] == [False, True]
    assert [is_due(policy, 400, garbage, 0, meanwhile_bytes=9999) for garbage in (74, 75)] == [False, True]
