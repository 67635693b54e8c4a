"""Every kind of coroutine, its host killed before and after every single commit, or the coroutine moved there: results,
streamed values and messages come exactly once, and nothing before a durable yield is done again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ray_durable.operations as ops
from ray_durable.compiler import durable
from ray_durable.errors import CoroutineCancelledError
from tests.actors.worlds import JOURNAL, World, did

MOMENTS_MAX = 60


@durable
def helper(n):
    did(("helper", n))
    time.sleep(0)
    did(("helper on", n))
    return n * 10


@durable
def plain(n):
    total = 0
    for i in range(n):
        did(i)
        total += helper(i)
        ops.yield_point()
    return total


@durable
def streams(n):
    got = []
    for i in range(n):
        did(i)
        got.append((yield i * i))
    return got


async def leg(name, n):
    out = []
    for i in range(n):
        did((name, i))
        await asyncio.sleep(0)
        out.append((name, i))
    return out


leg = durable(leg)


@durable
async def gathers(n):
    did("begin")
    first = await asyncio.gather(leg("a", n), leg("b", n + 1))
    did("middle")
    second = await asyncio.gather(leg("c", 1), leg("d", n))
    did("end")
    return first + second


@durable
async def foreign(n):
    out = []
    for i in range(n):
        did(i)
        await ops.async_yield_point()
        out.append(await later(i))
    return out


def later(value):
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, value)
    return future


@durable
def receives(n):
    got = []
    for i in range(n):
        did(i)
        got.append(ops.receive("in"))
    return got


@durable
async def receives_side_by_side(n):
    async def one(topic):
        got = []
        for _ in range(n):
            got.append(await ops.receive(topic))
            await asyncio.sleep(0)
        return got

    return await asyncio.gather(one("x"), one("y"))


class Passing(Exception):
    pass


@durable
def retried(n):
    got = []
    for i in range(n):
        got.append(ops.receive("in"))
        did(i)
        if JOURNAL.count(i) == 1:
            raise Passing(i)
    ops.yield_point()
    return got


def no_surroundings(world):
    pass


def messages(world):
    world.do(world.send("in", *"pqrs"))


def messages_side_by_side(world):
    world.do(world.send("x", *"pqr", sender="one"))
    world.do(world.send("y", *"tuv", sender="two"))


async def read_exactly(world, expected):
    got = []
    await world.read(got)
    assert got == expected


def reader(world):
    world.do(read_exactly(world, [0, 1, 4, 9]))


SQUARES = [[("a", 0), ("a", 1)], [("b", 0), ("b", 1), ("b", 2)], [("c", 0)], [("d", 0), ("d", 1)]]
ROWS = {
    "plain": (plain, 3, {}, no_surroundings, 30),
    "stream": (streams, 4, {}, reader, [None] * 4),
    "stream held back": (streams, 4, {"unread_max": 1}, reader, [None] * 4),
    "gather": (gathers, 2, {}, no_surroundings, SQUARES),
    "foreign awaits": (foreign, 3, {}, no_surroundings, [0, 1, 2]),
    "messages": (receives, 4, {}, messages, list("pqrs")),
    "messages to branches": (receives_side_by_side, 3, {}, messages_side_by_side, [list("pqr"), list("tuv")]),
    "retries": (
        retried,
        4,
        {"max_retries": 9, "retry_exceptions": True},
        messages,
        list("pqrs"),
    ),
}


async def run(name, tmp_path, faults, number=[0]):  # noqa: B006 - a counter
    function, argument, header, surroundings, expected = ROWS[name]
    number[0] += 1
    JOURNAL.clear()
    world = World(f"{tmp_path}/{number[0]}", faults)
    try:
        world.host.start(function, argument, **header)
        surroundings(world)
        got = await world.result()
        assert got == expected, faults
        return world.fired, Counter(JOURNAL)
    finally:
        world.close()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("kind", "action"), [("lost", "crash"), ("durable", "crash"), ("durable", "move")])
async def test_one_fault_at_every_commit_is_seen_by_nobody(tmp_path, name, kind, action):
    _, undisturbed = await run(name, tmp_path, [])
    for moment in range(1, MOMENTS_MAX):
        fired, steps = await run(name, tmp_path, [((kind, moment), action)])
        again = steps - undisturbed
        assert not undisturbed - steps, f"not done: {undisturbed - steps} at {moment}"
        if action == "move":
            assert not again or name == "retries", f"a planned move repeats nothing: {again} at {moment}"
        assert len(again) <= {"gather": 3, "plain": 2}.get(name, 1), f"{again} at {moment}"
        assert all(count == 1 for count in again.values()), f"{again} at {moment}"
        if not fired:
            assert moment > 3, "the matrix met no commits"
            return
    pytest.fail("more commits than moments")


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.tuples(
            st.tuples(st.sampled_from(["lost", "durable"]), st.integers(1, 8)),
            st.sampled_from(["crash", "crash", "move"]),
        ),
        max_size=6,
    )
)
def test_any_row_of_faults_is_seen_by_nobody(tmp_path, name, faults):
    asyncio.run(run(name, tmp_path, faults))


@durable
def cleans_up(n):
    try:
        for i in range(n):
            did(i)
            time.sleep(0)
    finally:
        did("clean")
    return "whole"


@pytest.mark.parametrize("kind", ["lost", "durable"])
@pytest.mark.parametrize("then", ["crash", "move"])
async def test_a_cancellation_that_was_acknowledged_outlives_its_host(tmp_path, kind, then):
    for at in range(1, 6):
        for moment in range(1, 4):
            JOURNAL.clear()
            acknowledged = []
            cancel = lambda world: world.host.engine.cancel("c", acknowledged.append)  # noqa: E731
            world = World(f"{tmp_path}/{at}-{moment}", [(("durable", at), cancel), ((kind, moment), then)])
            try:
                world.host.start(cleans_up, 30)
                try:
                    outcome = await world.result()
                except CoroutineCancelledError:
                    outcome = "cancelled"
                if acknowledged == [True]:
                    assert outcome == "cancelled", (at, moment)
                if outcome == "cancelled" and 0 in JOURNAL:
                    assert JOURNAL[-1] == "clean", (at, moment)
            finally:
                world.close()
