"""The real leader, takeovers and moves, over real logs and engines, in virtual time: only Ray and the store are ours.

Hosts die or are taken for dead while they live, leaders are replaced while they live, answers are lost. What a user has
been promised holds: each coroutine that was admitted ends once, with all its steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import types
from dataclasses import replace
from unittest.mock import patch

import ray

from ray_durable import operations
from ray_durable.actors import watching
from ray_durable.actors.controller import Controller
from ray_durable.actors.engine import Engine
from ray_durable.actors.events import Events
from ray_durable.actors.fleet import Fleet, HostRecord
from ray_durable.actors.host import Host
from ray_durable.actors.housekeeping import keep_small
from ray_durable.actors.leader import Leader
from ray_durable.actors.rebuild import controller_writer, read_logs, rebuild
from ray_durable.actors.retiring import retire_logs
from ray_durable.actors.tally import Tally
from ray_durable.actors.terms import next_term
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable
from ray_durable.compiler.discard import discard
from ray_durable.config import Settings
from ray_durable.errors import FencedError, LogStoppedError, NoSuchCoroutineError, StoreError
from ray_durable.logs import EventLog
from ray_durable.metrics import NO_METRICS
from tests.simulation.objects import WorldObjects, doubled
from tests.simulation.virtual import Here, LoopClock, LoopExecutor, VirtualLoop
from tests.simulation.world import decoding_once, seldom_collecting

operations.install()

COROUTINES = 8
STEPS = 10
STORMY_S = 6.0
GUSTY_S = 9.0
"""Until then nobody dies any more, but answers are lost still."""
CALM_S = 60.0
SETTINGS = Settings.load({}, storage="memory://leaders", lease_s=1.0, silence_s=0.5, retention_s=3.0)


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


class Flaky(MemoryStore):
    """Fails now and then, before the effect or after it."""

    def __init__(self, world):
        super().__init__("memory://leaders")
        self.world = world

    def create(self, name, data):
        self.world.perhaps_fail(name)
        super().create(name, data)
        self.world.perhaps_fail(name)

    def read(self, name, start=0, length=None):
        self.world.perhaps_fail(name)
        return super().read(name, start, length)


class HostProcess:
    """A host's process: the real actor class around a real engine and log. Calls reach it late, or not at all."""

    def __init__(self, world, incarnation, dedicated_to, environment):
        self.world, self.alive = world, True
        self.host = host = Host(incarnation, SETTINGS, dedicated_to, environment)
        host.started, host.event_log, host.news = True, world.event_log, asyncio.Event()
        host.tally = Tally(NO_METRICS, world.clock)
        engine = Engine(world.loop, tally=host.tally, turn_size=2, clock=world.clock, on_finished=host.finished)
        engine.turn = world.objects.inside(self, engine.turn)
        engine.adopt = world.objects.inside(self, engine.adopt)
        host.engine = engine
        host.engine.on_failure = world.problem
        host.engine.log = host.log = world.log(incarnation, host.engine.on_durable, self.fenced)
        self.small = world.loop.create_task(keep_small(host.log, SETTINGS, world.event_log, lambda: host.released))

    def fenced(self, error):
        self.crash()

    def crash(self):
        self.alive = False
        self.small.cancel()
        self.host.engine.stop()
        self.host.log.on_durable = self.host.log.on_error = lambda *_: None
        for hosted in self.host.engine.coroutines.values():  # a process that is gone runs no code of theirs
            for branch in hosted.coroutine.branches():
                discard(branch.root)

    async def answer_hello(self, term, address, token):
        """What `Host.hello` promises, without its heartbeats."""
        host = self.host
        host.check(term)
        host.engine.stay()
        settled = self.world.loop.create_future()
        host.engine.after_commit(lambda: settled.set_result(None))
        await settled
        host.check(term)

    def __getattr__(self, name):
        method = self.answer_hello if name == "hello" else getattr(self.host, name)
        return types.SimpleNamespace(remote=lambda *args: asyncio.ensure_future(self.call(method, args)))

    async def call(self, method, args):
        await asyncio.sleep(self.world.dice.expovariate(1 / 0.01))
        self.must_live()
        if self.world.chance(0.02):
            raise ray.exceptions.ActorUnavailableError("the request was lost", None)
        answer = asyncio.ensure_future(method(*args))
        answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.world.answers.append(answer)
        while not answer.done():
            await asyncio.wait([answer], timeout=0.05)
            self.must_live()
        await asyncio.sleep(self.world.dice.expovariate(1 / 0.01))
        self.must_live()
        if self.world.chance(0.3 if method.__name__ == "release" else 0.02):
            raise ray.exceptions.ActorUnavailableError("the answer was lost", None)
        try:
            return answer.result()
        except Exception as error:
            raise ray.exceptions.RayTaskError("call", "", error) from error

    def must_live(self):
        if not self.alive:
            raise ray.exceptions.ActorDiedError


