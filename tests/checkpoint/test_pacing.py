"""There is so much room for what is written while a log is compacted; beyond it writers go slowly, compaction never."""

import random
import threading

import pytest

from ray_durable.checkpoint.compaction import Policy, at_once, room_meanwhile
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.pacing import LEAST, PAUSE_MAX_S, Pace
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.stores.memory import MemoryStore
from tests.checkpoint.test_tail import Gated


class Now:
    def __init__(self):
        self.at = 100.0

    def monotonic(self):
        return self.at


@pytest.fixture
def pace():
    return Pace(Now())


def test_without_a_compaction_nobody_waits(pace):
    pace.add(1 << 40)
    assert (pace.ahead(), pace.pause_s(), pace.limit(0)) == (0.0, 0.0, float("inf"))
    pace.at_once = 1000
    assert pace.limit(0) == 1000


def test_half_of_the_room_may_be_used_at_once_and_the_rest_as_compaction_gets_on(pace):
    pace.begin(1000)
    pace.add(500)
    assert pace.pause_s() == 0
    pace.add(250)
    assert pace.ahead() == 0.5
    pace.done = 0.75
    assert pace.ahead() == 0
    pace.end()
    assert pace.pause_s() == 0


def test_pauses_are_in_proportion_to_the_time_that_a_commit_takes_anyway_and_end(pace):
    pace.begin(1000)
    pace.taken()
    pace.add(750)
    pace.clock.at += 0.01
    assert pace.pause_s() == pytest.approx(0.16)
    pace.clock.at += 0.1
    assert pace.pause_s() == pytest.approx(0.06)
    pace.clock.at += 0.06
    assert pace.pause_s() == pytest.approx(0)


def test_commits_become_smaller_as_room_runs_out_and_seldom_and_tiny_when_there_is_none(pace):
    pace.begin(1000)
    assert pace.limit(0) == 500
    assert pace.limit(200) == 400
    pace.add(600)
    assert pace.limit(0) == 200
    pace.add(600)
    pace.taken()
    assert pace.limit(0) == 1000 * LEAST
    assert pace.pause_s() == PAUSE_MAX_S


def test_what_compaction_waits_for_is_not_held_up(pace):
    pace.begin(1000)
    pace.add(2000)
    pace.waived = True
    assert (pace.pause_s(), pace.limit(0)) == (0, float("inf"))


@pytest.mark.parametrize(
    ("live", "garbage", "copied", "room"),
    [
        (0, 4_000_000, 0, 2_800_000),
        (100_000_000, 50_000_000, 6_000_000, 35_800_000),
        (100_000_000, 95_000_000, 6_000_000, 6_750_000),  # something, so that nobody stands still
    ],
)
def test_room_is_what_is_left_to_a_little_less_than_twice_what_is_live(live, garbage, copied, room):
    assert room_meanwhile(Policy(garbage_bytes_min=4_000_000), live, garbage, copied) == pytest.approx(room)


def test_one_commit_alone_does_not_go_far_beyond_what_makes_a_compaction_due():
    assert at_once(Policy(), 100 << 20) == 54 << 18
    log = open_log(MemoryStore(), "w")
    Janitor(log, Policy(garbage_bytes_min=400_000))
    for n in range(20):
        log.append(f"c{n}", 1, 1, Kind.CHECKPOINT, bytes(30_000))
    log.flush()
    log.close()
    assert len(log.tail.sizes) == 7


def test_from_when_it_is_due_writers_are_held_to_the_room_for_a_compaction_until_there_is_no_need():
    log = open_log(MemoryStore(), "w")
    janitor, told = Janitor(log, Policy(garbage_bytes_min=100_000)), []
    janitor.watch(lambda: told.append(log.tail.bytes))
    log.append("a", 1, 1, Kind.CHECKPOINT, random.Random(1).randbytes(90_000))
    log.flush()
    assert (told, log.pace.room) == ([], float("inf"))
    log.append("a", 1, 2, Kind.CHECKPOINT, random.Random(2).randbytes(20_000))
    log.flush()
    assert told == [log.tail.bytes]
    assert log.pace.room == pytest.approx(1.7 * 100_000 - log.tail.bytes)
    assert log.pace.written == 0
    janitor.compact()
    assert log.pace.room == float("inf")
    log.append("a", 1, 3, Kind.CHECKPOINT, random.Random(3).randbytes(120_000))
    log.flush()
    assert len(told) == 2  # without being asked again
    assert log.pace.room < 100_000
    janitor.unwatch()
    assert log.pace.room == float("inf")
    log.append("a", 1, 4, Kind.CHECKPOINT, random.Random(4).randbytes(120_000))
    log.flush()
    log.close()
    assert len(told) == 2


@pytest.mark.timeout(30)
def test_a_proof_does_not_wait_for_records_that_do():
    log = open_log(MemoryStore(), "w")
    log.append("a", 1, 1, Kind.CHECKPOINT, b"before")
    log.flush()
    log.pace.begin(100)
    log.pace.add(200)
    log.append("a", 1, 2, Kind.CHECKPOINT, b"waits")
    log.commit()
    log.prove()
    assert (log.rows_durable, len(log.rows)) == (1, 1)
    with log.advanced:
        log.pace.end()
        log.advanced.notify_all()
    log.close()
    assert log.rows_durable == 2


@pytest.mark.timeout(30)
def test_what_was_held_up_goes_on_when_compaction_ends():
    store = Gated("logs/w/0000000000000001")  # the commit that is to prove the base
    log = open_log(store, "w")
    janitor = Janitor(log, Policy(garbage_bytes_min=1))
    log.append("a", 1, 1, Kind.CHECKPOINT, b"before")
    log.flush()
    compaction = threading.Thread(target=janitor.compact)
    compaction.start()
    assert store.reached.wait(20)
    assert log.pace.room < float("inf")
    log.append("a", 1, 2, Kind.CHECKPOINT, bytes(1000))
    store.through.set()
    compaction.join(20)
    log.flush(20)
    assert log.pace.room == float("inf")
    log.close()
