"""Which sealed logs are emptied, and that nothing comes back to life by it."""

from __future__ import annotations

import asyncio

import pytest

from ray_durable.actors.rebuild import controller_writer, read_logs, rebuild
from ray_durable.actors.retiring import Brief, Word, is_done, retire_logs
from ray_durable.actors.transfer import Header
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.recovery import recover
from ray_durable.errors import NoSuchCoroutineError
from tests.simulation.leaders import counting, in_calm
from tests.simulation.processes import SETTINGS, Term

LONG_AGO, JUST_NOW, FORGOTTEN = 100, 900, 500

TABLE = [
    ("adopted elsewhere since", Word(1, 2, None), Word(2, 3, None), True),
    ("moved, and not adopted yet", Word(1, 2, None), Word(1, 2, None), False),
    ("nobody else knows it", Word(1, 2, None), None, False),
    ("admitted here, adopted there", Word(-1, 1, None), Word(1, 2, None), True),
    ("placed again here, adopted there before", Word(-1, 2, None), Word(1, 2, None), False),
    ("admitted here, ended there", Word(-1, 1, None), Word(1, 2, JUST_NOW), True),
    ("ended here, retention not over", Word(1, 2, JUST_NOW), Word(-1, 1, None), False),
    ("ended here long ago", Word(1, 2, LONG_AGO), Word(-1, 1, None), True),
    ("a tombstone", Word(1, 0, 0), None, True),
    ("its history is kept", Word(1, 2, None, kept=True), Word(2, 3, None), False),
    ("its history is over with it", Word(1, 2, None, kept=True), Word(2, 3, LONG_AGO), True),
]


@pytest.mark.parametrize(("reason", "here", "there", "done"), TABLE, ids=[row[0] for row in TABLE])
def test_what_a_log_says_is_needed_until_another_has_the_newer_word(reason, here, there, done):
    brief = Brief({"here": {"c": here}, "there": {} if there is None else {"c": there}})
    assert is_done("c", "here", brief, FORGOTTEN) is done


async def lose_hosts(world, count):
    """Have coroutines end on hosts that die then, and some move on."""
    leader = world.leading.leader
    states = [dumps((counting, (3 if n % 2 else 60,), {})) for n in range(count)]
    entries = [await leader.admit(Header(f"c{n}", "counting"), state) for n, state in enumerate(states)]
    await asyncio.sleep(1.0)
    for record in list(leader.fleet.hosts.values())[:2]:
        record.handle.crash()
    while len(sealed := [writer for writer in leader.sealed_at if writer.startswith("host-")]) < 2:
        await asyncio.sleep(0.1)
    while any(entry.finished is None for entry in entries):
        await asyncio.sleep(0.5)
    await asyncio.sleep(SETTINGS.lease_s)
    return leader, sealed


def results_in(store, writer):
    return [found for found in recover(store, writer).coroutines.values() if found.terminal is not None]


def test_a_log_that_holds_results_stays_until_their_retention_is_over_and_the_seal_for_ever():
    async def work(world):
        leader, sealed = await lose_hosts(world, 12)
        kept = {
            writer for writer in sealed if any(c.terminal for c in recover(world.store, writer).coroutines.values())
        }
        assert await retire_logs(leader) == len(sealed) - len(kept)
        leader.settings = SETTINGS.replace(retention_s=0.0)
        await retire_logs(leader)
        for writer in sealed:
            found = recover(world.store, writer)
            assert (found.coroutines, found.emptied, found.fenced) == ({}, True, True)
        assert await retire_logs(leader) == 0

    in_calm(work)


def test_what_has_been_emptied_is_over_for_every_later_term():
    async def work(world):
        leader, sealed = await lose_hosts(world, 12)
        leader.settings = SETTINGS.replace(retention_s=0.0)
        leader.ledger.forget(leader.clock.now())
        await retire_logs(leader)
        world.terms[-1].end(None)
        world.terms.append(Term(world))
        while world.leading is not world.terms[-1]:
            await asyncio.sleep(0.1)
        later = world.leading.leader
        assert results_in(world.store, controller_writer(later.term - 1)), "no tombstones"
        assert all(entry.finished is not None for entry in later.ledger.entries.values()), "one is run again"
        assert later.ledger.expired
        for id in list(later.ledger.expired):
            with pytest.raises(NoSuchCoroutineError):
                await later.admit(Header(id, "counting"), b"")
        await asyncio.sleep(SETTINGS.lease_s)
        later.settings = leader.settings
        for _ in range(2):  # the earlier term's own log goes too, and still nothing comes back
            await retire_logs(later)
        ledger = rebuild(read_logs(world.store, later.term + 1)).ledger
        assert set(later.ledger.expired) <= {*ledger.expired, *ledger.entries}
        assert all(entry.finished is not None for entry in ledger.entries.values()), "one has come back to life"
        assert recover(world.store, controller_writer(later.term - 1)).emptied

    in_calm(work)
