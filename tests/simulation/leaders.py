"""The real leader, takeovers and moves, over real logs and engines, in virtual time: only Ray and the store are ours.

Hosts die or are taken for dead while they live, leaders are replaced while they live, answers are lost. What a user has
been promised holds: each coroutine that was admitted ends once, with all its steps.
"""

from __future__ import annotations

import asyncio
import logging
import random

import ray

from ray_durable import operations
from ray_durable.actors import watching
from ray_durable.actors.retiring import retire_logs
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.log import Log
from ray_durable.compiler import durable
from ray_durable.errors import FencedError, LogStoppedError, NoSuchCoroutineError, StoreError
from ray_durable.logs import EventLog
from tests.simulation.objects import WorldObjects, doubled
from tests.simulation.processes import SETTINGS, Flaky, Term
from tests.simulation.unthreaded import eagerly_small, without_threads
from tests.simulation.virtual import Here, LoopClock, LoopExecutor, VirtualLoop
from tests.simulation.world import decoding_once, seldom_collecting

operations.install()

COROUTINES = 8
STEPS = 10
STORMY_S = 6.0
GUSTY_S = 9.0
"""Until then nobody dies any more, but answers are lost still."""
CALM_S = 60.0


def simulate_leaders(seed):
    """One world to its end. Raises: AssertionError for a broken promise."""
    loop = VirtualLoop()
    world = LeaderWorld(seed, loop)
    FINALLY.clear()
    loop.set_exception_handler(lambda loop, facts: world.problem(facts.get("exception") or facts["message"]))
    with without_threads(), eagerly_small(), world.objects.in_use(), decoding_once(), seldom_collecting():
        try:
            loop.run_until_complete(world.live())
        finally:
            end_all(loop)
    assert set(FINALLY) == {STEPS}, f"a dropped original ran its finally: {FINALLY}"
    return world


def in_calm(work, **settings):
    """Run `work(world)` in a world of one leader and its hosts, where nothing goes wrong."""
    loop = VirtualLoop()
    world = LeaderWorld(1, loop)
    world.stormy = False

    async def run():
        world.terms.append(Term(world))
        while world.leading is None or not any(host.usable for host in world.leading.fleet.hosts.values()):
            if world.terms[-1].work.done():
                world.terms[-1].work.result()  # why there is none
            assert loop.time() < 60, "no leader with a host has come about"
            await asyncio.sleep(0.1)
        world.leading.leader.settings = SETTINGS.replace(**settings)
        found = await asyncio.wait_for(work(world), 60)
        world.terms[-1].end(None)
        assert not world.problems, world.problems
        return found

    with without_threads():
        try:
            return loop.run_until_complete(run())
        finally:
            end_all(loop)


@durable
def counting(steps):
    seen = []
    try:
        for number in range(steps):
            operations.yield_point()
            seen.append(number)
    finally:
        FINALLY.append(len(seen))
    return seen


FINALLY: list[int] = []
"""How far each coroutine had come whose `finally` ran: one that is let go of lives on elsewhere, and runs none."""


@durable
def calling(steps):
    seen = []
    for number in range(steps):
        ref = doubled.remote(number)
        operations.yield_point()
        seen.append(ray.get(ref))
    return seen, ref


