"""Branches that step in one turn share a checkpoint; one that cannot be saved holds none of the others up."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from ray_durable.errors import CannotSaveError
from tests.actors.engines import EngineHost

BRANCHES = 200


@pytest.fixture
async def host(tmp_path):
    found = EngineHost(open_store(str(tmp_path)), "host-1")
    yield found
    found.crash()


@durable
async def naps(i):
    for _ in range(3):
        await asyncio.sleep(0)
    return i


@durable
async def gathers(each, count):
    return await asyncio.gather(*[each(i) for i in range(count)])


async def test_branches_that_step_together_share_their_checkpoints(host):
    host.start(gathers, naps, BRANCHES)
    assert await host.result() == list(range(BRANCHES))
    assert host.engine.tally.checkpoints < BRANCHES / 4, "they take 3 steps each"


@durable
async def naps_or_holds_a_socket(i):
    if i % 3 == 1:
        connection = socket.socket()
        try:
            await asyncio.sleep(0)
        except CannotSaveError as error:
            return f"{error.path}"
        finally:
            connection.close()
            del connection
    await asyncio.sleep(0.01)
    return i


async def test_only_the_branches_that_cannot_be_saved_are_told(host):
    host.start(gathers, naps_or_holds_a_socket, 7)
    assert await host.result() == [0, "locals.connection", 2, 3, "locals.connection", 5, 6]


@durable
async def shares(i, things):
    if i == 0:
        things.append(socket.socket())
    try:
        await asyncio.sleep(0)
    except CannotSaveError:
        while things:
            things.pop().close()
        return "told"
    return "saved"


@durable
async def gathers_around(things):
    return await asyncio.gather(shares(0, things), shares(1, things))


async def test_what_branches_share_is_laid_at_the_door_of_all_that_stepped(host):
    host.start(gathers_around, [])
    assert await host.result() == ["told", "told"]


@durable
async def steps_and_fails(i):
    await asyncio.sleep(0)
    if i == 1:
        raise ValueError("one of them")
    await asyncio.sleep(60)


async def test_a_branch_that_raises_ends_the_coroutine_though_others_are_not_saved_yet(host):
    host.start(gathers, steps_and_fails, 3)
    with pytest.raises(ValueError, match="one of them"):
        await host.result()


async def test_a_successor_goes_on_from_a_shared_checkpoint(host):
    host.start(gathers, naps, BRANCHES)
    while host.engine.tally.checkpoints < 4:
        await asyncio.sleep(0)
    host.crash()
    after = host.successor("host-2")
    try:
        assert await after.result() == list(range(BRANCHES))
    finally:
        after.crash()
