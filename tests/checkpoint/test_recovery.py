import pytest

from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.fencing import Written
from ray_durable.checkpoint.footer import Form
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.keys import NO_KEYS
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.maintenance import verify
from ray_durable.checkpoint.names import claim, claims, parse_log_object, segment_name, writers
from ray_durable.checkpoint.reading import read_records
from ray_durable.checkpoint.record import Consumed, Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import Sealing, seal
from ray_durable.checkpoint.segment import encode
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import StoreError
from tests.checkpoint.stores import Faulty


def logged(store, *segments, writer="w"):
    """A log whose segments hold the given `(id, epoch, seq, kind[, state[, consumed]])`."""
    log = open_log(store, writer)
    for records in segments:
        for id, epoch, seq, kind, *rest in records:
            log.append(id, epoch, seq, kind, *rest[:1] or (b"",), consumed=rest[1] if len(rest) > 1 else b"")
        log.flush()
    log.close()
    return log


A = Kind.ADOPTED
C = Kind.CHECKPOINT
E = Kind.EVENT


def test_the_newest_state_is_the_one_of_the_highest_epoch_and_seq():
    store = MemoryStore()
    logged(
        store,
        [("a", 2, 1, C, b"2.1"), ("a", 1, 9, C, b"1.9"), ("b", 1, 1, C, b"1.1")],
        [("b", 1, 2, C, b"1.2"), ("c", 3, 5, A, b"adopted"), ("c", 3, 5, C, b"same place, later")],
    )
    found = recover(store, "w").coroutines
    assert {id: each.latest.state for id, each in found.items()} == {
        "a": b"2.1",
        "b": b"1.2",
        "c": b"same place, later",
    }


def test_events_stay_until_a_checkpoint_has_consumed_them():
    store = MemoryStore()
    logged(
        store,
        [("a", 1, 1, A, b"s"), ("a", 1, 1, E, b"one"), ("a", 1, 2, E, b"two"), ("a", 1, 3, E, b"three")],
        [("a", 1, 2, C, b"t", Consumed(events=2).pack()), ("a", 1, 3, C, b"u")],
        [("a", 1, 3, E, b"three"), ("b", 1, 1, E, b"alone")],
    )
    found = recover(store, "w").coroutines
    assert [event.state for event in found["a"].events] == [b"three"]
    assert [event.state for event in found["b"].events] == [b"alone"]
    assert found["b"].latest is None


def test_items_stay_until_their_reader_has_them():
    store = MemoryStore()
    marks = Consumed(events=0, emitted=4, read=2).pack() + b"more of the writer's own"
    logged(store, [("a", 1, n, Kind.ITEM, b"%d" % n) for n in range(4)], [("a", 1, 1, C, b"", marks)])
    assert [item.state for item in recover(store, "w").coroutines["a"].items] == [b"2", b"3"]


def test_every_fact_of_a_coroutines_life_is_told():
    store = MemoryStore()
    logged(
        store,
        [("a", 0, 0, Kind.ADMITTED, b"request"), ("a", 1, 0, Kind.PLACED, b"host-1")],
        [("b", 1, 0, A, b"b"), ("b", 2, 7, Kind.MOVED, b"to host-2")],
        [("c", 1, 0, A, b"c"), ("c", 1, 4, Kind.COMPLETED, b"result")],
        [("d", 1, 0, A, b"d"), ("d", 2, 3, Kind.MOVED), ("d", 3, 3, A, b"back")],
        [("e", 1, 1, Kind.FAILED, b"error"), ("e", 1, 1, Kind.TOMBSTONE, b"expired")],
        [("f", 1, 1, A, b"f"), ("f", 1, 1, Kind.HOLDS, b"host-0")],
    )
    found = recover(store, "w").coroutines
    assert found["a"].admitted.state == b"request"
    assert found["a"].placed.state == b"host-1"
    assert found["b"].latest.kind is Kind.MOVED
    assert found["c"].terminal.state == b"result"
    assert found["d"].latest.state == b"back"
    assert found["e"].terminal.kind is Kind.TOMBSTONE
    assert found["f"].holds == {"host-0"}
    assert {id: each.live for id, each in found.items()} == {
        "a": False, "b": False, "c": False, "d": True, "e": False, "f": True,
    }  # fmt: skip
    assert found["b"].epoch == 2


def test_an_empty_or_unknown_log_holds_nothing():
    found = recover(MemoryStore(), "nobody")
    assert (found.coroutines, found.length, found.sealed) == ({}, 0, None)


def test_only_the_prefix_before_a_gap_is_visible():
    store = MemoryStore()
    logged(store, *([("a", 1, n, C, b"%d" % n)] for n in range(5)))
    store.delete(segment_name("w", 3))
    found = recover(store, "w")
    assert found.coroutines["a"].latest.state == b"2"
    assert found.length == 3
    assert [record.seq for record in read_records(store, "w")] == [0, 1, 2]


def test_a_log_can_be_followed():
    store = MemoryStore()
    log = open_log(store, "w")
    start, seen = 0, []
    for n in range(6):
        log.append("a", 1, n, C, b"")
        log.flush()
        if n % 2:
            records = read_records(store, "w", start)
            seen += [record.seq for record in records]
            start = records.next
            assert list(read_records(store, "w", start)) == []
    assert seen == list(range(6))
    seal(store, "w", "me", b"the end")
    records = read_records(store, "w", start)
    assert (list(records), records.seal.plan, records.next) == ([], b"the end", 6)


