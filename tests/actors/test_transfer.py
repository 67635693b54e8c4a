"""What travels: bytes that come back as they were, and logs that become transfers."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.facts import facts_in, finished_in, newest_transfer, transfer_from
from ray_durable.actors.ownership import Fact
from ray_durable.actors.transfer import Demands, Header, Marks, Transfer
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores import open_store
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import LogStoppedError, StoreError

HEADER = Header("c", "jobs.work", name="n", demands=Demands(num_cpus=1, label_selector={"zone": "!us"}))
numbered = st.lists(st.tuples(st.integers(0, 2**40), st.binary(max_size=20)), max_size=4).map(tuple)


@given(st.binary(max_size=50), numbered, numbered, st.integers(0, 2**40))
def test_a_transfer_survives_its_encoding(state, events, items, epoch):
    sent = Transfer(HEADER, "frames", state, epoch, 7, "host-1", Marks(1, 2, 3, 4), events, items)
    assert Transfer.decode(sent.encode()) == sent


def logged(store, writer, *records):
    log = open_log(store, writer)
    for id, epoch, seq, kind, state, *marks in records:
        log.append(id, epoch, seq, kind, state, consumed=marks[0].pack() if marks else b"")
    log.close()
    return recover(store, writer)


def test_the_newest_checkpoint_travels_with_what_came_after_it(tmp_path):
    store = open_store(str(tmp_path))
    begun = Transfer(HEADER, "call", b"call", epoch=1, to="host-1")
    found = logged(
        store,
        "host-1",
        ("c", 1, 0, Kind.ADOPTED, begun.encode()),
        ("c", 1, 1, Kind.EVENT, b"in the state"),
        ("c", 1, 0, Kind.ITEM, b"read"),
        ("c", 1, 1, Kind.ITEM, b"unread"),
        ("c", 1, 5, Kind.CHECKPOINT, b"frames", Marks(events=1, emitted=2, read=1)),
        ("c", 1, 2, Kind.EVENT, b"after it"),
    ).coroutines["c"]
    transfer = transfer_from(found)
    assert (transfer.form, transfer.state, transfer.epoch, transfer.seq) == ("frames", b"frames", 1, 5)
    assert transfer.header == HEADER
    assert transfer.events == ((2, b"after it"),)
    assert transfer.items == ((1, b"unread"),)


def test_what_was_carried_along_and_not_consumed_stays_with_the_next_owner(tmp_path):
    store = open_store(str(tmp_path))
    carried = Transfer(
        HEADER, "frames", b"f", epoch=2, seq=5, marks=Marks(1, 3, 1), events=((2, b"e"),), items=((1, b"i"), (2, b"j"))
    )
    found = logged(store, "host-2", ("c", 2, 5, Kind.ADOPTED, carried.encode(), carried.marks))
    transfer = transfer_from(found.coroutines["c"])
    assert transfer == carried
    found = logged(
        store,
        "host-3",
        ("c", 2, 5, Kind.ADOPTED, carried.encode(), carried.marks),
        ("c", 2, 6, Kind.CHECKPOINT, b"g", Marks(events=2, emitted=3, read=2)),
    )
    transfer = transfer_from(found.coroutines["c"])
    assert (transfer.events, transfer.items) == ((), ((2, b"j"),))


def test_of_all_logs_the_newest_state_by_epoch_and_seq_counts(tmp_path):
    store = open_store(str(tmp_path))
    at = lambda epoch, seq: Transfer(HEADER, "frames", f"{epoch}.{seq}".encode(), epoch, seq).encode()
    old = logged(store, "host-1", ("c", 1, 9, Kind.ADOPTED, at(1, 9)))
    new = logged(store, "host-2", ("c", 2, 9, Kind.ADOPTED, at(2, 9)), ("c", 2, 10, Kind.CHECKPOINT, b"2.10"))
    assert newest_transfer("c", {"host-1": old, "host-2": new}).state == b"2.10"


def test_facts_and_outcomes_are_read_off_a_log(tmp_path):
    store = open_store(str(tmp_path))
    begun = Transfer(HEADER, "call", b"", epoch=1, to="host-1")
    gone = replace(begun, epoch=2, to="host-2")
    found = logged(
        store,
        "host-1",
        ("c", 1, 0, Kind.ADOPTED, begun.encode()),
        ("d", 1, 0, Kind.ADOPTED, begun.encode()),
        ("c", 2, 3, Kind.MOVED, gone.encode()),
        ("d", 1, 4, Kind.COMPLETED, b"result"),
    )
    assert set(facts_in(found)) == {
        Fact("c", "adopted", 1, "host-1"),
        Fact("d", "adopted", 1, "host-1"),
        Fact("c", "planned", 2, "host-2"),
        Fact("d", "terminal", 1),
    }
    assert [(f.coroutine, f.ending, f.payload) for f in finished_in(found)] == [("d", "completed", b"result")]


class Stops(MemoryStore):
    """Fails for good at the object that is made `after` others."""

    after = 1 << 30

    def create(self, name, data):
        self.after -= 1
        if self.after < 0:
            raise StoreError("create", name, "the process is gone")
        super().create(name, data)


def compacted_until(after):
    """A log of coroutines that ended since its last compaction, whose next one ends `after` so many objects."""
    store = Stops("memory://w")
    log = open_log(store, "host-1", retry_for_s=0.0)
    janitor = Janitor(log, Policy(retention_s=None))
    streamed = Transfer(HEADER, "call", b"call", 1, 0, "host-1", Marks(emitted=2, read=1), (), ((1, b"came along"),))
    for id in "abcdefgh":
        log.append(id, 1, 0, Kind.ADOPTED, streamed.encode())
    log.flush()
    janitor.compact()
    for id in "abcdefgh":
        log.append(id, 1, 1, Kind.CHECKPOINT, b"frames", consumed=Marks(0, 2, 1).pack())
        log.append(id, 1, 2, Kind.ITEM, b"made here")
        log.append(id, 1, 2, Kind.COMPLETED, b"result", consumed=Marks(0, 3, 1).pack())
    log.flush()
    store.after = after
    with contextlib.suppress(StoreError, LogStoppedError):
        janitor.compact()
    stopped = store.after < 0
    store.after = 1 << 30
    log.own_executor.shutdown()
    return stopped, recover(store, "host-1")


def test_a_compaction_that_is_cut_short_takes_nothing_from_those_that_have_ended(monkeypatch):
    monkeypatch.setattr("ray_durable.checkpoint.compaction.PARTITION_BYTES", 64)
    for after in range(100):
        stopped, recovery = compacted_until(after)
        finished = list(finished_in(recovery))
        assert len(finished) == 8
        for each in finished:
            assert each.payload == b"result"
            assert each.items == ((1, b"came along"), (2, b"made here"))
            newest_transfer(each.coroutine, {"host-1": recovery})
        if not stopped:
            break
    assert after > 8  # each partition has parts and a base of its own
