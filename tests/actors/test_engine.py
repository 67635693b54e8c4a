"""The engine over a real log: everything a host does with coroutines, short of Ray."""

from __future__ import annotations

import time

import pytest

from ray_durable.checkpoint.stores import open_store
from ray_durable.compiler import durable
from tests.actors.engines import EngineHost


@durable
def total(n):
    sum_ = 0
    for i in range(n):
        time.sleep(0)
        sum_ += i
    return sum_


@pytest.fixture
async def host(tmp_path):
    found = EngineHost(open_store(str(tmp_path)), "host-1")
    yield found
    found.crash()


async def test_a_plain_function_suspends_and_finishes(host):
    host.start(total, 5)
    assert await host.result() == 10
