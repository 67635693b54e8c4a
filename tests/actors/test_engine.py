"""The engine over a real log: everything a host does with coroutines, short of Ray."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from ray_durable.errors import CoroutineExitedError
from ray_durable.operations import yield_point
from tests.actors.engines import EngineHost


@durable
def total(n):
    sum_ = 0
    for i in range(n):
        time.sleep(0)
        sum_ += i
    return sum_


@pytest.fixture
async def host(tmp_path):
    found = EngineHost(open_store(str(tmp_path)), "host-1")
    yield found
    found.crash()


async def test_a_plain_function_suspends_and_finishes(host):
    host.start(total, 5)
    assert await host.result() == 10


@durable
def exits(code):
    time.sleep(0)
    sys.exit(code)


@durable
async def interrupts():
    await asyncio.sleep(0)
    raise KeyboardInterrupt


async def test_sys_exit_ends_the_coroutine_and_no_other(host):
    host.start(total, 50, id="neighbour")
    host.start(exits, 3, id="exits")
    host.start(interrupts, id="interrupts")
    with pytest.raises(CoroutineExitedError, match=r"SystemExit\(3\)") as failed:
        await host.result("exits")
    assert isinstance(failed.value.__cause__, SystemExit)
    with pytest.raises(CoroutineExitedError, match="KeyboardInterrupt"):
        await host.result("interrupts")
    assert await host.result("neighbour") == 1225


@durable
async def sleeps_in_ordinary_words():
    began = time.time()
    time.sleep(0.2)
    yield_point()
    await yield_point()
    return await asyncio.sleep(0, result=total(3)), time.time() - began


async def test_ordinary_sleeps_and_calls_suspend_in_async_functions_too(host):
    host.start(sleeps_in_ordinary_words)
    before = host.engine.tally.checkpoints
    summed, took_s = await host.result()
    assert (summed, took_s >= 0.2) == (3, True)
    assert host.engine.tally.checkpoints - before == 7, "a sleep, two yield points, three in the call, a sleep"


def test_outside_a_coroutine_an_async_function_does_what_its_words_say():
    summed, took_s = asyncio.run(sleeps_outside())
    assert (summed, took_s >= 0.1) == (3, True)


@durable
async def sleeps_outside():
    began = time.time()
    time.sleep(0.1)
    yield_point()
    await yield_point()
    return total(3), time.time() - began
