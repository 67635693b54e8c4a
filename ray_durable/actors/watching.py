"""The controller's pulse: hosts are judged several times a second and at each sign of death; what follows is begun."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ray_durable.actors import moves
from ray_durable.actors.fleet import HostRecord
from ray_durable.actors.membership import Verdict
from ray_durable.actors.takeover import take_over

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["act_on", "watch"]

TICK_S = 0.1
REBALANCE_EVERY_S = 1.0
REASONS = {"call_failed": "host_died", "silence": "host_hung", "node_gone": "node_died", "host_said": "node_died"}


async def watch(leader: Leader, changed: asyncio.Event) -> None:
    """Judge the hosts, and do what follows, for as long as this term leads. `changed`: look at once."""
    fleet, ledger, clock = leader.fleet, leader.ledger, leader.clock
    last_rebalance = clock.monotonic()
    while True:
        try:
            await asyncio.wait_for(changed.wait(), TICK_S)
        except TimeoutError:
            pass
        changed.clear()
        culprits, fleet.culprits = fleet.culprits, []
        for culprit in culprits:
            leader.crashed(culprit)
        for verdict in fleet.verdicts():
            act_on(leader, verdict)
        fleet.ensure_shared_hosts()
        await leader.place_waiting()
        if clock.monotonic() - last_rebalance > REBALANCE_EVERY_S:
            last_rebalance = clock.monotonic()
            for id in ledger.forget(clock.now() - leader.settings.retention_s):
                leader.results.forget(id)
            for record in fleet.hosts.values():
                leader.hand_over_debts(record)  # what a failed call has left
            fleet.spawn(moves.rebalance(leader))


def act_on(leader: Leader, verdict: Verdict) -> None:
    """Begin what a verdict asks for."""
    fleet = leader.fleet
    record = fleet.hosts.get(verdict.host)
    if record is None or record.state == "dead":
        return
    if verdict.state == "dead":
        if verdict.sign == "host_said":
            fleet.lost_nodes.add(record.node)
        fleet.spawn(take_over(leader, record, verdict.sign, reason_for(leader, record, verdict)))
        record.state = "dead"
    elif verdict.state == "draining" and record.state != "draining":
        record.state = "draining"
        fleet.spawn(moves.empty(leader, record))
    elif record.state != "draining":
        record.state = verdict.state


def reason_for(leader: Leader, record: HostRecord, verdict: Verdict) -> str:
    """Why its coroutines move, in the words of the metrics."""
    reason = REASONS[verdict.sign]
    return "node_died" if reason == "host_died" and record.node not in leader.fleet.nodes else reason
