"""The hosts as the controller knows them: made one per node, watched, and judged.

A shell around `membership`: it makes host actors, keeps one `report` call open to each, hears their heartbeats and asks
Ray for its nodes; what follows from a verdict is the controller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_durable.actors import cluster
from ray_durable.actors.backoff import Tries, after_end, is_due
from ray_durable.actors.culprits import Culprit
from ray_durable.actors.heartbeat import Listener
from ray_durable.actors.host import Host
from ray_durable.actors.membership import Heard, Limits, Verdict, judge
from ray_durable.actors.outcomes import Finished
from ray_durable.actors.placement import HostView, environment_key
from ray_durable.actors.transfer import Demands
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.config import Settings
from ray_durable.errors import StaleTermError
from ray_durable.logs import EventLog

__all__ = ["Fleet", "HostRecord"]

HOST_PREFIX = "host-"
CALLS_AT_ONCE = 100_000
NOTICED_S = 15.0  # after which Ray, by its own settings, no longer lists a dead node
EXPECTED_S = 5.0  # of a term's beginning
FORGIVEN_S = 120.0  # failures to start count together when they are closer than that


def reason_of(error: Exception) -> str:
    """Why a host has ended, in one line: of an error that came from it the cause, of Ray's own the gist."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'it says no more'}"


@dataclass(slots=True, eq=False)
class HostRecord:
    """One host incarnation. `state`: starting, alive, suspect, draining or dead; times are monotonic seconds."""

    incarnation: str
    node: str
    handle: Any
    state: str = "starting"
    dedicated_to: str | None = None
    environment: str = ""
    place: str = ""  # what it was made for: a node, an environment or a coroutine
    began: float = 0.0
    ready_at: float | None = None
    call_failed: bool = False
    pid: int = 0
    metrics: str | None = None
    figures: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)  # moved away from it and adopted, to be told with a report

    @property
    def usable(self) -> bool:
        return self.state == "alive"


