import threading
import time

import pytest

from ray_durable.checkpoint.commit import Progress, oldest
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from tests.checkpoint.stores import Faulty


def write(log, *ids, seq=1, kind=Kind.CHECKPOINT, state=b"state"):
    for id in ids:
        log.append(id, 1, seq, kind, state, token=(id, seq))


@pytest.fixture
def opened():
    logs = []

    def make(store, writer="w", **given):
        released, errors = [], []
        log = open_log(store, writer, on_durable=released.extend, on_error=errors.append, **given)
        logs.append(log)
        return log, released, errors

    yield make
    for log in logs:
        if log.own_executor is not None:
            log.own_executor.shutdown()


def test_what_is_released_is_durable_and_in_order(store, opened):
    log, released, _ = opened(store)
    for seq in range(100):
        write(log, "a", "b", seq=seq)
        log.commit()
    log.flush()
    assert released == [(id, seq) for seq in range(100) for id in "ab"]
    found = recover(store, "w")
    assert found.coroutines["a"].latest.seq == 99
    assert found.damage == []


def test_nothing_is_written_before_commit(opened):
    store = MemoryStore()
    log, released, _ = opened(store)
    write(log, "a")
    time.sleep(0.02)
    assert store.objects == {}
    assert released == []


def test_one_commit_takes_all_that_gathered_while_the_last_was_under_way(opened):
    gate = threading.Event()
    store = Faulty(MemoryStore(), lambda operation, name: gate.wait if operation == "create" else None)
    log, released, _ = opened(store)
    write(log, "first")
    log.commit()
    while not store.calls:
        time.sleep(0.001)
    for n in range(50):
        write(log, f"c{n}")
        log.commit()
    gate.set()
    log.flush()
    assert len(store.inner.objects) == 2
    assert len(released) == 51


def test_a_release_is_one_call_per_commit(opened):
    calls = []
    log, _, _ = opened(MemoryStore())
    log.on_durable = calls.append
    write(log, "a", "b", "c")
    log.flush()
    assert calls == [[("a", 1), ("b", 1), ("c", 1)]]


@pytest.mark.parametrize("fault", ["before", "after"])
def test_failing_creates_are_tried_again_and_counted_once(opened, fault):
    failures = iter([fault, fault, None, fault])
    store = Faulty(MemoryStore(), lambda operation, name: next(failures, None) if operation == "create" else None)
    log, released, errors = opened(store)
    for seq in range(4):
        write(log, "a", seq=seq)
        log.flush()
    assert released == [("a", seq) for seq in range(4)]
    assert errors == []
    assert len(store.inner.objects) == 4


def test_four_commits_in_flight_release_in_order(opened):
    inner = MemoryStore()
    inner.remote = True
    gates = {segment_name("w", n): threading.Event() for n in range(4)}
    store = Faulty(inner, lambda operation, name: gates[name].wait if name in gates else None)
    log, released, _ = opened(store)
    for n in range(4):
        write(log, f"c{n}")
        log.commit()
        while len(store.calls) <= n:
            time.sleep(0.001)
    for n in (3, 1, 2):
        gates[segment_name("w", n)].set()
    while len(inner.objects) < 3:
        time.sleep(0.001)
    assert released == []  # 1, 2 and 3 exist, and count for nothing without 0
    assert recover(inner, "w").coroutines == {}
    gates[segment_name("w", 0)].set()
    log.flush()
    assert [id for id, _ in released] == ["c0", "c1", "c2", "c3"]


def test_zombie_releases_nothing_after_seal(store, opened):
    log, released, errors = opened(store)
    write(log, "a")
    log.flush()
    seal(store, "w", "controller-1", b"plan")
    write(log, "a", seq=2)
    with pytest.raises(FencedError) as caught:
        log.flush()
    assert caught.value.number == 1
    assert released == [("a", 1)]
    assert errors == [caught.value]
    with pytest.raises(FencedError):
        write(log, "a", seq=3)
    assert recover(store, "w").coroutines["a"].latest.seq == 1


def test_of_commits_in_flight_none_above_a_seal_is_released(opened):
    inner = MemoryStore()
    inner.remote = True
    gates = {segment_name("w", n): threading.Event() for n in (1, 2)}
    store = Faulty(inner, lambda operation, name: gates[name].wait if name in gates and operation == "create" else None)
    log, released, errors = opened(store)
    write(log, "a")
    log.flush()
    for seq in (2, 3):
        write(log, "a", seq=seq)
        log.commit()
        while len(store.calls) < seq:
            time.sleep(0.001)
    gates[segment_name("w", 2)].set()
    while segment_name("w", 2) not in inner.objects:
        time.sleep(0.001)
    sealed = seal(inner, "w", "me", b"")
    assert sealed.length == 1
    gates[segment_name("w", 1)].set()
    with pytest.raises(FencedError):
        log.flush()
    assert released == [("a", 1)]
    assert len(errors) == 1
    assert recover(inner, "w").coroutines["a"].latest.seq == 1


def test_a_second_process_under_one_name_stops_one_of_them(store, opened):
    one, released, _ = opened(store)
    two, none, errors = opened(store)
    write(one, "a")
    one.flush()
    write(two, "b")
    with pytest.raises(FencedError):
        two.flush()
    assert (released, none) == ([("a", 1)], [])


def test_a_store_that_stays_broken_stops_the_log_with_its_reason(opened):
    store = Faulty(MemoryStore(), lambda operation, name: "before" if operation == "create" else None)
    log, released, errors = opened(store, retry_for_s=0.05)
    write(log, "a")
    with pytest.raises(LogStoppedError, match="cut before"):
        log.flush()
    assert released == []
    assert len(errors) == 1


