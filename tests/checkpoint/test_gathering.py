"""Folding a tail piece by piece keeps what counts, and little else in memory."""

import random

import pytest

from ray_durable.checkpoint import gathering
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.gathering import Gathered, pieces
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.record import Codec, Consumed, Kind
from ray_durable.checkpoint.recovery import Fold, recover
from ray_durable.checkpoint.rewriting import kept
from ray_durable.checkpoint.segment import decode, encode
from ray_durable.checkpoint.stores.memory import MemoryStore

KINDS = [kind for kind in Kind if kind is not Kind.SEAL]


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(gathering, "CONDENSE_FROM_BYTES", 0)
    monkeypatch.setattr(gathering, "AGAIN_FROM", 0)
    monkeypatch.setattr(gathering, "SPARSE", 1)
    monkeypatch.setattr(gathering, "PIECE_BYTES", 1)


def random_segment(chance, number):
    rows = []
    for seq in range(number * 20, number * 20 + chance.randrange(1, 20)):
        kind = chance.choice([Kind.CHECKPOINT] * 10 + KINDS)
        state = b"other" if kind is Kind.HOLDS else chance.randbytes(chance.choice([0, 5, 800]))
        consumed = b""
        if kind is Kind.CHECKPOINT and chance.random() < 0.5:
            consumed = Consumed(chance.randrange(seq + 1), seq, chance.randrange(seq + 1)).pack()
        codec = Codec.PICKLE | (Codec.KEPT if kind is Kind.CHECKPOINT and chance.random() < 0.1 else 0)
        rows.append((f"c{chance.randrange(12)}", chance.randrange(3), seq, int(kind), state, consumed, codec, None))
    return decode(segment_name("w", number), encode("w", number, b"n" * 16, rows, time_ms=number))


@pytest.mark.parametrize("seed", range(100))
def test_what_is_gathered_says_the_same_as_all_of_it(eager, seed):
    chance = random.Random(seed)
    segments = [random_segment(chance, number) for number in range(60)]
    gathered = Gathered()
    for segment in segments:
        gathered.add([segment])
    whole = Fold(segments)
    damage = []
    assert gathered.fold.coroutines(damage) == whole.coroutines(damage)
    assert damage == []
    policy = Policy(retention_count=3)
    ours, expected = (kept(fold, policy, 10**6, [], {}, None) for fold in (gathered.fold, whole))
    assert sorted(zip(ours[0].rows, ours[0].times_ms, strict=True)) == sorted(
        zip(expected[0].rows, expected[0].times_ms, strict=True)
    )
    assert {row.end for row in ours[1]} == {row.end for row in expected[1]}
    assert gathered.here < gathered.rows  # or nothing was tried


def test_memory_does_not_grow_with_the_tail(monkeypatch):
    monkeypatch.setattr(gathering, "CONDENSE_FROM_BYTES", 10_000)
    gathered, most = Gathered(), 0
    for number in range(400):
        rows = [(f"c{n}", 1, number, int(Kind.CHECKPOINT), bytes(100), b"marks", 1, None) for n in range(50)]
        gathered.add([decode(segment_name("w", number), encode("w", number, b"n" * 16, rows))])
        most = max(most, gathered.here)
    assert gathered.rows == 400 * 50
    assert most <= 4 * 50


def test_a_compaction_that_reads_its_tail_in_pieces_changes_nothing_that_is_readable(eager):
    store, chance = MemoryStore(), random.Random(3)
    log = open_log(store, "w")
    for seq in range(1, 60):
        for n in range(20):
            log.append(
                f"c{n}", 1, seq, Kind.CHECKPOINT, chance.randbytes(400), consumed=Consumed(events=seq // 2).pack()
            )
            log.append(f"c{n}", 1, seq, Kind.EVENT, b"%d" % seq)
        log.flush()
    before = recover(store, "w").coroutines
    Janitor(log, Policy(retention_s=None)).compact()
    assert recover(store, "w").coroutines == before
    assert len(store.list("logs/w/")) == 3
    log.close()


def test_pieces_are_as_many_segments_as_fit():
    assert list(pieces([1, 2, 3, 5], {1: 5 << 20, 2: 4 << 20, 3: 1, 5: 1})) == [[1, 2], [3, 5]]
