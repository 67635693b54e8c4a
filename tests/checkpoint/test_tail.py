import threading

import pytest

from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.checkpoint.tail import Tail


def row(id, seq, kind=Kind.CHECKPOINT, consumed=b"", codec=Codec.PICKLE):
    return (id, 1, seq, int(kind), b"", consumed, int(codec), None)


def test_a_segment_whose_checkpoints_all_have_newer_ones_says_nothing():
    tail = Tail()
    tail.add(0, 10, [row("a", 1), row("b", 1)])
    tail.add(1, 10, [row("a", 2)])
    assert tail.saying(2) == [0, 1]
    tail.add(2, 10, [row("b", 2), row("b", 3)])
    assert tail.saying(3) == [1, 2]
    assert tail.bytes == 30


@pytest.mark.parametrize(
    "other", [row("a", 1, Kind.EVENT), row("a", 1, consumed=b"x"), row("a", 1, codec=Codec.PICKLE | Codec.KEPT)]
)
def test_a_segment_with_anything_else_always_does(other):
    tail = Tail()
    tail.add(0, 10, [other, row("b", 1)])
    tail.add(1, 10, [row("a", 2), row("b", 2)])
    assert tail.saying(2) == [0, 1]


def test_what_a_base_has_replaced_is_forgotten():
    tail = Tail()
    tail.add(0, 10, [row("a", 1)])
    tail.add(1, 20, [row("b", 1)])
    tail.forget(1)
    assert (tail.saying(2), tail.bytes, tail.newest) == ([1], 20, {"b": 1})


class Gated(MemoryStore):
    """Holds the creation of one object back until it is let through."""

    def __init__(self, gated):
        super().__init__()
        self.gated, self.reached, self.through = gated, threading.Event(), threading.Event()
        self.based = threading.Event()

    def create(self, name, data):
        if name == self.gated:
            self.reached.set()
            assert self.through.wait(20)
        super().create(name, data)
        if "/base-" in name:
            self.based.set()


def test_a_checkpoint_on_its_way_does_not_make_the_one_before_needless():
    store = Gated(segment_name("w", 1))
    log = open_log(store, "w")
    log.append("a", 1, 1, Kind.CHECKPOINT, b"old")
    log.flush()
    log.append("a", 1, 2, Kind.CHECKPOINT, b"new")
    log.commit()
    assert store.reached.wait(20)
    compaction = threading.Thread(target=Janitor(log).compact)
    compaction.start()
    assert store.based.wait(20)
    assert recover(store, "w").coroutines["a"].latest.state == b"old"  # as after a crash at this point
    store.through.set()
    compaction.join(20)
    log.close(20)
    assert recover(store, "w").coroutines["a"].latest.state == b"new"


def test_whoever_asked_is_told_once_that_so_much_was_written():
    tail, told = Tail(), []
    tail.call_when_grown(25, lambda: told.append(tail.bytes))
    tail.add(0, 10, [row("a", 1)])
    assert told == []
    tail.add(1, 10, [row("a", 2)], beside=5)  # a pack that came with it counts too
    tail.add(2, 100, [row("a", 3)])
    assert told == [20]
    tail.forget(2)
    assert tail.bytes == 100
