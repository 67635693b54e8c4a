"""Planned moves: one coroutine on request, all of a draining host's, some of an overloaded one's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ray

from ray_durable.actors.balancing import Move, look
from ray_durable.actors.fleet import HostRecord
from ray_durable.actors.ledger import Entry
from ray_durable.actors.placement import HostView, choose
from ray_durable.actors.takeover import retire
from ray_durable.actors.transfer import Transfer

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["empty", "migrate", "rebalance"]


SETTLE_S = 30.0  # a coroutine that was moved to even out the load is left alone for so long


async def migrate(leader: Leader, entry: Entry, target: str, reason: str) -> bool:
    """Move one coroutine to another host at its next yield point. Whether it went."""
    source = leader.fleet.hosts.get(entry.owner)
    if source is None or not entry.running or entry.leaving or target == entry.owner:
        return False
    leader.ledger.leave(entry, target)
    epoch = entry.epoch + 1
    data = await ask_release(leader, source, entry, epoch, target)
    if entry.finished is not None or entry.epoch >= epoch:
        return False
    if data is None:
        leader.ledger.stay(entry)
        entry.notify()
        return False
    entry.reason, entry.source = reason, source.incarnation
    leader.ledger.assign(entry, epoch, target, Transfer.decode(data))
    leader.hand_over(entry)
    return True


async def ask_release(leader: Leader, source: HostRecord, entry: Entry, epoch: int, target: str) -> bytes | None:
    """The transfer of a coroutine that its host has given up, or None."""
    while True:
        try:
            data: bytes | None = await source.handle.release.remote(leader.term, entry.header.id, epoch, target)
            return data
        except (
            ray.exceptions.ActorUnavailableError
        ):  # it may be gone, and only the answer lost: the same is asked again
            if source.state == "dead":
                return None
            await asyncio.sleep(leader.settings.heartbeat_s)
        except (
            ray.exceptions.RayError
        ) as error:  # it died, or refuses: its takeover, or the next try, goes on from there
            leader.event_log.warning("not_released", coroutine=entry.header.id, error=str(error))
            return None


async def empty(leader: Leader, record: HostRecord) -> None:
    """Move everything off a draining host, then end it."""
    leader.events.add(
        "draining", host=record.incarnation, node=record.node, coroutines=leader.ledger.load(record.incarnation)
    )
    while record.state == "draining":
        views = leader.fleet.views(leader.ledger.load)
        extra: Counter[str] = Counter()
        leaving = []
        for entry in list(leader.ledger.owned.get(record.incarnation, {}).values()):
            target = refuge(leader, entry, views, extra)
            if target is not None:
                leaving.append(migrate(leader, entry, target, "node_draining"))
        moved = await asyncio.gather(*leaving)
        if not leader.ledger.owned.get(record.incarnation):
            await retire(leader, record)
            leader.events.add("drained", host=record.incarnation, node=record.node)
            return
        if not any(moved):
            await asyncio.sleep(leader.settings.heartbeat_s)


def refuge(leader: Leader, entry: Entry, views: Sequence[HostView], extra: Counter[str]) -> str | None:
    """Where a coroutine of a draining host may go now: one with a host of its own gets another such, made now."""
    if not leader.ledger.is_apart(entry.header):
        return choose(entry.header.demands, views, extra)
    id, others = entry.header.id, leader.fleet.hosts.values()
    made = [host for host in others if host.dedicated_to == id and host.incarnation != entry.owner]
    if not made:
        leader.fleet.make_dedicated(id, entry.header.demands)
    return next((host.incarnation for host in made if host.usable), None)


async def rebalance(leader: Leader) -> None:
    """Let hosts that have long had too much give to those that have less."""
    views, now = leader.fleet.views(leader.ledger.load), leader.clock.monotonic()
    leader.calm, moves = look(leader.calm, views, now, leader.balancing)
    if not moves:
        return
    leader.balancing = True
    try:
        await asyncio.gather(*(give(leader, move, now) for move in moves))
    finally:
        leader.balancing = False


async def give(leader: Leader, move: Move, now: float) -> None:
    entries = [e for e in leader.ledger.owned[move.source].values() if e.running and not e.leaving]
    settled = [e for e in entries if now - e.balanced_at > SETTLE_S]  # no coroutine is passed to and fro
    chosen = [e for e in settled if e.header.demands.is_anywhere][: move.count]
    for entry in chosen:
        entry.balanced_at = now
    if chosen:
        leader.events.add("rebalancing", host=move.target, coroutines=len(chosen))
    await asyncio.gather(*(migrate(leader, entry, move.target, "rebalance") for entry in chosen))
