"""What a program in asyncio's words does natively it does durably, and also when its host dies at every yield.

All programs run side by side, as most of their time is sleep; each is a test of its own.
"""

from __future__ import annotations

import asyncio

import pytest

from ray_durable.actors.saving import Together
from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from ray_durable.runner import Branch
from tests.actors.engines import EngineHost
from tests.concurrency import programs, synchronizing

PROGRAMS = [*programs.PROGRAMS, *synchronizing.PROGRAMS]
Logs = dict[str, object]
ids = [program.__name__ for program in PROGRAMS]


@durable
async def run_program(program):
    log = []
    await program(log)
    return log


@pytest.fixture(scope="module")
def native() -> Logs:
    async def run():
        async def undecorated(program):
            log = []
            await program(log)
            return log

        return await asyncio.gather(*[undecorated(program) for program in PROGRAMS], return_exceptions=True)

    return dict(zip(ids, asyncio.run(run()), strict=True))


def start_all(host: EngineHost) -> None:
    for program in PROGRAMS:
        host.start(run_program, program, id=program.__name__)


async def outcome(host: EngineHost, id: str) -> object:
    try:
        return await host.result(id, timeout_s=60)
    except Exception as error:
        return repr(error)


@pytest.fixture(scope="module")
def durable_logs() -> Logs:
    async def run():
        host = EngineHost(open_store("memory://concurrency"), "host-1")
        start_all(host)
        try:
            return {id: await outcome(host, id) for id in ids}
        finally:
            host.crash()

    return asyncio.run(run())


class Holding:
    """Lets nothing on this host go on from a durable checkpoint, but for those of the first `free` commits; says when
    all has come to one. (With none free, a task that ends without a further yield would never get to be saved.)"""

    def __init__(self, host: EngineHost, free: int) -> None:
        self.free = free
        self.ordinary = host.log.on_durable
        self.held = 0
        self.last = 0.0
        host.log.on_durable = self.on_durable

    def on_durable(self, tokens):
        self.last = asyncio.get_running_loop().time()
        count = sum(isinstance(token, Branch | Together) for token in tokens)
        if count and self.free:
            self.free -= 1
            self.ordinary(tokens)
            return
        self.held += count
        self.ordinary([token for token in tokens if not isinstance(token, Branch | Together)])

    def is_still(self) -> bool:
        return self.held > 0 and asyncio.get_running_loop().time() - self.last > 0.04


@pytest.fixture(scope="module")
def crashing_logs() -> tuple[Logs, int]:
    """The logs, and how many hosts have died."""

    async def run():
        host = EngineHost(open_store("memory://crashes"), "host-1")
        start_all(host)
        found, died = {}, 0
        while True:
            holding = Holding(host, free=died % 3)
            while len(found) + len(host.outcomes) < len(ids) and not holding.is_still():
                await asyncio.sleep(0.02)
            found.update({id: await outcome(host, id) for id in host.outcomes})
            host.crash()
            for hosted in host.engine.coroutines.values():
                host.engine.let_go_of_branches(hosted.coroutine)
                hosted.coroutine.let_go()
                if hosted.coroutine.main.driver is not None:
                    hosted.coroutine.main.driver.stop()
            if len(found) == len(ids):
                return found, died
            died += 1
            host = host.successor(f"host-{died + 1}")

    return asyncio.run(run())


@pytest.mark.parametrize("name", ids)
def test_a_program_does_durably_what_it_does_natively(name, native, durable_logs):
    assert durable_logs[name] == native[name]


@pytest.mark.parametrize("name", ids)
def test_a_program_does_so_when_its_host_dies_at_every_yield(name, native, crashing_logs):
    assert crashing_logs[0][name] == native[name]


def test_hosts_did_die(crashing_logs):
    assert crashing_logs[1] > 5
