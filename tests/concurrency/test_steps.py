"""`step`, `resource`, `checkpoint_every` and lists in `retry_exceptions`, over a real log; hosts die on the way."""

from __future__ import annotations

import asyncio
import pickle
import time

import pytest

from ray_durable import resource, step
from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from ray_durable.running import current
from tests.actors.engines import EngineHost

CALLS: list[object] = []


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


@pytest.fixture
async def host(request, tmp_path):
    found = EngineHost(open_store(str(tmp_path)), "host-1")
    yield found
    found.crash()


def charge(amount):
    CALLS.append((amount, current().derive("charge")))
    if amount < 0:
        raise ValueError(amount)
    return amount * 2


async def charge_async(amount):
    await asyncio.sleep(0)
    return charge(amount)


@durable
def plain(amount):
    receipt = step(charge, amount)
    time.sleep(30)
    return receipt


@durable
async def in_async(amount):
    return await step(charge, amount), await step(charge_async, amount + 1)


@durable
def caught(amount):
    try:
        step(charge, amount)
    except ValueError as error:
        return error.args[0]


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_a_step_that_is_durable_is_not_run_again(host):
    host.start(plain, 4)
    hosted = host.engine.coroutines["c"]
    await until(lambda: type(hosted.coroutine.main.request).__name__ == "Sleep" and hosted.coroutine.main.parked)
    host.crash()
    after = host.successor("host-2")
    await until(lambda: "c" in after.engine.coroutines and after.engine.coroutines["c"].coroutine.main.parked)
    assert [amount for amount, _ in CALLS] == [4]
    after.crash()


async def test_a_step_that_was_cut_short_has_the_same_key_again(host):
    host.start(plain, 4)
    host.log.on_durable = lambda tokens: [token() for token in tokens if callable(token)]  # and nothing later counts
    await until(lambda: CALLS)
    host.log.rows.clear()
    host.crash()
    after = host.successor("host-2")
    await until(lambda: after.engine.coroutines["c"].coroutine.main.parked)
    assert len(set(CALLS)) == 1
    after.crash()


async def test_steps_in_async_code_and_errors(host):
    host.start(in_async, 1, id="a")
    host.start(caught, -1, id="b")
    assert await host.result("a") == (2, 4)
    assert await host.result("b") == -1


def test_outside_a_coroutine_a_step_is_a_call():
    assert step(divmod, 7, 2) == (3, 1)
    assert asyncio.run(native_step()) == 7


@durable
async def native_step():
    return await step(abs, -7)


class Connection:
    def __init__(self, name):
        self.name, self.open = name, True
        CALLS.append("made")

    def __reduce__(self):
        raise TypeError("a connection cannot be pickled")

    def __enter__(self):
        CALLS.append("entered")
        return self

    def __exit__(self, *failure):
        CALLS.append("left")


@durable
def uses(name):
    found = []
    connection = resource(Connection, name)
    found.append(connection.name)
    time.sleep(0)
    found.append(connection.name)
    with resource(Connection, "inner") as inner:
        time.sleep(0)
        found.append(inner.open)
        time.sleep(0)
    return found


async def test_a_resource_is_no_hindrance_to_checkpoints(host):
    host.start(uses, "db")
    assert await host.result() == ["db", "db", True]
    assert CALLS == ["made", "made", "entered", "left"]


def test_a_resource_is_made_again_where_it_is_used():
    first = resource(Connection, "db")
    assert first.name == "db"
    second = pickle.loads(pickle.dumps(first))
    assert CALLS == ["made"]
    assert second.value.open
    assert CALLS == ["made", "made"]


def test_an_entered_resource_is_entered_again_and_left_where_it_is():
    first = resource(Connection, "db")
    first.__enter__()
    second = pickle.loads(pickle.dumps(first))
    third = pickle.loads(pickle.dumps(first))
    assert second.name == "db"
    second.__exit__(None, None, None)
    third.__exit__(None, None, None)
    assert CALLS == ["made", "entered", "made", "entered", "left"]


@durable
def computes(seconds):
    passes, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        passes += 1
    return passes


async def test_a_loop_that_never_yields_is_checkpointed_every_so_often(host):
    host.start(computes, 0.5, id="paced", checkpoint_every_s=0.05)
    host.start(computes, 0.1, id="not")
    paced, other = host.engine.coroutines["paced"].coroutine, host.engine.coroutines["not"].coroutine
    assert await host.result("paced") > 0
    assert await host.result("not") > 0
    assert paced.seq >= 4
    assert other.seq == 1


@durable
def fails(kind):
    CALLS.append(1)
    time.sleep(0)
    CALLS.append(2)
    raise LookupError("no") if kind == "lookup" else OSError("no")


@pytest.mark.parametrize(("kind", "runs"), [("lookup", 3), ("os", 1)])
async def test_only_the_exceptions_listed_are_retried(host, kind, runs):
    host.start(fails, kind, max_retries=2, retry_exceptions=["builtins.LookupError"])
    with pytest.raises((LookupError, OSError)):
        await host.result()
    assert CALLS.count(2) == runs
