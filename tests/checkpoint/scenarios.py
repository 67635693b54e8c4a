"""What the crash and power-cut tests run: a log's life in short, telling what it was promised as soon as it was.

Each scenario is given a store and `promise(kind, *facts)`, and does the whole of one sequence: commits with chunks, a
seal, compactions with an archive, the retirement of a sealed log. `check` says whether a store keeps all promises.
"""

from __future__ import annotations

import random

from ray_durable.checkpoint.archive import read_archives
from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.maintenance import verify
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.retirement import retire
from ray_durable.checkpoint.sealing import seal

C = Kind.CHECKPOINT


def write(log, promise, *records):
    for id, seq, kind, state in records:
        log.append(id, 1, seq, kind, state)
    log.flush()
    for id, seq, kind, _ in records:
        promise("durable", id, seq, int(kind))


def commits(store, promise):
    log = open_log(store, "w")
    chance = random.Random(1)
    for seq in range(1, 4):
        buffer = chance.randbytes(100_000)
        write(log, promise, ("a", seq, C, dumps((seq, buffer), log.chunks)), ("b", seq, C, dumps(seq)))
    log.close()


def sealing(store, promise):
    log = open_log(store, "w")
    for seq in range(1, 3):
        write(log, promise, ("a", seq, C, dumps(seq)))
    sealed = seal(store, "w", "first", b"first plan")
    promise("sealed", sealed.length, sealed.plan.decode())
    log.own_executor.shutdown()


def compaction(store, promise):
    log = open_log(store, "w")
    janitor = Janitor(log, Policy(retention_count=1))
    chance = random.Random(1)
    for round in range(2):
        buffer = bytearray(chance.randbytes(100_000))
        for step in range(2):
            seq = 10 * round + step + 1
            buffer[step * 60_000] ^= 1
            write(log, promise, ("a", seq, C, dumps((seq, buffer), log.chunks)), (f"b{step}", seq, C, dumps(seq)))
        write(log, promise, (f"end{round}", 1, Kind.COMPLETED, dumps(round)))
        janitor.compact()
        write(log, promise, ("z", round + 1, C, dumps(round + 1)))
    log.close()


def retirement(store, promise):
    log = open_log(store, "w")
    write(log, lambda *_: None, ("a", 1, C, dumps(b"x" * 100_000, log.chunks)))
    write(log, lambda *_: None, ("a", 2, C, dumps(2)))
    sealed = seal(store, "w", "first", b"first plan")
    promise("sealed", sealed.length, sealed.plan.decode())
    retire(store, recover(store, "w"), b"n" * 16)
    promise("retired")
    log.own_executor.shutdown()


SCENARIOS = {each.__name__: each for each in (commits, sealing, compaction, retirement)}


def check(store, promises):
    """Raise AssertionError if a promise is not kept, or anything is half there."""
    found = recover(store, "w")
    assert found.damage == [], found.damage
    assert verify(store).sound, verify(store).findings
    archived = {row["coroutine"] for row in read_archives(store)}
    retired = found.emptied
    for kind, *facts in promises:
        if kind == "durable" and not retired:
            id, seq, record_kind = facts
            assert id in found.coroutines, f"{id} is gone"
            coroutine = found.coroutines[id]
            if record_kind == Kind.COMPLETED:
                assert coroutine.terminal is not None
                assert coroutine.terminal.kind is Kind.COMPLETED or id in archived
            else:
                assert coroutine.latest.seq >= seq, f"{id}: {seq} was acknowledged, {coroutine.latest.seq} is there"
        elif kind == "sealed":
            assert found.fenced
            assert (found.length, found.sealed.plan.decode()) == tuple(facts)
        elif kind == "retired":
            assert retired
    chunks = Chunks(store, "reader")
    for coroutine in found.coroutines.values():
        if coroutine.terminal is None:
            state = loads(coroutine.latest.state, chunks)
            number = state[0] if isinstance(state, tuple) else state
            assert number == coroutine.latest.seq or coroutine.id == "a"


def go_on(store):
    """Whoever comes after the crash can take over, and loses nothing that is there."""
    before = recover(store, "w")
    sealed = seal(store, "w", "successor", b"second plan")
    assert sealed.plan == (before.sealed.plan if before.sealed is not None else b"second plan")
    after = recover(store, "w")
    assert set(after.coroutines) == set(before.coroutines)
    assert after.sealed.plan == sealed.plan
