"""The leader's own promises, in a world where nothing goes wrong."""

from __future__ import annotations

import asyncio
from collections import Counter

from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps
from tests.simulation.leaders import counting, in_calm


def test_a_burst_of_starts_is_spread_at_once_and_nothing_moves():
    async def work(world):
        leader = world.leading.leader
        while sum(host.usable for host in leader.fleet.hosts.values()) < 3:
            await asyncio.sleep(0.1)
        state = dumps((counting, (100,), {}))
        entries = await asyncio.gather(*(leader.admit(Header(f"c{n}", "counting"), state) for n in range(60)))
        placed = Counter(entry.owner for entry in entries)
        while any(entry.finished is None for entry in entries):
            await asyncio.sleep(0.5)
        return placed, leader.events.migrations

    placed, migrations = in_calm(work)
    assert sorted(placed.values()) == [20, 20, 20]
    assert not migrations