def test_a_stale_listing_hides_nothing():
    store = MemoryStore()
    logged(store, *([("a", 1, n, C, b"%d" % n)] for n in range(5)))

    class Stale(Faulty):
        def list(self, prefix):
            return [each for each in super().list(prefix) if int(each.name[-1]) < 2]

    assert recover(Stale(store, lambda *_: None), "w").coroutines["a"].latest.seq == 4


class Meanwhile(Faulty):
    """As one with other things to do reads: before the first read of `name`, `happen()`."""

    def __init__(self, inner, name, happen):
        super().__init__(inner, lambda operation, asked: happen if self.is_first(operation, asked) else None)
        self.awaited = name

    def is_first(self, operation, asked):
        if operation != "read" or asked != self.awaited:
            return False
        self.awaited = None
        return True


def write_and_compact(log, *seqs):
    for seq in seqs:
        log.append("a", 1, seq, C, b"%d" % seq)
        log.flush()
    Janitor(log, Policy(retention_s=None)).compact()
    assert [each.number for each in map(parse_log_object, names(log)) if each is not None and not each.base] == [
        log.progress.next - 1
    ], "only the mark that proved the log unsealed is left of its segments"


def names(log):
    return [each.name.removeprefix("logs/w/") for each in log.store.list("logs/w/")]


def test_a_segment_that_a_delayed_put_has_made_again_is_no_proof_that_its_log_ends_there():
    """Found by the simulation, in the world of seed 1032504."""
    store = MemoryStore()
    log = open_log(store, "w")
    log.append("a", 1, 0, C, b"0")
    log.flush()
    first = store.read(segment_name("w", 0))

    def happen():
        write_and_compact(log, 1, 2)
        store.create(segment_name("w", 0), first)

    found = recover(Meanwhile(store, segment_name("w", 1), happen), "w")
    assert found.coroutines["a"].latest.seq == 2


def test_a_seal_in_the_hole_that_compaction_left_ends_no_reading():
    store = MemoryStore()
    log = open_log(store, "w")
    for seq in range(2):
        log.append("a", 1, seq, C, b"%d" % seq)
        log.flush()

    def happen():
        write_and_compact(log, 2)
        slow = Sealing(store, "w", "slow", bytes(16), NO_KEYS)  # who saw the log when it had one segment
        assert isinstance(slow.try_seal(1), Written)

    found = recover(Meanwhile(store, segment_name("w", 1), happen), "w")
    assert not found.fenced, "its owner goes on"
    assert found.coroutines["a"].latest.seq == 2


def test_damage_is_reported_and_the_rest_is_loaded(store):
    logged(store, *([(f"c{n}", 1, 1, C, b"state" * 10)] for n in range(4)))
    name = segment_name("w", 1)
    body = bytearray(store.read(name))
    body[len(body) // 2] ^= 1
    store.delete(name)
    store.create(name, bytes(body))
    found = recover(store, "w")
    assert set(found.coroutines) >= {"c0", "c2", "c3"}
    assert found.length == 4
    (damage,) = found.damage
    assert damage.name == name
    assert damage.offset >= 0


def test_writers_are_listed(store):
    for writer in ("host-2", "host-1"):
        logged(store, [("a", 1, 1, C, b"")], writer=writer)
    assert writers(store) == ["host-1", "host-2"]


def test_claims_are_numbered_and_exclusive(store):
    assert [claim(store, "controller/", b"x%d" % n) for n in range(3)] == [1, 2, 3]
    assert [number for number, _ in claims(store, "controller/")] == [1, 2, 3]
    assert claim(store, "cluster/", b"mine") == 1


def test_a_claim_whose_reply_was_lost_is_ours():
    failures = iter(["after"])
    store = Faulty(MemoryStore(), lambda operation, name: next(failures, None) if operation == "create" else None)
    assert claim(store, "cluster/", b"mine") == 1
    dead = Faulty(MemoryStore(), lambda operation, name: "before" if operation == "create" else None)
    with pytest.raises(StoreError):
        claim(dead, "cluster/", b"mine")


def test_under_a_damaged_base_its_parts_are_read_all_the_same(store):
    log = open_log(store, "w")
    janitor = Janitor(log, Policy(retention_s=None))
    for seq in (1, 2):
        for n in range(50):
            log.append(f"c{n}", 1, seq, C, b"%d" % seq)
        log.flush()
        janitor.compact()
    log.append("c0", 1, 3, C, b"3")
    log.flush()
    log.close()
    (base,) = [each.name for each in store.list("logs/w/") if "/base-" in each.name]
    body = bytearray(store.read(base))
    body[5] ^= 1
    store.delete(base)
    store.create(base, bytes(body))
    stale = encode("w", 0, bytes(16), [("c1", 1, 1, int(C), b"1", b"", 0, None)], Form.PART, times_ms=[0])
    store.create(f"logs/w/parts/{0:032x}", stale)  # of an earlier base, that nobody has deleted yet
    found = recover(store, "w")
    assert [error.name for error in found.damage] == [base]
    assert {id: each.latest.state for id, each in found.coroutines.items()} == {
        f"c{n}": b"3" if n == 0 else b"2" for n in range(50)
    }
    assert [(each.kind, each.name) for each in verify(store).findings] == [("damaged", base)]


def test_a_base_under_another_name_is_refused(store):
    log = open_log(store, "w")
    janitor = Janitor(log, Policy(retention_s=None))
    log.append("a", 1, 1, C, b"1")
    log.flush()
    janitor.compact()
    log.close()
    (base,) = [each.name for each in store.list("logs/w/") if "/base-" in each.name]
    later = base[:-1] + "9"
    store.create(later, store.read(base))
    assert [(error.name, error.reason) for error in recover(store, "w").damage] == [
        (later, "it is not the base of this name")
    ]
