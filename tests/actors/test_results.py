"""Outcomes that do not stay in the controller's memory: whoever asks gets them all the same."""

from __future__ import annotations

import asyncio

from ray_durable import operations
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.compiler import durable
from tests.simulation.leaders import in_calm

SIZE = 20_000


@durable
def large(number):
    operations.yield_point()
    return bytes([number]) * SIZE


async def started(leader, numbers):
    entries = [
        await leader.admit(Header(f"c{number}", "large", name=f"name-{number}"), dumps((large, (number,), {})))
        for number in numbers
    ]
    while any(entry.finished is None for entry in entries):
        await asyncio.sleep(0.2)
    return entries


def test_what_is_kept_is_bounded_and_the_rest_is_read_from_the_logs():
    async def work(world):
        leader = world.leading.leader
        leader.results.bytes_max = 5 * SIZE
        entries = await started(leader, range(20))
        assert leader.results.bytes <= 5 * SIZE
        assert sum(len(entry.finished.payload) for entry in entries) <= 5 * SIZE + 5000
        world.stormy = True  # the store fails now and then
        found = await asyncio.gather(*(leader.results.outcome(leader, entry) for entry in entries))
        world.stormy = False
        assert [loads(each.payload) for each in found] == [bytes([number]) * SIZE for number in range(20)]
        assert all(leader.ledger.named("default", f"name-{number}") is entries[number] for number in range(20))
        for writer in list(world.processes):
            world.processes[writer].crash()  # what their logs hold is there after their end
        await asyncio.sleep(6.0)
        found = await asyncio.gather(*(leader.results.outcome(leader, entry) for entry in entries))
        assert all(len(loads(each.payload)) == SIZE for each in found)

    in_calm(work, retention_s=3600.0)


def test_what_is_over_is_taken_out_of_the_count():
    async def work(world):
        leader = world.leading.leader
        await started(leader, range(3))
        assert leader.results.bytes > 3 * SIZE
        await asyncio.sleep(10.0)
        return leader.results.bytes, leader.results.kept

    assert in_calm(work, retention_s=3.0) == (0, {})