def test_trouble_is_shown_while_it_lasts(opened):
    broken = threading.Event()
    broken.set()
    store = Faulty(
        MemoryStore(), lambda operation, name: "before" if operation == "create" and broken.is_set() else None
    )
    log, released, _ = opened(store)
    write(log, "a")
    log.commit()
    while log.trouble is None:
        time.sleep(0.001)
    assert isinstance(log.trouble, StoreError)
    broken.clear()
    log.flush()
    assert log.trouble is None
    assert released == [("a", 1)]


def test_an_idle_loop_commits_itself_while_the_store_is_quick(opened):
    threads = []
    store = Faulty(MemoryStore(), lambda operation, name: lambda: threads.append(threading.current_thread()))
    log, released, _ = opened(store, here_below_s=10.0)
    write(log, "a")
    log.commit(idle=True)
    assert released == [("a", 1)]  # on return already
    log.took_s = 11.0
    write(log, "b")
    log.commit(idle=True)
    log.flush()
    assert released == [("a", 1), ("b", 1)]
    assert [thread is threading.current_thread() for thread in threads] == [True, False]


@pytest.mark.parametrize("how", ["before", "after"])
def test_what_an_idle_loop_fails_to_commit_is_tried_again_elsewhere(opened, how):
    faults = iter([how])
    store = Faulty(MemoryStore(), lambda operation, name: next(faults, None) if operation == "create" else None)
    log, released, _ = opened(store, here_below_s=10.0)
    write(log, "a")
    log.commit(idle=True)
    log.flush()
    write(log, "b")
    log.commit(idle=True)
    log.flush()
    assert released == [("a", 1), ("b", 1)]
    assert sorted(recover(store, "w").coroutines) == ["a", "b"]


def test_an_idle_loop_that_meets_a_seal_is_fenced(opened):
    store = MemoryStore()
    log, released, errors = opened(store, here_below_s=10.0)
    seal(store, "w", "another", b"plan")
    write(log, "a")
    log.commit(idle=True)
    with pytest.raises(FencedError):
        log.flush()
    assert released == []
    assert [type(error) for error in errors] == [FencedError]


def test_a_state_that_is_no_bytes_stops_the_log_and_says_so(opened):
    log, released, errors = opened(MemoryStore())
    log.append("a", 1, 1, Kind.CHECKPOINT, "text")
    with pytest.raises(LogStoppedError, match="segment 0: TypeError"):
        log.flush()


def test_back_pressure_asks_for_a_pause_while_the_store_is_slow(opened):
    gate = threading.Event()
    store = Faulty(MemoryStore(), lambda operation, name: gate.wait if operation == "create" else None)
    log, _, _ = opened(store, bytes_max=1000)
    write(log, "a", state=b"x" * 400)
    log.commit()
    assert not log.full
    write(log, "b", state=b"x" * 800)
    assert log.full
    gate.set()
    log.flush()
    assert not log.full


def test_large_gatherings_are_split(opened):
    store = MemoryStore()
    log, released, _ = opened(store)
    write(log, *(f"c{n}" for n in range(3)), state=b"x" * (40 << 20))
    log.flush()
    assert len(store.objects) == 3
    assert [id for id, _ in released] == ["c0", "c1", "c2"]


def test_unfit_names_are_refused():
    for name in ("", "a/b", "../x", ".hidden"):
        with pytest.raises(StoreError):
            open_log(MemoryStore(), name)


def test_a_log_records_when_it_was_last_durable(opened):
    log, _, _ = opened(MemoryStore())
    before = log.durable_at
    write(log, "a")
    log.flush()
    assert log.durable_at > before


def test_progress_releases_the_contiguous_prefix_only():
    progress = Progress(3)
    assert [progress.start() for _ in range(3)] == [0, 1, 2]
    assert not progress.may_start()
    assert progress.finish(2, "c") == []
    assert progress.finish(0, "a") == ["a"]
    assert progress.finish(1, "b") == ["b", "c"]
    assert progress.durable == 3
    number = progress.start()
    progress.start()
    progress.stop()
    assert not progress.may_start()
    assert progress.finish(number, "late") == []


def test_an_item_becomes_durable_with_the_record_after_it_and_not_before():
    log = open_log(MemoryStore(), "w")
    log.append("a", 1, 0, Kind.ITEM, b"yielded")
    log.run_commits()  # as a thread that has ended a commit just now would
    assert log.progress.durable == 0
    log.append("a", 1, 1, Kind.CHECKPOINT, b"has yielded")
    log.run_commits()
    assert (log.progress.durable, log.rows_durable) == (1, 2)
    log.append("a", 1, 1, Kind.ITEM, b"alone")
    log.close()
    assert [item.state for item in recover(log.store, "w").coroutines["a"].items] == [b"yielded", b"alone"]


ITEM, STATE = int(Kind.ITEM), int(Kind.CHECKPOINT)


@pytest.mark.parametrize(
    ("kinds", "count_max", "size_max", "kept"),
    [
        ([STATE] * 5, 9, 99, 5),
        ([STATE] * 5, 3, 99, 3),
        ([STATE] * 5, 9, 25, 2),
        ([STATE] * 5, 9, 0, 1),
        ([STATE, ITEM, STATE, STATE], 2, 99, 3),
        ([STATE, ITEM, STATE, STATE], 9, 25, 3),
        ([ITEM, ITEM, STATE, STATE], 9, 0, 3),
        ([STATE, ITEM], 9, 25, 2),
    ],
)
def test_a_segment_takes_the_oldest_records_and_parts_no_item_from_what_follows(kinds, count_max, size_max, kept):
    rows = [("a", 1, n, kind, bytes(10), b"", 0, None) for n, kind in enumerate(kinds)]
    assert oldest(rows, count_max, size_max) == (rows[:kept], 10 * kept)
