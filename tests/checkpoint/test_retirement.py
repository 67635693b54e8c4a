import pytest

from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.retirement import MayGo, Needed, held_logs, may_retire, retire
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import FencedError
from tests.checkpoint.stores import Faulty

NONCE = b"n" * 16


def sealed_log(store):
    log = open_log(store, "old")
    log.append("a", 1, 1, Kind.CHECKPOINT, dumps(b"x" * 100_000, log.chunks))
    log.flush()
    log.append("b", 1, 1, Kind.COMPLETED, b"done")
    log.flush()
    seal(store, "old", "me", b"plan")
    return log


def test_a_log_goes_only_when_nothing_of_it_is_needed():
    store = MemoryStore()
    log = open_log(store, "old")
    log.append("a", 1, 1, Kind.CHECKPOINT, b"")
    log.flush()
    everything = {"process_gone": True, "held": False, "done": lambda coroutine: True}
    assert may_retire(recover(store, "old"), **everything) == Needed("it has no seal with a plan")
    seal(store, "old", "me", b"plan")
    found = recover(store, "old")
    assert isinstance(may_retire(found, **{**everything, "process_gone": False}), Needed)
    assert isinstance(may_retire(found, **{**everything, "held": True}), Needed)
    assert may_retire(found, **{**everything, "done": lambda each: each.id != "a"}) == Needed(
        "a is neither adopted nor over"
    )
    assert may_retire(found, **everything) == MayGo()


def test_a_retired_log_keeps_its_seal_and_its_plan(store):
    log = sealed_log(store)
    retire(store, recover(store, "old"), NONCE)
    found = recover(store, "old")
    assert (found.coroutines, found.emptied, found.fenced, found.length) == ({}, True, True, 2)
    assert found.sealed.plan == b"plan"
    assert len(store.list("logs/old/")) == 3
    log.append("a", 1, 9, Kind.CHECKPOINT, b"years later")
    with pytest.raises(FencedError):
        log.flush()
    assert seal(store, "old", "another", b"again").plan == b"plan"


@pytest.mark.parametrize("crash", range(6))
def test_retiring_can_be_cut_short_and_repeated(crash):
    store = MemoryStore()
    sealed_log(store)
    found = recover(store, "old")

    class Crash(Exception):
        pass

    left = iter([None] * crash)

    def fault(operation, name):
        if operation in ("create", "delete") and next(left, "crash") == "crash":
            raise Crash

    try:
        retire(Faulty(store, lambda *call: fault(*call)), found, NONCE)
    except Crash:
        pass
    halfway = recover(store, "old")
    assert halfway.length == 2
    assert halfway.coroutines == {} or set(halfway.coroutines) == {"a", "b"}
    retire(store, found, NONCE)
    assert recover(store, "old").emptied
    assert len(store.list("logs/old/")) == 3


def test_a_delayed_put_into_a_retired_log_counts_for_nothing():
    store = MemoryStore()
    log = sealed_log(store)
    late = {name: body for name, body in store.objects.items() if name.endswith("0")}
    retire(store, recover(store, "old"), NONCE)
    for name, body in late.items():
        if name not in store.objects:
            store.create(name, body)
    found = recover(store, "old")
    assert (found.coroutines, found.length) == ({}, 2)
    assert log.writer == "old"


def test_logs_whose_chunks_are_referred_to_are_held():
    store = MemoryStore()
    sealed_log(store)
    state = recover(store, "old").coroutines["a"].latest.state
    new = open_log(store, "new")
    new.append("a", 2, 1, Kind.HOLDS, b"old")
    new.append("a", 2, 1, Kind.ADOPTED, b"header" + state)
    new.append("z", 1, 1, Kind.HOLDS, b"other")
    new.append("z", 1, 1, Kind.COMPLETED, b"")
    new.flush()
    assert held_logs([recover(store, "new")]) == {"old"}
    assert held_logs([recover(store, "old")]) == set()
    assert held_logs([recover(store, "new"), recover(store, "old")]) == {"old"}
    assert loads(state, Chunks(store, "new")) == b"x" * 100_000
    new.close()
