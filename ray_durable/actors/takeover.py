"""A host's log is ended, and what it owned goes on elsewhere.

The seal makes it safe, its plan makes it durable who gets what; then the map follows, and the coroutines are handed
over. Invariant: whatever is planned to a host when its takeover begins is in the seal's plan, or planned anew after it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray_durable.actors import cluster
from ray_durable.actors.culprits import Culprit
from ray_durable.actors.facts import facts_in, finished_in, state_to_follow, transfer_from
from ray_durable.actors.fleet import HostRecord
from ray_durable.actors.ledger import Entry
from ray_durable.actors.ownership import Plan, decode_plans, encode_plans, live_in, plan_takeover, still_owed
from ray_durable.actors.placement import choose
from ray_durable.actors.rebuild import controller_writer
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.recovery import Recovery
from ray_durable.checkpoint.sealing import Sealed, seal
from ray_durable.errors import StoreError

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["retire", "take_over"]


async def take_over(leader: Leader, record: HostRecord, sign: str, reason: str) -> None:
    """Seal a dead or silent host's log, with the plan for its coroutines, and have them adopted."""
    incarnation = record.incarnation
    if incarnation in leader.dead:
        return
    leader.dead.add(incarnation)
    began = leader.clock.monotonic()
    record.state = "dead"
    leader.fleet.listener.given_up.add(incarnation)
    leader.metrics.detections.add(1, sign)
    leader.events.add(
        "detected", host=incarnation, node=record.node, sign=sign, coroutines=leader.ledger.load(incarnation)
    )
    sealed, reason = await asyncio.gather(seal_log(leader, incarnation), with_its_node(leader, record, reason))
    if reason == "node_died":
        leader.with_their_node.add(incarnation)
        leader.fleet.leave_alone(record.node)
    leader.fleet.kill(record)
    sealed_at = leader.clock.monotonic()
    heard = leader.fleet.last_heard(record)
    leader.metrics.takeovers.add(1)
    leader.metrics.takeover_time.observe(began - heard, 1, "detect")
    leader.metrics.takeover_time.observe(sealed_at - began, 1, "seal")

    def settled() -> None:
        now = leader.clock.monotonic()
        leader.metrics.takeover_time.observe(now - sealed_at, 1, "adopt")
        leader.metrics.takeover_time.observe(now - heard, 1, "total")

    if record.dedicated_to is not None and reason in ("host_died", "host_hung"):
        blame(leader, incarnation, record.dedicated_to, sealed.recovery)
    carry_out(leader, sealed, reason, settled)
    leader.fleet.hosts.pop(incarnation, None)
    await leader.place_waiting()


def blame(leader: Leader, host: str, id: str, recovery: Recovery) -> None:
    """A host of one coroutine has died of that."""
    found = recovery.coroutines.get(id)
    if found is not None and (transfer := transfer_from(found)) is not None:
        leader.crashed(Culprit(host, id, transfer.seq))


async def with_its_node(leader: Leader, record: HostRecord, reason: str) -> str:
    """`reason`, or that the host's whole node has died, which its raylet shows long before Ray says so."""
    node = leader.fleet.nodes.get(record.node)
    if reason not in ("host_died", "host_hung") or node is None or await cluster.raylet_answers(node):
        return reason
    return "node_died"


async def seal_log(leader: Leader, writer: str) -> Sealed:
    """End `writer`'s log, with a plan for everything that it owns and every debt that was on its way there."""
    extra: Counter[str] = Counter()
    debts = {entry.header.id: entry.epoch for entry in leader.ledger.debts(writer)}
    views = leader.fleet.views(leader.ledger.load)

    def plan(recovery: Recovery) -> bytes:
        live = live_in(facts_in(recovery), writer)
        known = {**live, **debts}
        headers = {id: header_of(leader, id, recovery) for id in known}

        def place(id: str) -> str:
            header = headers[id]
            if header is None or leader.ledger.is_apart(header):
                return ""  # a host of its own is made when the seal is durable
            return choose(header.demands, views, extra) or ""

        leader.log.prove()  # rule 19: a later term would know better who owns what
        return encode_plans(plan_takeover(live, still_owed(debts, facts_in(recovery)), place))

    sealer = controller_writer(leader.term)
    while True:
        try:
            sealed = await asyncio.to_thread(seal, leader.log.store, writer, sealer, plan, keys=leader.log.keys)
            break
        except StoreError as error:  # nobody else will do it
            leader.event_log.error("seal_failed", error, host=writer)
            await asyncio.sleep(leader.settings.lease_s / 4)
    if sealed.sealer != sealer:  # rule 19: our states may be older than a later term's plan
        await leader.prove()
    leader.seal_stands(writer)
    leader.events.add("sealed", host=writer, coroutines=len(decode_plans(sealed.plan)))
    return sealed


def header_of(leader: Leader, id: str, recovery: Recovery) -> Header | None:
    entry = leader.ledger.entries.get(id)
    if entry is not None:
        return entry.header
    found = recovery.coroutines.get(id)
    transfer = None if found is None else transfer_from(found)
    return None if transfer is None else transfer.header


def carry_out(leader: Leader, sealed: Sealed, reason: str, settled: Callable[[], None] | None = None) -> None:
    """Bring a sealed log into the map: what ended there, what moved away, and the seal's plan."""
    recovery = sealed.recovery
    for finished in finished_in(recovery):
        leader.finished(finished)
    for id, found in recovery.coroutines.items():
        entry = leader.ledger.entries.get(id)
        if found.moved is None or entry is None or entry.finished is not None:
            continue
        if found.moved.epoch > entry.epoch:
            transfer = transfer_from(found)
            assert transfer is not None
            leader.ledger.assign(entry, found.moved.epoch, transfer.to, transfer)
            leader.hand_over(entry)
    plans = decode_plans(sealed.plan)
    for id, plan in plans.items():
        follow(leader, id, plan, recovery, reason)
    for entry in leader.ledger.debts(sealed.writer):  # another term had made the plan, and did not know of these
        leader.hand_over(entry)
    entries = [leader.ledger.entries.get(id) for id in plans]
    expected = [e.header.id for e in entries if e is not None and e.finished is None]
    leader.events.expect(sealed.writer, expected, settled)


def follow(leader: Leader, id: str, plan: Plan, recovery: Recovery, reason: str) -> None:
    """Make one plan of a seal the map's."""
    entry = leader.ledger.entries.get(id)
    found = recovery.coroutines.get(id)
    if entry is None:
        header = header_of(leader, id, recovery)
        if header is None:
            return
        entry = Entry(header)
        leader.ledger.add(entry)
    if entry.finished is not None or plan.epoch <= entry.epoch:
        return
    state = state_to_follow(found, entry.epoch, entry.transfer)
    assert state is not None, f"{id}: a plan without a state"
    entry.reason = reason
    leader.ledger.assign(entry, plan.epoch, plan.to, state)
    leader.hand_over(entry)


async def retire(leader: Leader, record: HostRecord) -> None:
    """End a host that nothing needs any more, its log properly sealed."""
    if record.incarnation in leader.dead:
        return
    leader.dead.add(record.incarnation)
    sealed = await seal_log(leader, record.incarnation)
    leader.fleet.kill(record)
    leader.fleet.hosts.pop(record.incarnation, None)
    carry_out(leader, sealed, "requested")
