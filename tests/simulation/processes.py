"""What the real leader works with, where only Ray and the store are ours: hosts, their fleet, and terms of controllers.

Each is the real class around real engines and logs; what would be a process, an actor call or a kill is a thing of this
process, in virtual time.
"""

from __future__ import annotations

import asyncio
import types

import ray

from ray_durable.actors import watching
from ray_durable.actors.controller import Controller
from ray_durable.actors.engine import Engine
from ray_durable.actors.events import Events
from ray_durable.actors.fleet import Fleet, HostRecord
from ray_durable.actors.host import Host
from ray_durable.actors.housekeeping import keep_small
from ray_durable.actors.leader import Leader
from ray_durable.actors.rebuild import controller_writer, read_logs, rebuild
from ray_durable.actors.tally import Tally
from ray_durable.actors.terms import next_term
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.compiler.discard import discard
from ray_durable.config import Settings
from ray_durable.metrics import NO_METRICS

SETTINGS = Settings.load({}, storage="memory://leaders", lease_s=1.0, silence_s=0.5, retention_s=3.0)


class Flaky(MemoryStore):
    """Fails now and then, before the effect or after it; seldom where it is read, as whoever reads whole logs begins
    again each time."""

    writing, reading = 0.03, 0.01

    def __init__(self, world):
        super().__init__("memory://leaders")
        self.world = world

    def create(self, name, data):
        self.world.perhaps_fail(name, self.writing)
        super().create(name, data)
        self.world.perhaps_fail(name, self.writing)

    def read(self, name, start=0, length=None):
        self.world.perhaps_fail(name, self.reading)
        return super().read(name, start, length)


class HostProcess:
    """A host's process: the real actor class around a real engine and log. Calls reach it late, or not at all."""

    def __init__(self, world, incarnation, dedicated_to, environment):
        self.world, self.alive, self.gone = world, True, world.loop.create_future()
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
        if self.alive:
            self.gone.set_result(None)
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
        await asyncio.wait([answer, self.gone], return_when=asyncio.FIRST_COMPLETED)
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
        self.leader, self.began, self.acts = None, -100.0, False
        self.changed = asyncio.Event()
        self.on_change, self.on_replaced = self.changed.set, on_replaced
        self.hosts, self.nodes, self.draining, self.lost_nodes, self.tries = {}, {}, {}, set(), {}
        self.tasks, self.loop, self.culprits = set(), world.loop, []
        self.listener = types.SimpleNamespace(beats={}, given_up=set(), address=None, token="")

    def spawn(self, work):
        self.acts = True
        super().spawn(work)

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
    """One controller: the real leader, watched and rebuilt as the real actor does it.

    `dawdles_s`: how long it does nothing between reading the logs and doing what follows from them. `has_read`,
    `began`: whether it has, and when it began to act on that."""

    def __init__(self, world, dawdles_s=0.0):
        self.world, self.dawdles_s = world, dawdles_s
        self.over = False
        self.has_read, self.began = asyncio.Event(), None
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
        self.has_read.set()
        await asyncio.sleep(self.dawdles_s)
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
        self.began = world.loop.time()
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
