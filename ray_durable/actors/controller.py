"""The controller: a named, detached Ray actor that places coroutines and answers for them.

This is its face and its beginning; what it does while it leads is `leader`'s. It may be killed at any moment: its next
incarnation takes a higher term and rebuilds the map from the hosts that live and from the logs. Calls that were waiting
are repeated by Ray, and answered by the new one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from ray_durable.actors import asking, cluster, figures, moves, watching
from ray_durable.actors.events import Events
from ray_durable.actors.exporter import Exporter, Target
from ray_durable.actors.fleet import Fleet, HostRecord
from ray_durable.actors.housekeeping import keep_small
from ray_durable.actors.leader import Leader
from ray_durable.actors.ledger import Entry
from ray_durable.actors.opening import open_metered
from ray_durable.actors.outcomes import Failure, Value
from ray_durable.actors.rebuild import Rebuilt, controller_writer, read_logs, rebuild
from ray_durable.actors.retiring import keep_tidy
from ray_durable.actors.rows import row
from ray_durable.actors.takeover import take_over
from ray_durable.actors.terms import beat, is_replaced, lead_cluster, next_term
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.keys import keys_of
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.stores import probe
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.config import Settings
from ray_durable.errors import FencedError, NoSuchCoroutineError, StorageInUseError
from ray_durable.inspection import CoroutineView
from ray_durable.logs import open_event_log
from ray_durable.metrics import Metrics

__all__ = ["CONTROLLER", "Controller"]

CONTROLLER = "ray_durable_controller"
PATIENCE_S = 1.0  # for a name or id that is not known (yet)
STREAM_PATIENCE_S = 30.0  # for a stream, whose coroutine has surely been started
AGAIN_S = 1.0  # between attempts to begin, while the store fails


class Controller:
    """The actor. Every method first waits until its term has begun."""

    def __init__(self, settings: Settings, takeover: bool = False) -> None:
        self.settings = settings
        self.takeover = takeover
        self.begun: asyncio.Task[None] | None = None
        self.cancelling: set[asyncio.Task[None]] = set()
        self.leader: Leader
        cluster.ignore_unread_errors()
        # Ray restarts a killed controller without calling anything: begin by a call of our own.
        ray.get_runtime_context().current_actor.wake.remote()

    async def wake(self) -> None:
        """Begin this term, if nobody has asked for that yet; whether it succeeds `ready` says."""
        if self.begun is None:
            self.begun = asyncio.get_running_loop().create_task(self.begin_or_end())

    async def ready(self) -> dict[str, Any]:
        """Return once this term leads. Raises: StorageInUseError, UnsafeStoreError, StoreError."""
        await self.wake()
        assert self.begun is not None
        await asyncio.shield(self.begun)
        return {"term": self.term, "metrics": self.exporter.address, "storage": self.settings.storage}

    # ------------------------------------------------------------ beginning

    async def begin_or_end(self) -> None:
        """Begin. The first incarnation says why it cannot; one that has replaced a dead controller ends itself, and Ray
        makes the next one: those who wait have waited before, and the store may come back."""
        try:
            await self.begin()
        except StorageInUseError:
            raise
        except Exception as error:
            if not await asyncio.to_thread(cluster.is_restarted_actor):
                raise
            self.event_log.error("not_begun", error)
            await asyncio.sleep(AGAIN_S * (0.5 + SYSTEM_CLOCK.random()))
            os._exit(1)

    async def begin(self) -> None:
        settings, clock = self.settings, SYSTEM_CLOCK
        self.event_log = open_event_log("controller", settings, cluster.log_directory())
        self.metrics = Metrics(node=cluster.this_node_id()[:12], host="controller", on=settings.metrics)
        self.store = store = await asyncio.to_thread(open_metered, settings, self.metrics)
        await asyncio.to_thread(probe, store)
        self.claim = await asyncio.to_thread(
            lambda: lead_cluster(
                store,
                cluster.cluster_id(),
                settings.storage,
                lease_s=settings.lease_s,
                takeover=self.takeover,
                clock=clock,
            )
        )
        self.life = asyncio.get_running_loop().create_task(self.again(self.show_life))
        self.term = await asyncio.to_thread(next_term, store, clock)
        self.events = Events(self.event_log, clock)
        self.exporter = Exporter.start(self.metrics, settings, self.targets)
        self.changed = asyncio.Event()
        self.fleet = Fleet(
            self.term,
            settings,
            self.event_log,
            on_finished=lambda finished: self.leader.finished(finished),
            on_ready=self.host_ready,
            on_change=self.changed.set,
            on_replaced=self.log_stopped,
            on_failed=lambda record, tries: self.events.host_failed(record.incarnation, record.node, tries),
        )
        # Greet before reading: from a host's answer on, no command of an earlier term changes its log.
        records = self.fleet.find_running()
        if records:
            await asyncio.wait([asyncio.create_task(self.meet(record)) for record in records])
        rebuilt = rebuild(await asyncio.to_thread(read_logs, store, self.term, keys_of(settings)))
        self.leader = Leader(
            self.term,
            settings,
            self.open_log(),
            self.fleet,
            rebuilt.ledger,
            events=self.events,
            metrics=self.metrics,
            event_log=self.event_log,
        )
        await self.fleet.look_at_nodes()
        await self.resume(rebuilt)
        for work in (self.watch, self.look, self.tidy):
            self.fleet.spawn(self.again(work))
        self.fleet.spawn(keep_small(self.leader.log, settings, self.event_log, self.leader.settled))
        figures.follow(self.metrics, rebuilt.ledger, self.fleet, self.events)
        self.events.add("leading", term=self.term, coroutines=rebuilt.ledger.unfinished)

    def open_log(self) -> Log:
        loop = asyncio.get_running_loop()
        return Log(
            self.store,
            controller_writer(self.term),
            executor=concurrent.futures.ThreadPoolExecutor(4, thread_name_prefix="log"),
            call_soon=loop.call_soon_threadsafe,
            on_durable=lambda tokens: [token() for token in tokens if token is not None],
            on_error=self.log_stopped,
            keys=keys_of(self.settings),
            metrics=self.metrics,
        )

    def log_stopped(self, error: Exception) -> None:
        """Another term leads, or the store is gone: admit and place nothing more."""
        if isinstance(error, FencedError):
            self.metrics.fenced_writers.add(1, "controller")
        self.event_log.error("log_stopped", error)
        logging.shutdown()
        os._exit(1)

    async def resume(self, rebuilt: Rebuilt) -> None:
        """Meet the hosts that live, take over those that do not, and finish what earlier terms began."""
        self.metrics.rebuilds.add(1)
        await self.leader.prove()  # rule 19: what was read may hold plans of a later term, and lack what they rest on
        self.leader.sealed_before([*rebuilt.sealed, *map(controller_writer, range(1, self.leader.term))])
        for writer in sorted(rebuilt.sealed & self.fleet.hosts.keys()):  # idle, it would not notice by itself
            self.fleet.kill(self.fleet.hosts.pop(writer))
        for record in self.fleet.hosts.values():
            self.fleet.spawn(self.fleet.watch(record))
        for writer in sorted(rebuilt.unsealed - set(self.fleet.hosts)):
            await take_over(self.leader, HostRecord(writer, "", None, state="dead"), "call_failed", "cold_start")
        self.fleet.ensure_shared_hosts()
        await self.leader.place_waiting()
        for entry in [entry for entries in rebuilt.ledger.owned.values() for entry in entries.values()]:
            self.leader.hand_over(entry)

    async def again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` for ever: a failure is logged, and does not end it."""
        while True:
            try:
                await work()
            except Exception as error:
                self.event_log.error("task_failed", error, task=work.__name__)
                await asyncio.sleep(self.settings.poll_s)

    async def meet(self, record: HostRecord) -> None:
        """Greet a host of an earlier term; one that does not answer in a lease is left to its verdict."""
        try:
            await asyncio.wait_for(self.fleet.greet(record), self.settings.lease_s)
        except TimeoutError:
            record.state = "suspect"
        except ray.exceptions.RayActorError:
            self.fleet.hosts.pop(record.incarnation)

    # ------------------------------------------------------------ watching

    def host_ready(self, record: HostRecord) -> None:
        self.events.add("host_ready", host=record.incarnation, node=record.node)
        self.leader.hand_over_debts(record)
        self.changed.set()

    async def watch(self) -> None:
        await watching.watch(self.leader, self.changed)

    async def tidy(self) -> None:
        await keep_tidy(self.leader)

    async def look(self) -> None:
        """Ask Ray for nodes and drains now and then."""
        while True:
            await self.fleet.look_at_nodes()
            await asyncio.sleep(self.settings.poll_s)

    async def show_life(self) -> None:
        """Overwrite this cluster's counter; stop if another cluster has taken over (rule 18)."""
        while True:
            await asyncio.to_thread(beat, self.store, self.claim, SYSTEM_CLOCK.unique())
            if await asyncio.to_thread(is_replaced, self.store, self.claim):
                self.event_log.error("replaced", claim=self.claim)
                os._exit(1)
            await asyncio.sleep(self.settings.lease_s / 4)

    def targets(self) -> list[Target]:
        """The hosts' `/metrics`, for Prometheus."""
        return figures.targets(self.exporter.address, self.fleet.hosts)

    # ------------------------------------------------------------ for clients

    async def run(self, header: dict[str, Any], state: bytes, get_if_exists: bool = False, lent: Any = ()) -> Any:
        """Admit a coroutine and wait for its result; `ray.cancel` of this call cancels it. `lent`: refs to hold until
        then. Raises: its own exception; NameTakenError."""
        admitted = asyncio.create_task(self.admitted(header, state, get_if_exists))
        try:
            return await self.outcome(await asyncio.shield(admitted))
        except asyncio.CancelledError:
            cancelling = asyncio.create_task(self.cancel_admitted(admitted))  # Ray may cancel this call again
            self.cancelling.add(cancelling)
            cancelling.add_done_callback(self.cancelling.discard)
            raise

    async def cancel_admitted(self, admitted: asyncio.Task[Entry]) -> None:
        await asking.cancel(self.leader, await admitted)

    async def admit(self, header: dict[str, Any], state: bytes, get_if_exists: bool = False) -> str:
        """Admit a coroutine; returns its id, or that of the one that has its name. Raises: NameTakenError."""
        return (await self.admitted(header, state, get_if_exists)).header.id

    async def admitted(self, header: dict[str, Any], state: bytes, get_if_exists: bool) -> Entry:
        await self.ready()
        return await self.leader.admit(Header.from_json(header), state, get_if_exists=get_if_exists)

    async def wait(self, id: str) -> Any:
        """The result of a coroutine, when it is durable. Raises: its own exception; NoSuchCoroutineError."""
        return await self.outcome(await self.find(id))

    async def outcome(self, entry: Entry) -> Value:
        while entry.finished is None:
            await entry.changed()
        finished = await self.leader.results.outcome(self.leader, entry)
        if finished.ending == "completed":
            return Value(finished.payload)
        raise Failure(finished.payload, finished.text)

    async def find(self, id: str, namespace: str | None = None, patience_s: float = PATIENCE_S) -> Entry:
        """An entry by id, or by name in a namespace. Raises: NoSuchCoroutineError, when it has not come in
        `patience_s`: Ray may run this call before the one that admits, though that was made first."""
        await self.ready()
        ledger = self.leader.ledger
        entry = await ledger.find(id, namespace or "default", patience_s)
        if entry is None and id in ledger.expired:
            raise NoSuchCoroutineError(id, "it has ended, and the retention of its result is over")
        if entry is None:
            raise NoSuchCoroutineError(id)
        return entry

    async def lookup(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """A row about one coroutine."""
        return row(await self.find(name, namespace), self.fleet)

    async def rows(self) -> list[dict[str, Any]]:
        """A row per coroutine, the oldest first."""
        await self.ready()
        return [row(entry, self.fleet) for entry in self.leader.ledger.entries.values()]

    async def send(self, id: str, sender: str, number: int, topic: str, payload: bytes) -> None:
        """Deliver a message; on return it is durable. Raises: NoSuchCoroutineError when the coroutine has ended."""
        entry = await self.find(id)
        await asking.deliver(self.leader, entry, sender, number, topic, payload)

    async def next_item(self, id: str, index: int) -> tuple[bool, Value | None]:
        """Whether the stream has a value at `index`, and that value; waits until that is known. Two returns."""
        entry = await self.find(id, patience_s=STREAM_PATIENCE_S)
        return await asking.item(self.leader, entry, index)

    async def oldest_item(self, id: str) -> int:
        """The index of the oldest value of a stream that is kept: where somebody who did not read it goes on."""
        return await asking.oldest_item(self.leader, await self.find(id))

    async def cancel(self, id: str) -> bool:
        """Cancel a coroutine at its next yield point. False when it has ended already."""
        entry = await self.find(id)
        return await asking.cancel(self.leader, entry)

    async def migrate(self, id: str, node: str | None = None) -> bool:
        """Move a coroutine to the host on `node` (a prefix of its id does), or to the least loaded other host."""
        entry = await self.find(id)
        views = [view for view in self.fleet.views(self.leader.ledger.load) if view.usable]
        if node is not None:
            views = [view for view in views if view.node.startswith(node)]
            if not views:
                raise NoSuchCoroutineError(node, "no live node with a host has this id")
        others = sorted((view for view in views if view.host != entry.owner), key=lambda view: view.load)
        return bool(others) and await moves.migrate(self.leader, entry, others[0].host, "requested")

    async def inspect(self, id: str) -> CoroutineView:
        """Where a coroutine stands; its frames while a host runs it, its error when it has failed."""
        entry = await self.find(id)
        shown = row(entry, self.fleet)
        record = self.fleet.hosts.get(entry.owner)
        found = None
        if entry.running and record is not None:
            try:
                found = await record.handle.inspect.remote(self.term, entry.header.id)
            except ray.exceptions.RayActorError:
                pass  # it has just died: where the coroutine goes on, the next look shows
        known = {name: shown[name] for name in ("id", "name", "function", "state", "node", "host", "epoch")}
        error = entry.finished.text or None if entry.finished is not None else shown["trouble"]
        return CoroutineView(**{**known, "error": error, **(found or {})})

    async def drain(self, node: str, timeout_s: float | None = None) -> str | None:
        """Drain a node: move its coroutines away, and end its host. Returns Ray's reason if Ray refuses."""
        await self.ready()
        timeout_s = self.settings.drain_timeout_s if timeout_s is None else timeout_s
        deadline = SYSTEM_CLOCK.now() + timeout_s
        refusal = await asyncio.to_thread(cluster.drain_node, node, "ray_durable drain", deadline)
        if refusal is None:
            self.fleet.draining[node] = deadline
            self.changed.set()
        return refusal

    async def status(self) -> dict[str, Any]:
        """Hosts, counts and figures in one piece."""
        await self.ready()
        ledger = self.leader.ledger
        return {
            "term": self.term,
            "storage": self.settings.storage,
            "metrics": self.exporter.address,
            "hosts": self.leader.describe(),
            "draining": dict(self.fleet.draining),
            "coroutines": len(ledger.entries),
            "unfinished": ledger.unfinished,
            "pending": figures.pending(ledger, self.fleet),
            "migrations": dict(self.events.migrations),
            "pid": os.getpid(),
            "node": cluster.this_node_id(),
        }

    async def events_since(self, number: int) -> list[dict[str, Any]]:
        """What happened after event `number`."""
        await self.ready()
        return self.events.since(number)
