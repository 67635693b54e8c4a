"""What a controller does while it leads: admit, place, hand over, take over, move.

Each step is: a durable record first (the admission, the placement, a `moved`, a seal's plan), then the map, then the
call that carries it out. A call that fails changes nothing: the plan stands, and the takeover of its target, or the
next term, goes on from it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import ray

from ray_durable.actors.events import Events
from ray_durable.actors.facts import facts_in, finished_in, transfer_from
from ray_durable.actors.fleet import Fleet, HostRecord
from ray_durable.actors.ledger import Entry, Ledger
from ray_durable.actors.outcomes import Finished
from ray_durable.actors.ownership import Plan, decode_plans, encode_plans, live_in, plan_takeover, still_owed
from ray_durable.actors.placement import choose, rebalance
from ray_durable.actors.rebuild import controller_writer
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import Recovery
from ray_durable.checkpoint.sealing import Sealed, seal
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.config import Settings
from ray_durable.errors import NameTakenError
from ray_durable.logs import EventLog
from ray_durable.metrics import Metrics

__all__ = ["Leader"]

ADOPTIONS_PER_CALL = 500
CAUSES = {"host_died": "takeover", "host_hung": "takeover", "node_died": "takeover", "cold_start": "cold_start"}


class Leader:
    """One term's decisions carried out, on the controller's loop. `log` is this term's own."""

    def __init__(
        self,
        term: int,
        settings: Settings,
        log: Log,
        fleet: Fleet,
        ledger: Ledger,
        *,
        events: Events,
        metrics: Metrics,
        event_log: EventLog,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.term, self.settings, self.log, self.fleet, self.ledger = term, settings, log, fleet, ledger
        self.events, self.metrics, self.event_log, self.clock = events, metrics, event_log, clock
        self.outgoing: defaultdict[str, list[Entry]] = defaultdict(list)
        self.sending: set[str] = set()
        self.dead: set[str] = set()

    # ------------------------------------------------------------ durable records

    async def commit(self, *records: tuple[str, int, Kind, bytes]) -> None:
        """Append records (coroutine, epoch, kind, state) to the controller's log; return when they are durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def durable() -> None:
            if not done.done():
                done.set_result(None)

        for number, (id, epoch, kind, state) in enumerate(records, 1):
            self.log.append(id, epoch, 0, kind, state, durable if number == len(records) else None)
        self.log.commit()
        await done

    # ------------------------------------------------------------ admission

    async def admit(self, header: Header, state: bytes, *, get_if_exists: bool = False) -> Entry:
        """Accept a coroutine, once and for all: on return its admission is durable. Repeating it changes nothing.

        Raises: NameTakenError."""
        known = self.ledger.entries.get(header.id)
        if known is None and header.name is not None:
            holder = self.ledger.named(header.namespace, header.name)
            if holder is not None and (get_if_exists or holder.finished is None):
                if not get_if_exists:
                    raise NameTakenError(header.name, holder.header.id)
                known = holder
        if known is not None:
            while known.epoch == 0 and known.finished is None:
                await known.changed()
            return known
        entry = Entry(header)
        self.ledger.add(entry)
        target = self.place(header) or ""
        transfer = Transfer(header, "call", state, epoch=1, to=target)
        await self.commit(
            (header.id, 1, Kind.ADMITTED, transfer.encode()), (header.id, 1, Kind.PLACED, target.encode())
        )
        self.metrics.admissions.add(1, header.function)
        self.ledger.assign(entry, 1, target, transfer)
        self.hand_over(entry)
        return entry

    def place(self, header: Header, extra: Counter[str] | None = None) -> str | None:
        """The incarnation that is to run a coroutine now, or None."""
        demands = header.demands
        if demands.dedicated:
            return self.fleet.make_dedicated(header.id, demands).incarnation
        if demands.runtime_env:
            self.fleet.ensure_environment(demands.runtime_env)
        return choose(demands, self.fleet.views(self.ledger.load), extra)

    async def place_waiting(self) -> None:
        """Plan whatever has no place yet, if there is one now."""
        planned: list[tuple[Entry, str]] = []
        extra: Counter[str] = Counter()
        for entry in self.ledger.unplaced():
            if entry.epoch == 0 or entry.leaving:
                continue  # its admission, or a placement, is on its way into the log
            target = self.place(entry.header, extra)
            if target is not None:
                self.ledger.leave(entry, target)
                planned.append((entry, target))
        if not planned:
            return
        await self.commit(*((e.header.id, e.epoch + 1, Kind.PLACED, to.encode()) for e, to in planned))
        for entry, target in planned:
            assert entry.transfer is not None
            self.ledger.assign(entry, entry.epoch + 1, target, entry.transfer)
            self.hand_over(entry)

    # ------------------------------------------------------------ handing over

    def hand_over(self, entry: Entry) -> None:
        """Give the owner what a durable plan promises it, batched with others."""
        if not entry.owner or entry.running:
            return
        self.outgoing[entry.owner].append(entry)
        if entry.owner not in self.sending:
            self.sending.add(entry.owner)
            self.fleet.spawn(self.send_to(entry.owner))

    def hand_over_debts(self, record: HostRecord) -> None:
        """A host is ready: whatever waits for it goes there."""
        for entry in self.ledger.debts(record.incarnation):
            self.hand_over(entry)

    async def send_to(self, owner: str) -> None:
        try:
            while batch := self.outgoing.pop(owner, []):
                record = self.fleet.hosts.get(owner)
                if record is None or record.state not in ("alive", "suspect", "draining"):
                    return  # handed over when it is ready; planned anew if it never is
                for start in range(0, len(batch), ADOPTIONS_PER_CALL):
                    await self.send_batch(record, batch[start : start + ADOPTIONS_PER_CALL])
        except ray.exceptions.RayActorError:
            return  # its takeover carries the debts on
        finally:
            self.sending.discard(owner)

    async def send_batch(self, record: HostRecord, batch: list[Entry]) -> None:
        valid = [e for e in batch if e.owner == record.incarnation and e.transfer is not None and not e.running]
        payloads = [e.transfer.planned(e.epoch, e.owner).encode() for e in valid if e.transfer is not None]
        for id, epoch in await record.handle.adopt.remote(self.term, payloads):
            entry = self.ledger.entries[id]
            if entry.owner != record.incarnation or entry.epoch != epoch or entry.finished is not None:
                continue
            entry.running, entry.transfer = True, None
            entry.notify()
            self.arrived(entry)

    def arrived(self, entry: Entry) -> None:
        """A coroutine runs where it was planned to, or has ended there."""
        self.events.arrived(entry.header.id, entry.reason)
        source, entry.source = self.fleet.hosts.get(entry.source), ""
        if source is not None:
            source.released[entry.header.id] = entry.epoch
        if entry.reason:
            self.metrics.migrations.add(1, entry.reason)
            if entry.reason in CAUSES:
                self.metrics.recoveries.add(1, CAUSES[entry.reason])
            entry.reason = ""

    # ------------------------------------------------------------ takeover

    async def take_over(self, record: HostRecord, sign: str, reason: str) -> None:
        """Seal a dead or silent host's log, with the plan for its coroutines, and have them adopted."""
        incarnation = record.incarnation
        if incarnation in self.dead:
            return
        self.dead.add(incarnation)
        began = self.clock.monotonic()
        record.state = "dead"
        self.metrics.detections.add(1, sign)
        self.events.add(
            "detected", host=incarnation, node=record.node, sign=sign, coroutines=self.ledger.load(incarnation)
        )
        sealed = await self.seal(incarnation)
        self.fleet.kill(record)
        sealed_at = self.clock.monotonic()
        heard = self.fleet.last_heard(record)
        self.metrics.takeovers.add(1)
        self.metrics.takeover_time.observe(began - heard, 1, "detect")
        self.metrics.takeover_time.observe(sealed_at - began, 1, "seal")

        def settled() -> None:
            now = self.clock.monotonic()
            self.metrics.takeover_time.observe(now - sealed_at, 1, "adopt")
            self.metrics.takeover_time.observe(now - heard, 1, "total")

        self.carry_out(sealed, reason, settled)
        self.fleet.hosts.pop(incarnation, None)
        await self.place_waiting()

    async def seal(self, writer: str) -> Sealed:
        """End `writer`'s log, with a plan for everything that it owns and every debt that was on its way there."""
        extra: Counter[str] = Counter()
        debts = {entry.header.id: entry.epoch for entry in self.ledger.debts(writer)}
        views = self.fleet.views(self.ledger.load)

        def plan(recovery: Recovery) -> bytes:
            live = live_in(facts_in(recovery), writer)
            known = {**live, **debts}
            headers = {id: self.header_of(id, recovery) for id in known}

            def place(id: str) -> str:
                header = headers[id]
                if header is None or header.demands.dedicated:
                    return ""  # a host of its own is made when the seal is durable
                return choose(header.demands, views, extra) or ""

            return encode_plans(plan_takeover(live, still_owed(debts, facts_in(recovery)), place))

        sealed = await asyncio.to_thread(
            seal, self.log.store, writer, controller_writer(self.term), plan, keys=self.log.keys
        )
        self.events.add("sealed", host=writer, coroutines=len(decode_plans(sealed.plan)))
        return sealed

    def header_of(self, id: str, recovery: Recovery) -> Header | None:
        entry = self.ledger.entries.get(id)
        if entry is not None:
            return entry.header
        found = recovery.coroutines.get(id)
        transfer = None if found is None else transfer_from(found)
        return None if transfer is None else transfer.header

    def carry_out(self, sealed: Sealed, reason: str, settled: Callable[[], None] | None = None) -> None:
        """Bring a sealed log into the map: what ended there, what moved away, and the seal's plan."""
        recovery = sealed.recovery
        for finished in finished_in(recovery):
            self.finished(finished)
        for id, found in recovery.coroutines.items():
            entry = self.ledger.entries.get(id)
            if found.moved is not None and entry is not None and found.moved.epoch > entry.epoch:
                transfer = transfer_from(found)
                assert transfer is not None
                self.ledger.assign(entry, found.moved.epoch, transfer.to, transfer)
                if transfer.to in self.dead:
                    self.fleet.spawn(self.plan_again(entry))
                else:
                    self.hand_over(entry)
        plans = decode_plans(sealed.plan)
        for id, plan in plans.items():
            self.follow(id, plan, recovery, reason)
        entries = [self.ledger.entries.get(id) for id in plans]
        expected = [e.header.id for e in entries if e is not None and e.finished is None]
        self.events.expect(sealed.writer, expected, settled)

    def follow(self, id: str, plan: Plan, recovery: Recovery, reason: str) -> None:
        """Make one plan of a seal the map's."""
        entry = self.ledger.entries.get(id)
        found = recovery.coroutines.get(id)
        transfer = None if found is None else transfer_from(found)
        if entry is None:
            if transfer is None:
                return
            entry = Entry(transfer.header)
            self.ledger.add(entry)
        if entry.finished is not None or plan.epoch <= entry.epoch:
            return
        here = found is not None and found.adopted is not None and found.adopted.epoch >= entry.epoch
        state = transfer if here else entry.transfer  # what an earlier stay there has left is out of date
        if state is None:
            state = transfer
        assert state is not None, f"{id}: a plan without a state"
        entry.reason = entry.reason or reason
        self.ledger.assign(entry, plan.epoch, plan.to, state)
        self.hand_over(entry)

    def finished(self, finished: Finished) -> None:
        """An outcome is durable somewhere: those who wait for it may have it."""
        entry = self.ledger.entries.get(finished.coroutine)
        if entry is not None and self.ledger.finish(entry, finished):
            self.arrived(entry)
            self.retire_dedicated(entry)

    def retire_dedicated(self, entry: Entry) -> None:
        record = self.fleet.hosts.get(entry.owner)
        if record is not None and record.dedicated_to == entry.header.id:
            self.fleet.spawn(self.retire(record))

    async def retire(self, record: HostRecord) -> None:
        """End a host that nothing needs any more, its log properly sealed."""
        if record.incarnation in self.dead:
            return
        self.dead.add(record.incarnation)
        sealed = await self.seal(record.incarnation)
        self.fleet.kill(record)
        self.fleet.hosts.pop(record.incarnation, None)
        self.carry_out(sealed, "requested")

    # ------------------------------------------------------------ planned moves

    async def migrate(self, entry: Entry, target: str, reason: str) -> bool:
        """Move one coroutine to another host at its next yield point. Whether it went."""
        source = self.fleet.hosts.get(entry.owner)
        if source is None or not entry.running or entry.leaving or target == entry.owner:
            return False
        self.ledger.leave(entry, target)
        epoch = entry.epoch + 1
        try:
            data = await source.handle.release.remote(self.term, entry.header.id, epoch, target)
        except ray.exceptions.RayActorError:
            data = None
        if entry.finished is not None or entry.epoch >= epoch:
            return False
        if data is None:
            self.ledger.stay(entry)
            entry.notify()
            return False
        entry.reason, entry.source = reason, source.incarnation
        self.ledger.assign(entry, epoch, target, Transfer.decode(data))
        if target in self.dead:
            await self.plan_again(entry)
        else:
            self.hand_over(entry)
        return True

    async def plan_again(self, entry: Entry) -> None:
        """The plan's target has been sealed without it (rule 12): plan anew."""
        assert entry.transfer is not None
        transfer, epoch = entry.transfer, entry.epoch + 1
        target = self.place(entry.header) or ""
        await self.commit((entry.header.id, epoch, Kind.PLACED, target.encode()))
        self.ledger.assign(entry, epoch, target, transfer)
        self.hand_over(entry)

    async def empty(self, record: HostRecord) -> None:
        """Move everything off a draining host, then end it."""
        self.events.add(
            "draining", host=record.incarnation, node=record.node, coroutines=self.ledger.load(record.incarnation)
        )
        while record.state == "draining":
            views = self.fleet.views(self.ledger.load)
            extra: Counter[str] = Counter()
            leaving = []
            for entry in list(self.ledger.owned.get(record.incarnation, {}).values()):
                target = choose(entry.header.demands, views, extra)
                if target is not None:
                    leaving.append(self.migrate(entry, target, "node_draining"))
            moved = await asyncio.gather(*leaving)
            if not self.ledger.owned.get(record.incarnation):
                await self.retire(record)
                self.events.add("drained", host=record.incarnation, node=record.node)
                return
            if not any(moved):
                await asyncio.sleep(self.settings.heartbeat_s)

    async def rebalance(self) -> None:
        """Let overloaded hosts give to those that have less."""
        for move in rebalance(self.fleet.views(self.ledger.load)):
            entries = [e for e in self.ledger.owned[move.source].values() if e.running and not e.leaving]
            chosen = [e for e in entries if e.header.demands.is_anywhere][: move.count]
            if chosen:
                self.events.add("rebalancing", host=move.target, coroutines=len(chosen))
            await asyncio.gather(*(self.migrate(entry, move.target, "rebalance") for entry in chosen))

    def describe(self) -> list[dict[str, Any]]:
        """A row per host."""
        return [
            {
                "host": host.incarnation,
                "node": host.node,
                "state": host.state,
                "coroutines": self.ledger.load(host.incarnation),
                "checkpoints": host.figures.get("checkpoints", 0),
                "bytes": host.figures.get("bytes", 0),
                "pid": host.pid,
                "metrics": host.metrics,
                "dedicated_to": host.dedicated_to,
            }
            for host in self.fleet.hosts.values()
        ]
