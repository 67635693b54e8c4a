"""How coroutines end that have left tasks running: as `asyncio.run` ends them, also when the host dies meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from ray_durable import operations
from ray_durable.actors.mailbox import Message
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from ray_durable.errors import CoroutineCancelledError
from tests.actors.engines import EngineHost
from tests.actors.worlds import JOURNAL, did


@pytest.fixture(autouse=True)
def journal():
    JOURNAL.clear()
    return JOURNAL


@pytest.fixture
async def host(tmp_path):
    found = EngineHost(open_store(str(tmp_path)), "host-1")
    yield found
    found.crash()


async def child(name):
    try:
        did(f"{name} runs")
        await asyncio.sleep(60)
        did(f"{name} was not cancelled")
    finally:
        did(f"{name} ends")
        await asyncio.sleep(0.01)
        did(f"{name} has ended")


async def forgets(fail):
    asyncio.create_task(child("a"))  # noqa: RUF006
    task = asyncio.create_task(child("b"))
    await asyncio.sleep(0.01)
    task.add_done_callback(lambda task: did(f"b cancelled: {task.cancelled()}"))
    if fail:
        raise ValueError("main")
    return "main"


@durable
async def forgetful(fail):
    return await forgets(fail)


async def told(awaited):
    try:
        return await awaited
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("fail", [False, True])
def test_tasks_left_running_are_cancelled_and_waited_for_as_by_asyncio_run(fail, journal, tmp_path):
    native = asyncio.run(told(forgets(fail)))
    expected = list(journal)
    journal.clear()

    async def durably():
        host = EngineHost(open_store(str(tmp_path)), "host-1")
        host.start(forgetful, fail)
        outcome = await told(host.result())
        host.crash()
        return outcome

    assert asyncio.run(durably()) == native
    assert sorted(journal) == sorted(expected)
    assert "a has ended" in journal


async def test_the_outcome_outlives_the_host_that_dies_while_tasks_end(host):
    host.start(forgetful, False)
    while "b ends" not in JOURNAL:
        await asyncio.sleep(0.001)
    host.log.flush()
    host.crash()
    for hosted in host.engine.coroutines.values():
        hosted.coroutine.let_go()
    after = host.successor("host-2")
    assert await after.result() == "main"
    assert JOURNAL.count("a has ended") == 1
    after.crash()


async def test_a_task_that_refuses_to_end_can_be_cancelled_with_its_coroutine(host):
    host.start(stubborn)
    while "refused" not in JOURNAL:
        await asyncio.sleep(0.001)
    host.engine.cancel("c", lambda accepted: None)
    with pytest.raises(CoroutineCancelledError):
        await host.result()


@durable
async def stubborn():
    asyncio.create_task(refuses())  # noqa: RUF006
    await asyncio.sleep(0.01)


async def refuses():
    while True:
        try:
            await asyncio.sleep(60)
            return
        except asyncio.CancelledError:
            did("refused")
            if JOURNAL.count("refused") > 1:
                raise


@durable
async def asks(times, limit_s):
    return [await operations.receive("in", timeout_s=limit_s) for _ in range(times)]


async def test_time_limits_that_are_over_early_are_called_off(host):
    host.start(asks, 300, 3600.0)
    for number in range(1, 301):
        accepted = asyncio.get_running_loop().create_future()
        message = Message("s", number, "in", dumps(number))
        host.engine.deliver("c", message, dumps(message), accepted.set_result)
        assert await accepted
    assert await host.result() == list(range(1, 301))
    live = [entry for entry in host.engine.timers.heap if entry[2] is not None]
    assert live == []
    assert len(host.engine.timers) <= 201