class LeaderWorld:
    def __init__(self, seed, loop):
        self.seed, self.loop, self.dice = seed, loop, random.Random(seed)
        self.clock = LoopClock(loop, self.dice)
        self.store, self.stormy = Flaky(self), True
        self.processes, self.problems, self.met = {}, [], set()
        self.event_log = EventLog(logging.Logger("quiet", logging.ERROR))
        self.event_log.logger.addHandler(Watching(self))
        self.objects = WorldObjects(loop, self.dice)
        self.leading = None
        self.terms, self.answers = [], []

    def chance(self, probability):
        return self.stormy and self.dice.random() < probability

    def perhaps_fail(self, name, probability):
        if self.chance(probability):
            raise StoreError("ask", name, "it fails now and then")

    def problem(self, error):
        self.problems.append(error)

    def log(self, writer, on_durable, on_error, delay_s=0.1):
        log = Log(
            self.store, writer, executor=LoopExecutor(self.loop, self.dice, delay_s), call_soon=self.loop.call_soon,
            on_durable=on_durable, on_error=on_error, in_flight=1, clock=self.clock,
        )  # fmt: skip
        log.advanced = Here(log)
        return log

    async def insist(self, act):
        while True:
            try:
                return act()
            except StoreError:
                await asyncio.sleep(0.1)

    async def befall(self):
        while self.loop.time() < GUSTY_S:
            await asyncio.sleep(self.dice.expovariate(1 / 0.25))
            term = self.terms[-1]
            living = [process for process in self.processes.values() if process.alive]
            deaths = ["kill", "kill", "rumour", "rumour", "usurp", "restart"] if self.loop.time() < STORMY_S else []
            match self.dice.choice([*deaths, "move", "move", "move", "tidy"]):
                case "kill" if living:
                    self.dice.choice(living).crash()
                case "rumour" if self.leading is term and term.fleet.hosts:
                    record = self.dice.choice(list(term.fleet.hosts.values()))
                    record.call_failed = record.state != "starting"
                    self.met.add("taken for dead")
                case "usurp":
                    self.terms.append(Term(self))
                    self.met.add("usurped")
                case "restart":
                    term.end(None)
                    self.terms.append(Term(self))
                case "tidy" if self.leading is term:
                    term.fleet.spawn(self.tidy(term))
                case "move" if self.leading is term:
                    self.move(term)
        self.stormy = False
        while True:
            await asyncio.sleep(1.0)
            if self.terms[-1].over:
                self.terms.append(Term(self))

    async def tidy(self, term):
        while not term.over:
            try:
                if await retire_logs(term.leader):
                    self.met.add("emptied a log")
                return
            except StoreError:
                await asyncio.sleep(0.01)

    def move(self, term):
        entries = [entry for entry in term.leader.ledger.entries.values() if entry.running]
        hosts = [record.incarnation for record in term.fleet.hosts.values() if record.usable]
        if entries and hosts:
            moving = watching.moves.migrate(
                term.leader, self.dice.choice(entries), self.dice.choice(hosts), "requested"
            )
            term.fleet.spawn(moving)

    async def client(self, number):
        await asyncio.sleep(self.dice.uniform(0, GUSTY_S))
        function = calling if number % 3 == 0 else counting
        state = dumps((function, (STEPS,), {}))
        header = Header(f"c{number}", function.__name__)
        while True:
            term = self.leading
            if term is not None and not term.over:
                try:
                    entry = await asyncio.wait_for(term.leader.admit(header, state), 2.0)
                    while entry.finished is None and self.leading is term and not term.over:
                        await entry.changed(0.5)
                    if entry.finished is not None:
                        assert entry.finished.ending == "completed", entry.finished.text
                        self.check(function, loads(entry.finished.payload))
                        return
                except (FencedError, LogStoppedError, TimeoutError):
                    pass
                except NoSuchCoroutineError as error:
                    assert "has ended" in error.reason
                    return
            await asyncio.sleep(0.2)

    def check(self, function, result):
        if function is counting:
            assert result == list(range(STEPS))
        else:
            seen, ref = result
            assert seen == [2 * number for number in range(STEPS)]
            assert ref.value() == seen[-1]

    async def live(self):
        self.terms.append(Term(self))
        fate = self.loop.create_task(self.befall())
        clients = [self.loop.create_task(self.client(number)) for number in range(COROUTINES)]
        _, late = await asyncio.wait(clients, timeout=GUSTY_S + CALM_S)
        for client in clients:
            if client in late:
                client.cancel()
            else:
                client.result()
        fate.cancel()
        for term in self.terms:
            term.end(None)
        for process in self.processes.values():
            process.crash()
        assert not late, f"{len(late)} coroutines were lost"
        assert not self.problems, self.problems


class Watching(logging.Handler):
    """Errors that the real shells would only log are the world's problems, but for those that it causes."""

    def __init__(self, world):
        super().__init__(logging.ERROR)
        self.world = world

    def emit(self, record):
        text = str(record.__dict__.get("facts", {}).get("error", ""))
        if not text.startswith(("StoreError", "FencedError", "LogStoppedError", "ActorDiedError", "RayTaskError")):
            self.world.problem(AssertionError(f"{record.getMessage()}: {record.__dict__.get('facts')}"))


def end_all(loop):
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=5.0))
    loop.close()