class Fleet:
    """All hosts of one controller term. `on_finished` gets every outcome that a host reports; `on_change` is called
    when a verdict may have changed, `on_replaced` when a host serves a later term, `on_failed` when one has not started
    or died young, with how often that happened in its place."""

    def __init__(
        self,
        term: int,
        settings: Settings,
        log: EventLog,
        *,
        on_finished: Callable[[Finished], None],
        on_ready: Callable[[HostRecord], None],
        on_change: Callable[[], None],
        on_replaced: Callable[[Exception], None],
        on_failed: Callable[[HostRecord, Tries], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.term, self.settings, self.log, self.clock = term, settings, log, clock
        self.on_finished, self.on_ready, self.on_change = on_finished, on_ready, on_change
        self.on_replaced, self.on_failed = on_replaced, on_failed
        self.culprits: list[Culprit] = []  # what dead hosts ran, as far as nobody has taken note
        self.tries: dict[str, Tries] = {}  # by place, where hosts fail to start
        self.began = clock.monotonic()
        self.hosts: dict[str, HostRecord] = {}
        self.nodes: dict[str, cluster.Node] = {}
        self.draining: dict[str, float] = {}
        self.lost_nodes: set[str] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.listener = Listener(cluster.this_address(), clock, on_news=self.tell)

    def tell(self) -> None:
        """Have the hosts judged now; called in the listener's thread."""
        self.loop.call_soon_threadsafe(self.on_change)

    def spawn(self, work: Awaitable[Any]) -> None:
        """Run `work` beside everything else; a failure of it is logged."""

        async def run() -> None:
            try:
                await work
            except Exception as error:
                self.log.error("task_failed", error)

        task = self.loop.create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # ------------------------------------------------------------ nodes

    async def look_at_nodes(self) -> None:
        """Ask Ray for its nodes and drains."""
        nodes, draining = await asyncio.gather(
            asyncio.to_thread(cluster.nodes), asyncio.to_thread(cluster.draining_nodes)
        )
        self.nodes = {node.id: node for node in nodes if node.alive}
        self.draining = {id: deadline for id, deadline in draining.items() if id in self.nodes} | {
            id: deadline for id, deadline in self.draining.items() if id in self.nodes and id not in draining
        }
        now, starting = self.clock.monotonic(), {host.place for host in self.hosts.values() if host.state == "starting"}
        self.tries = {
            place: tries
            for place, tries in self.tries.items()
            if place in starting or now < tries.again_at + FORGIVEN_S
        }

    def may_start(self, place: str) -> bool:
        """Whether a host may be started in this place now, or has failed to start there a short while ago."""
        return is_due(self.tries.get(place), self.clock.monotonic())

    def trouble(self, id: str, demands: Demands) -> Tries | None:
        """Why there is no host for a coroutine, as far as hosts have failed to start; None if none has."""
        if demands.dedicated:
            return self.tries.get(id)
        if demands.runtime_env:
            return self.tries.get(environment_key(demands.runtime_env))
        found = [tries for node, tries in self.tries.items() if node in self.nodes and tries.failures]
        return max(found, key=lambda tries: tries.failures, default=None)

    def leave_alone(self, node: str) -> None:
        """This node looks dead: start nothing there until Ray must have noticed, or it was a mistake."""
        tries = self.tries.get(node, Tries())
        self.tries[node] = replace(tries, again_at=max(tries.again_at, self.clock.monotonic() + NOTICED_S))

    def ensure_shared_hosts(self) -> None:
        """Make a host on every node that lacks one. A node whose raylet a host has reported gone is left alone, though
        Ray calls it alive for some seconds more."""
        shared = [host for host in self.hosts.values() if host.dedicated_to is None and not host.environment]
        covered = {host.node for host in shared if host.state != "dead"}
        for node in self.nodes.values():
            left_alone = node.id in covered or node.id in self.draining or node.id in self.lost_nodes
            if not left_alone and self.may_start(node.id):
                strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
                self.make(node.id, {"num_cpus": 0, "scheduling_strategy": strategy})

    def ensure_environment(self, runtime_env: dict[str, Any]) -> None:
        """Make a shared host with this runtime environment, if there is none."""
        key = environment_key(runtime_env)
        there = any(host.environment == key and host.state != "dead" for host in self.hosts.values())
        if not there and self.may_start(key):
            self.make("", {"num_cpus": 0, "runtime_env": runtime_env}, environment=key)

    def make_dedicated(self, coroutine: str, demands: Demands) -> HostRecord | None:
        """Make a host for one coroutine, wherever Ray finds the resources for it. None while that must wait."""
        if not self.may_start(coroutine):
            return None
        options: dict[str, Any] = {"num_cpus": demands.num_cpus, "num_gpus": demands.num_gpus}
        if demands.memory:
            options["memory"] = demands.memory
        if demands.resources:
            options["resources"] = dict(demands.resources)
        if demands.label_selector:
            options["label_selector"] = dict(demands.label_selector)
        if demands.runtime_env:
            options["runtime_env"] = demands.runtime_env
        if demands.node_id is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(demands.node_id, soft=demands.soft)
        elif demands.spread:
            options["scheduling_strategy"] = "SPREAD"
        return self.make("", options, dedicated_to=coroutine)

    def make(
        self, node: str, options: dict[str, Any], *, dedicated_to: str | None = None, environment: str = ""
    ) -> HostRecord:
        incarnation = f"{HOST_PREFIX}{(node or 'any')[:8]}-{self.clock.unique()[:12]}"
        handle = (
            ray.remote(Host)
            .options(
                name=incarnation,
                namespace=self.settings.namespace,
                lifetime="detached",
                max_restarts=0,
                max_concurrency=CALLS_AT_ONCE,
                **options,
            )
            .remote(incarnation, self.settings, dedicated_to, environment)
        )
        record = HostRecord(incarnation, node, handle, dedicated_to=dedicated_to, environment=environment)
        record.place = dedicated_to or environment or node
        record.began = self.clock.monotonic()
        self.hosts[incarnation] = record
        self.spawn(self.watch(record))
        return record

    # ------------------------------------------------------------ hosts

    def find_running(self) -> list[HostRecord]:
        """Hosts of an earlier term that Ray still has, by name."""
        found = []
        for actor in ray.util.list_named_actors(all_namespaces=True):
            name = actor["name"]
            if actor["namespace"] == self.settings.namespace and name.startswith(HOST_PREFIX):
                record = HostRecord(name, "", ray.get_actor(name, self.settings.namespace))
                record.began = self.clock.monotonic()
                self.hosts[name] = record
                found.append(record)
        return found

    async def greet(self, record: HostRecord) -> None:
        """Make ourselves known to a host; on return it is alive."""
        facts = await record.handle.hello.remote(self.term, self.listener.address, self.listener.token)
        record.node, record.pid, record.metrics = facts["node"], facts["pid"], facts["metrics"]
        record.dedicated_to, record.environment = facts["dedicated_to"], facts["environment"]
        self.culprits += facts["culprits"]
        record.began = record.ready_at = self.clock.monotonic()
        record.place = record.dedicated_to or record.environment or record.node
        if record.state in ("starting", "suspect"):
            record.state = "alive"

    async def watch(self, record: HostRecord) -> None:
        """Keep one call open to a host for as long as it lives."""
        seen = 0
        try:
            if record.state == "starting":
                await self.greet(record)
            self.on_ready(record)
            while record.state != "dead":
                report = await self.ask_report(record, seen)
                for finished in report["finished"]:
                    self.on_finished(finished)
                seen = report["seen"]
                record.figures = {name: report[name] for name in ("coroutines", "checkpoints", "bytes")}
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StaleTermError):
                self.on_replaced(error.cause)
                return
            self.log.error("report_failed", error, host=record.incarnation)
            self.ended(record, error)
            self.kill(record)
            record.state, record.call_failed = "suspect", True
            self.on_change()
        except ray.exceptions.RayError as error:  # its process, its node, or any hope of starting it is gone
            self.ended(record, error)
            record.call_failed = True
            self.on_change()

    async def ask_report(self, record: HostRecord, seen: int) -> dict[str, Any]:
        """A host's report, beyond what we have seen. A broken connection to a host that is heard is made anew."""
        while True:
            released, record.released = record.released, {}
            try:
                report: dict[str, Any] = await record.handle.report.remote(self.term, seen, released)
                return report
            except ray.exceptions.ActorUnavailableError as error:  # a second after the connection broke
                if self.clock.monotonic() - self.last_heard(record) > self.settings.silence_s / 2:
                    raise
                record.released = {**released, **record.released}
                self.log.warning("connection_lost", host=record.incarnation, error=str(error))

    def ended(self, record: HostRecord, error: Exception) -> None:
        """A host's call has failed: unless we ended it, its place is given a pause if it had only just begun."""
        if record.state == "dead":
            return
        now = self.clock.monotonic()
        lived_s = None if record.ready_at is None else now - record.ready_at
        before, reason = self.tries.pop(record.place, Tries()), reason_of(error)
        lasting = isinstance(error, ray.exceptions.RuntimeEnvSetupError)
        tries = after_end(before, now, lived_s, self.clock.random(), reason, lasting)
        if tries.failures:
            self.tries[record.place] = tries
            self.on_failed(record, tries)

    def last_heard(self, record: HostRecord) -> float:
        """When a host last gave a sign of life, in monotonic seconds."""
        beat = self.listener.beats.get(record.incarnation)
        return max(record.began, beat.at if beat is not None else 0.0)

    def verdicts(self) -> list[Verdict]:
        """What to take each host for now. A host that is still starting is judged only by the failure of its call."""
        now = self.clock.monotonic()
        heard = []
        for host in self.hosts.values():
            if host.state == "dead" or (host.state == "starting" and not host.call_failed):
                continue
            beat = self.listener.beats.get(host.incarnation)
            gone = beat is not None and beat.raylet_gone
            heard.append(Heard(host.incarnation, host.node, self.last_heard(host), host.call_failed, gone))
        limits = Limits(self.settings.silence_s, self.settings.lease_s)
        return judge(heard, now, limits, self.nodes, self.draining)

    def views(self, load: Callable[[str], int]) -> list[HostView]:
        """The shared hosts as placement sees them."""
        return [
            HostView(
                host=host.incarnation,
                node=host.node,
                load=load(host.incarnation),
                usable=host.usable,
                expected=self.is_expected(host),
                environment=host.environment,
                labels=self.nodes[host.node].labels if host.node in self.nodes else {},
            )
            for host in self.hosts.values()
            if host.dedicated_to is None and (host.state not in ("dead", "starting") or self.is_expected(host))
        ]

    def is_expected(self, host: HostRecord) -> bool:
        """Whether it is one of the hosts that a new cluster begins with: coroutines that wait for those are spread over
        all of them, rather than moved on when the others are ready too. Later ones are not waited for."""
        first = self.began + EXPECTED_S
        return host.state == "starting" and host.began < first and self.clock.monotonic() < first

    def kill(self, record: HostRecord) -> None:
        """End a host whose log is sealed, or that has nothing left to run."""
        record.state = "dead"
        if record.handle is not None:  # a log that was found without its host has no actor
            ray.kill(record.handle, no_restart=True)
