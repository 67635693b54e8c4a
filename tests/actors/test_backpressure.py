"""A slow store makes coroutines wait before they are stepped, so that memory does not fill with their states."""

from __future__ import annotations

import asyncio
import time

from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.compiler import durable
from tests.actors.engines import EngineHost
from tests.checkpoint.stores import Faulty


@durable
def carries(number):
    load = bytes([number]) * 1000
    for _ in range(3):
        time.sleep(0)
    return len(load)


async def test_a_slow_store_holds_up_coroutines_before_their_states_fill_memory():
    host = EngineHost(Faulty(MemoryStore(), lambda operation, name: lambda: time.sleep(0.005)), "w")
    host.engine.turn_size = 8
    log, append, waiting = host.log, host.log.append, [0]
    log.bytes_max = 20_000

    def noting(coroutine, epoch, seq, kind, *given):
        append(coroutine, epoch, seq, kind, *given)
        if kind == Kind.CHECKPOINT:
            waiting.append(log.bytes_appended - log.bytes_released)

    log.append = noting
    for number in range(200):
        host.start(carries, number, id=f"c{number}")
    assert await asyncio.gather(*(host.result(f"c{number}") for number in range(200))) == [1000] * 200
    assert len(waiting) > 600
    assert 20_000 < max(waiting) < 20_000 + 8 * 2_000  # what it may be, and the turn in which it becomes more
    host.crash()
