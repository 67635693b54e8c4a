import json
import threading

import pytest

from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.reading import read_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import FencedError, StoreError
from tests.checkpoint.stores import Faulty


def log_of(store, *seqs, writer="w"):
    log = open_log(store, writer)
    for seq in seqs:
        log.append("a", 1, seq, Kind.CHECKPOINT, b"%d" % seq)
        log.flush()
    return log


def test_a_seal_says_where_the_log_ends_and_what_comes_next(store):
    log_of(store, 1, 2, 3)
    sealed = seal(store, "w", "controller-1", {"a": ["host-2", 2]})
    assert (sealed.sealer, sealed.length) == ("controller-1", 3)
    assert json.loads(sealed.plan) == {"a": ["host-2", 2]}
    assert sealed.recovery.coroutines["a"].latest.seq == 3
    found = recover(store, "w")
    assert found.sealed.plan == sealed.plan
    assert found.sealed.digest == found.digest


def test_a_log_that_was_never_written_can_be_sealed(store):
    assert seal(store, "w", "me", b"").length == 0
    log = open_log(store, "w")
    log.append("a", 1, 1, Kind.CHECKPOINT, b"")
    with pytest.raises(FencedError):
        log.flush()


def test_a_repeated_seal_is_the_same_seal(store):
    log_of(store, 1)
    first = seal(store, "w", "me", b"first")
    again = seal(store, "w", "me", b"second")
    other = seal(store, "w", "other", b"third")
    assert again.plan == other.plan == first.plan == b"first"
    assert other.sealer == "me"
    assert other.length == first.length


def test_the_plan_is_made_from_what_finally_counts():
    inner = MemoryStore()
    log = log_of(inner, 1)

    def fault(operation, name):
        if operation == "create" and log.progress.next < 4:  # the zombie is quicker
            log.append("a", 1, log.progress.next + 1, Kind.CHECKPOINT, b"")
            log.flush()

    sealed = seal(Faulty(inner, fault), "w", "me", lambda recovery: b"%d" % recovery.coroutines["a"].latest.seq)
    assert sealed.plan == b"4"
    assert sealed.length == 4
    assert sealed.recovery.coroutines["a"].latest.seq == 4


def test_a_sealer_that_dies_before_its_plan_is_followed_by_the_next():
    inner = MemoryStore()
    log_of(inner, 1)
    dying = Faulty(inner, lambda operation, name: "before" if "plan" in name else None)
    with pytest.raises(StoreError):
        seal(dying, "w", "one", b"one", retry_for_s=0.05)
    found = recover(inner, "w")
    assert (found.fenced, found.sealed, found.length) == (True, None, 1)
    sealed = seal(inner, "w", "two", b"two")
    assert (sealed.sealer, sealed.plan, sealed.length) == ("two", b"two", 1)
    assert seal(inner, "w", "one", b"one").plan == b"two"


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_seal_whose_reply_was_lost_is_ours(fault):
    inner = MemoryStore()
    log_of(inner, 1)
    failures = iter([fault])
    store = Faulty(inner, lambda operation, name: next(failures, None) if operation == "create" else None)
    sealed = seal(store, "w", "me", b"plan")
    assert (sealed.sealer, sealed.plan, sealed.length) == ("me", b"plan", 1)
    assert len(inner.objects) == 3  # segment, seal and plan


def test_of_racing_sealers_one_counts_and_all_learn_which(store):
    log_of(store, 1, 2)
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(seal(store, "w", f"s{n}", b"%d" % n))) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(each.sealer, each.plan, each.length) for each in results}) == 1
    assert len(results) == 6


def test_a_seal_is_won_against_a_writer_at_full_speed(store):
    log = open_log(store, "w")
    stop = threading.Event()
    written = []

    def write():
        try:
            for seq in range(100_000):
                log.append("a", 1, seq, Kind.CHECKPOINT, b"x" * 100)
                log.flush()
                written.append(seq)
        except FencedError:
            stop.set()

    zombie = threading.Thread(target=write)
    zombie.start()
    while len(written) < 20:
        pass
    sealed = seal(store, "w", "me", b"")
    assert stop.wait(10)
    zombie.join()
    assert sealed.recovery.coroutines["a"].latest.seq == written[-1]
    assert recover(store, "w").coroutines["a"].latest.seq == written[-1]


def test_a_seal_takes_the_lowest_free_number_and_voids_what_is_above():
    store = MemoryStore()
    log_of(store, 1, 2, 3, 4)
    store.delete(segment_name("w", 2))
    assert seal(store, "w", "me", b"").length == 2
    assert recover(store, "w").coroutines["a"].latest.seq == 2
    assert read_log(store, "w").length == 2


def test_a_store_that_stays_broken_is_named():
    store = Faulty(MemoryStore(), lambda operation, name: "before")
    with pytest.raises(StoreError, match="cut before"):
        seal(store, "w", "me", b"", retry_for_s=0.05)
