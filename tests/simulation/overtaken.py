"""A term that is replaced without noticing, while it does what cannot be undone (rule 19): the real leader and hosts.

At some time the later term begins: it seals the logs of earlier ones and reads those of hosts. At some other time the
earlier one takes a host over, lets one forget, or begins to act on what it has read itself. What it has done by then
the later one must have seen, and what it has read must not be of the later one's making.
"""

from __future__ import annotations

import asyncio
import random

from ray_durable.actors.rebuild import read_logs
from ray_durable.actors.takeover import seal_log
from ray_durable.errors import FencedError, LogStoppedError
from tests.simulation.leaders import in_calm
from tests.simulation.processes import Term

WITHIN_S = 0.2


def overtaken(seed):
    """One encounter. Raises: AssertionError, if the earlier term did what the later one cannot know."""
    dice = random.Random(seed)
    begins_s, acts_s = dice.uniform(0, WITHIN_S), dice.uniform(0, WITHIN_S)

    async def encounter(world):
        leader = world.leading.leader
        record = next(record for record in leader.fleet.hosts.values() if record.usable)
        act = dice.choice([take_over, let_forget, None])
        if act is None:
            await begin_slowly(world, leader.term + 1)
            return
        later = asyncio.ensure_future(begin(world, leader.term + 1))
        await asyncio.sleep(acts_s)
        await act(leader, record, later)

    async def begin(world, term):
        await asyncio.sleep(begins_s)
        return world.loop.time(), read_logs(world.store, term)

    async def take_over(leader, record, later):
        sealing = asyncio.ensure_future(seal_log(leader, record.incarnation))
        await asyncio.wait([sealing], timeout=2)
        _, seen = await later
        if sealing.done() and not isinstance(sealing.exception(), FencedError | LogStoppedError):
            assert sealing.result().sealer
            assert seen[record.incarnation].fenced, "a plan was made of which the later term knows nothing"
        sealing.cancel()

    async def let_forget(leader, record, later):
        asked_at = leader.clock.monotonic()
        leader.let_forget(record, "c", 2)
        began_at, _ = await later
        await asyncio.sleep(1)
        if "c" in record.released or "c" in record.handle.host.released:
            assert began_at >= asked_at, "a host forgets what the later term had not read"

    async def begin_slowly(world, number):
        earlier = Term(world, dawdles_s=acts_s)
        await earlier.has_read.wait()
        began_at, _ = await begin(world, number + 1)
        await asyncio.sleep(1)
        earlier.end(None)
        assert not earlier.fleet.acts or began_at >= earlier.began, "it acts on what it read before a later one began"

    in_calm(encounter)