class LocalFleet(Fleet):
    """The real fleet, whose hosts are objects of this process."""

    def __init__(self, world, term, on_replaced):
        self.world, self.term, self.settings, self.log, self.clock = world, term, SETTINGS, world.event_log, world.clock
        self.leader, self.began = None, -100.0
        self.changed = asyncio.Event()
        self.on_change, self.on_replaced = self.changed.set, on_replaced
        self.hosts, self.nodes, self.draining, self.lost_nodes, self.tries = {}, {}, {}, set(), {}
        self.tasks, self.loop = set(), world.loop
        self.listener = types.SimpleNamespace(beats={}, given_up=set(), address=None, token="")

    def on_finished(self, finished):
        self.leader.finished(finished)

    def on_ready(self, record):
        self.leader.hand_over_debts(record)
        self.changed.set()

    def on_failed(self, record, tries):
        self.world.met.add("died young")

    def last_heard(self, record):
        return self.world.loop.time()

    async def look_at_nodes(self):
        pass

    def ensure_shared_hosts(self):
        if sum(host.state != "dead" for host in self.hosts.values()) < 3 and self.may_start("here"):
            self.make("here", {})

    def make(self, node, options, *, dedicated_to=None, environment=""):
        incarnation = f"host-{node or 'any'}-{self.clock.unique()[:12]}"
        process = self.world.processes[incarnation] = HostProcess(self.world, incarnation, dedicated_to, environment)
        record = HostRecord(incarnation, node, process, dedicated_to=dedicated_to, environment=environment, place=node)
        self.hosts[incarnation] = record
        self.spawn(self.watch(record))
        return record

    def find_running(self):
        for incarnation, process in self.world.processes.items():
            if process.alive:
                self.hosts[incarnation] = HostRecord(incarnation, "here", process, place="here")
        return list(self.hosts.values())

    async def greet(self, record):
        await record.handle.hello.remote(self.term, self.listener.address, self.listener.token)
        record.began = record.ready_at = self.clock.monotonic()
        if record.state in ("starting", "suspect"):
            record.state = "alive"

    def kill(self, record):
        record.state = "dead"
        if record.handle is not None:
            record.handle.crash()


class Term:
    """One controller: the real leader, watched and rebuilt as the real actor does it."""

    def __init__(self, world):
        self.world = world
        self.over = False
        self.work = world.loop.create_task(self.lead())

    async def lead(self):
        world = self.world
        self.term = await world.insist(lambda: next_term(world.store, world.clock))
        self.fleet = fleet = LocalFleet(world, self.term, self.end)
        running = fleet.find_running()
        for record in running:
            try:
                await asyncio.wait_for(fleet.greet(record), 4.0)
            except TimeoutError:
                record.state = "suspect"
            except ray.exceptions.RayActorError:
                fleet.hosts.pop(record.incarnation)
            except ray.exceptions.RayTaskError as error:  # a later term leads
                self.end(error)
                return
        rebuilt = rebuild(await world.insist(lambda: read_logs(world.store, self.term)))
        log = world.log(
            controller_writer(self.term), lambda tokens: [t() for t in tokens if t is not None], self.end, 0.03
        )
        events = Events(world.event_log, world.clock)
        self.leader = fleet.leader = Leader(
            self.term, SETTINGS, log, fleet, rebuilt.ledger, events=events, metrics=NO_METRICS,
            event_log=world.event_log, clock=world.clock,
        )  # fmt: skip
        shell = object.__new__(Controller)
        shell.leader, shell.fleet, shell.metrics = self.leader, fleet, NO_METRICS
        await shell.resume(rebuilt)
        fleet.spawn(keep_small(log, SETTINGS, world.event_log, self.leader.settled))
        if world.leading is None or world.leading.term < self.term:
            world.leading = self
        await watching.watch(self.leader, fleet.changed)

    def end(self, error):
        self.over = True
        self.work.cancel()
        for task in list(self.fleet.tasks) if hasattr(self, "fleet") else ():
            task.cancel()


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

    def perhaps_fail(self, name):
        if self.chance(0.03):
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


class OneByOne:
    """In the place of a pool of threads: threads would roll the dice in an order of their own."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


class Eager(Janitor):
    """Compacts whenever it can, whatever it is told."""

    def __post_init__(self):
        super().__post_init__()
        self.policy = replace(self.policy, garbage_bytes_min=1, garbage_ratio=0.3, tail_segments_max=4)

    def compact(self):
        super().compact()
        self.log.store.world.met.add("compacted")


async def inline(fn, *args, **kwargs):
    """In the place of `asyncio.to_thread`: blocking work takes its time, and then happens at once."""
    await asyncio.sleep(0.02)
    return fn(*args, **kwargs)


@contextlib.contextmanager
def without_threads():
    """Whatever would go to a thread happens on the loop, so that one seed is one world."""
    with contextlib.ExitStack() as patches:
        patches.enter_context(patch("asyncio.to_thread", inline))
        patches.enter_context(patch("ray_durable.actors.rebuild.ThreadPoolExecutor", OneByOne))
        patches.enter_context(patch("ray_durable.checkpoint.reading.ThreadPoolExecutor", OneByOne))
        patches.enter_context(patch.object(SYSTEM_CLOCK.__class__, "sleep", lambda self, seconds: None))
        yield


def eagerly_small():
    return patch("ray_durable.actors.housekeeping.Janitor", Eager)


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


def end_all(loop):
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=5.0))
    loop.close()


def in_calm(work, **settings):
    """Run `work(world)` in a world of one leader and its hosts, where nothing goes wrong."""
    loop = VirtualLoop()
    world = LeaderWorld(1, loop)
    world.stormy = False

    async def run():
        world.terms.append(Term(world))
        while world.leading is None or not any(host.usable for host in world.leading.fleet.hosts.values()):
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
