"""The harness for users: a function that resumes rightly passes, one that leans on the outside is found out."""

from __future__ import annotations

import asyncio
import time

import pytest

from ray_durable import operations
from ray_durable.compiler import durable
from ray_durable.testing import Differs, crash_at_every_yield

CALLS: list[int] = []


@durable
def sums(n):
    total = 0
    for i in range(n):
        time.sleep(3600)
        total += i
    return total


@durable
def asks(n):
    total = 0
    for i in range(n):
        got = yield i
        total += got or 0
    return total


@durable
def leans_on_the_outside(n):
    for i in range(n):
        time.sleep(1)
        CALLS.append(i)
    return len(CALLS)


@durable
async def receives():
    first = await operations.receive("approval")
    try:
        second = await operations.receive("approval", timeout_s=1)
    except TimeoutError:
        second = "late"
    return first, second


@durable
async def side_by_side(n):
    async def one(i):
        await asyncio.sleep(i)
        return i * 10

    return await asyncio.gather(*[one(i) for i in range(n)])


@durable
def fails(n):
    try:
        time.sleep(1)
        raise ValueError("because", n)
    finally:
        time.sleep(1)


def test_plain_function_is_crashed_at_each_sleep():
    found = crash_at_every_yield(sums, 4)
    assert (found.value, found.crashes) == (6, 4)


def test_generator_gets_what_is_sent():
    found = crash_at_every_yield(asks, 3, sent=[5, 6, 7])
    assert (found.value, found.yielded, found.crashes) == (18, (0, 1, 2), 3)


def test_messages_come_in_order_and_then_time_out():
    assert crash_at_every_yield(receives, messages={"approval": ["yes"]}).value == ("yes", "late")


def test_branches_are_crashed_together():
    assert crash_at_every_yield(side_by_side, 3).value == [0, 10, 20]


def test_an_exception_is_an_outcome_too():
    found = crash_at_every_yield(fails, 7)
    assert isinstance(found.value, ValueError)
    assert found.value.args == ("because", 7)


def test_effects_outside_the_locals_are_found_out():
    CALLS.clear()
    with pytest.raises(Differs, match="crashed after yield point 1"):
        crash_at_every_yield(leans_on_the_outside, 2)
