"""What a controller does while it leads: admit, place, hand over, take over, move.

Each step is: a durable record first (the admission, the placement, a `moved`, a seal's plan), then the map, then the
call that carries it out. A call that fails changes nothing: the plan stands, and the takeover of its target, or the
next term, goes on from it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import ray

from ray_durable.actors.balancing import Calm
from ray_durable.actors.culprits import Culprit, after_crash
from ray_durable.actors.events import Events
from ray_durable.actors.fleet import Fleet, HostRecord
from ray_durable.actors.ledger import Entry, Ledger
from ray_durable.actors.outcomes import ENDINGS, Ending, Finished, pack_outcome
from ray_durable.actors.placement import choose
from ray_durable.actors.results import Results
from ray_durable.actors.takeover import retire, take_over
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.compaction import OVER
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.config import Settings
from ray_durable.errors import HostCrashedError, HostStartError, NameTakenError, NoSuchCoroutineError
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
        self.dead: set[str] = set()  # hosts that are being sealed, or are
        self.with_their_node: set[str] = set()  # those of them whose whole node has died
        self.calm, self.balancing = Calm(), False
        self.results = Results()
        for _, entry in ledger.endings:
            self.results.keep(entry)
        self.sealed_at: dict[str, float] = {}  # when this term made or found the seal, in monotonic seconds
        self.retired: set[str] = set()  # logs that are known to be empty
        self.ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)  # by host: its log is sealed

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

    async def prove(self) -> None:
        """Return when it is certain that up to now no later term had begun to read the logs: whatever is durable
        anywhere now, that one will see (rule 19). In a term that is over, its log's end comes first."""
        await self.commit(("", 0, Kind.MARK, b""))

    # ------------------------------------------------------------ admission

    async def admit(self, header: Header, state: bytes, *, get_if_exists: bool = False) -> Entry:
        """Accept a coroutine, once and for all: on return its admission is durable. Repeating it changes nothing.

        Raises: NameTakenError."""
        if header.id in self.ledger.expired:
            raise NoSuchCoroutineError(header.id, "it has ended, and the retention of its result is over")
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
        self.ledger.leave(entry, target)  # what comes at the same time sees it there
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
        if self.ledger.is_apart(header):
            made = self.fleet.make_dedicated(header.id, demands)
            return None if made is None else made.incarnation
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
            if entry.cancelled:
                self.fleet.spawn(self.cancel_unplaced(entry))
                continue
            if (trouble := self.hopeless(entry) or self.deadly(entry)) is not None:
                self.fleet.spawn(self.end_unplaced(entry, "failed", trouble))
                continue
            target = self.place(entry.header, extra)
            if target is not None:
                self.ledger.leave(entry, target)
                planned.append((entry, target))
        if not planned:
            return
        await self.commit(*((e.header.id, e.epoch + 1, Kind.PLACED, to.encode()) for e, to in planned))
        for entry, target in planned:
            if entry.finished is None and entry.transfer is not None:
                self.ledger.assign(entry, entry.epoch + 1, target, entry.transfer)
                self.hand_over(entry)

    def hopeless(self, entry: Entry) -> HostStartError | None:
        """Why no host for this coroutine will ever start. One that has begun is never given up: it has a state."""
        header, transfer = entry.header, entry.transfer
        if transfer is None or transfer.form != "call":
            return None
        tries = self.fleet.trouble(header.id, header.demands)
        if tries is None or not tries.hopeless:
            return None
        return HostStartError(header.name or header.id, tries.failures, tries.reason)

    def deadly(self, entry: Entry) -> HostCrashedError | None:
        """Why no further host shall run this coroutine."""
        header, times = entry.header, entry.crashes.times
        if not times or not 0 < self.settings.host_crashes_max <= times:
            return None
        return HostCrashedError(header.name or header.id, header.function, times)

    def crashed(self, culprit: Culprit) -> None:
        """A host's process has ended while it ran a coroutine."""
        entry = self.ledger.entries.get(culprit.coroutine)
        if entry is None or entry.finished is not None or culprit.host in self.with_their_node:
            return
        crashes = after_crash(entry.crashes, culprit)
        if crashes is not entry.crashes:  # told for the first time
            entry.crashes = crashes
            self.events.add("host_crashed", host=culprit.host, coroutine=culprit.coroutine, times=crashes.times)

    async def cancel_unplaced(self, entry: Entry) -> None:
        """Cancel a coroutine that no host has been promised."""
        await self.end_unplaced(entry, "cancelled", None)

    async def end_unplaced(self, entry: Entry, ending: Ending, value: Any) -> None:
        """End a coroutine that no host has been promised: the outcome goes into this term's log."""
        if entry.owner or entry.leaving or entry.finished is not None or entry.epoch == 0:
            return
        header, epoch = entry.header, entry.epoch
        ending, payload, text = pack_outcome(header.id, header.function, ending, value)
        self.ledger.leave(entry, "")
        await self.commit((header.id, epoch, ENDINGS[ending], payload))
        self.finished(Finished(header.id, epoch, ending, payload, text))

    # ------------------------------------------------------------ handing over

    def hand_over(self, entry: Entry) -> None:
        """Give the owner what a durable plan promises it, batched with others."""
        if not entry.owner or entry.running or entry.finished is not None:
            return
        if entry.owner in self.dead:  # its seal's plan was made before this one: nobody else carries it on
            self.fleet.spawn(self.plan_again(entry))
            return
        if entry.owner not in self.fleet.hosts:  # of an earlier term's making, and not heard of since
            self.fleet.spawn(take_over(self, HostRecord(entry.owner, "", None), "call_failed", "host_died"))
            return
        self.outgoing[entry.owner].append(entry)
        if entry.owner not in self.sending:
            self.sending.add(entry.owner)
            self.fleet.spawn(self.send_to(entry.owner))

    def sealed_before(self, writers: Iterable[str]) -> None:
        """These hosts' logs were sealed in earlier terms."""
        for writer in writers:
            self.dead.add(writer)
            self.seal_stands(writer)

    def seal_stands(self, writer: str) -> None:
        """A log has its seal and plan."""
        self.sealed_at.setdefault(writer, self.clock.monotonic())
        self.ended[writer].set()

    def settled(self) -> dict[str, int]:
        """For the compaction of this term's log: what hosts have adopted, with the epoch, and what has ended."""
        entries = self.ledger.entries.items()
        adopted = {id: entry.epoch for id, entry in entries if entry.running}
        ended = {id: OVER for id, entry in entries if entry.finished is not None}
        return {**adopted, **ended, **dict.fromkeys(self.ledger.expired, OVER)}

    def hand_over_debts(self, record: HostRecord) -> None:
        """A host is ready: whatever waits for it goes there."""
        if record.incarnation not in self.sending:
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
            self.let_forget(source, entry.header.id, entry.epoch)
            entry.left.add(source.incarnation)
        if entry.reason:
            self.metrics.migrations.add(1, entry.reason)
            if entry.reason in CAUSES:
                self.metrics.recoveries.add(1, CAUSES[entry.reason])
            entry.reason = ""

    async def plan_again(self, entry: Entry) -> None:
        """The plan's target was sealed without it (rule 12): plan anew, once that seal is durable."""
        owner = entry.owner
        await self.ended[owner].wait()
        if entry.owner != owner or entry.leaving or entry.finished is not None or entry.transfer is None:
            return
        epoch, target = entry.epoch + 1, self.place(entry.header) or ""
        self.ledger.leave(entry, target)
        await self.commit((entry.header.id, epoch, Kind.PLACED, target.encode()))
        if entry.finished is None and entry.transfer is not None:
            self.ledger.assign(entry, epoch, target, entry.transfer)
            self.hand_over(entry)

    def finished(self, finished: Finished) -> None:
        """An outcome is durable somewhere: those who wait for it may have it."""
        if not finished.ended:
            finished = replace(finished, ended=self.clock.now())
        entry = self.ledger.entries.get(finished.coroutine)
        if entry is not None and self.ledger.finish(entry, finished):
            self.arrived(entry)
            self.results.keep(entry)
            for host in entry.left & self.fleet.hosts.keys():
                self.let_forget(self.fleet.hosts[host], entry.header.id, OVER)
            entry.left.clear()
            self.retire_dedicated(entry)

    def let_forget(self, record: HostRecord, id: str, epoch: int) -> None:
        """With its next report a host hears that what it knows of a coroutine is needless: another has adopted it at
        that epoch, which a later term must see first (rule 19)."""

        def proven() -> None:
            record.released[id] = epoch

        self.log.append("", 0, 0, Kind.MARK, b"", proven)
        self.log.commit()

    def retire_dedicated(self, entry: Entry) -> None:
        record = self.fleet.hosts.get(entry.owner)
        if record is not None and record.dedicated_to == entry.header.id:
            self.fleet.spawn(retire(self, record))

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
