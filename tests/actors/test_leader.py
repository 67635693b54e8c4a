"""The leader's own promises, in a world where nothing goes wrong."""

from __future__ import annotations

import asyncio
from collections import Counter

from ray_durable.actors.culprits import NO_CRASHES, Culprit
from ray_durable.actors.rebuild import read_logs
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.recovery import recover
from tests.simulation.leaders import counting, in_calm
from tests.simulation.processes import Term


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


def test_a_host_that_died_is_blamed_on_what_it_ran_once_and_that_of_a_dead_node_on_nothing():
    async def work(world):
        leader = world.leading.leader
        entry = await leader.admit(Header("c", "counting"), dumps((counting, (1000,), {})))
        leader.with_their_node.add("host-of-a-dead-node")
        leader.crashed(Culprit("host-of-a-dead-node", "c", 0))
        assert entry.crashes == NO_CRASHES
        for _ in range(2):  # by its log and by its file
            leader.crashed(Culprit("host-that-died", "c", 0))
        leader.crashed(Culprit("host-that-died", "nobody", 0))
        assert entry.crashes.hosts == {"host-that-died"}
        return [event["host"] for event in leader.events.since(0) if event["kind"] == "host_crashed"]

    assert in_calm(work) == ["host-that-died"]


def test_a_new_term_that_was_replaced_after_it_had_read_does_nothing():
    """Rule 19. In the simulation (seed 51648) such a term had read a later one's plan beside older states, and sent a
    host what had long gone on elsewhere."""

    async def work(world):
        state = dumps((counting, (1000,), {}))
        await world.leading.leader.admit(Header("c", "counting"), state)
        slow = Term(world, dawdles_s=1.0)
        await slow.has_read.wait()
        read_logs(world.store, slow.term + 1)  # a later term begins
        hosts = dict(world.processes)
        await asyncio.sleep(5)
        assert slow.over, "it has not noticed"
        assert not slow.fleet.acts
        assert world.processes == hosts, "it has made hosts"
        for incarnation, process in hosts.items():
            assert process.alive, "it has killed a host"
            assert not recover(world.store, incarnation).fenced, "it has sealed a log"

    in_calm(work)
