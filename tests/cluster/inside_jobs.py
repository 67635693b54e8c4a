"""What coroutines do with one another, for tests on a live cluster."""

from __future__ import annotations

import time

import ray

import ray_durable
from ray_durable.running import entered
from tests.cluster import jobs


@ray_durable.remote
def chained(n):
    return ray.get(jobs.helper.remote(jobs.helper.remote(n)))


@ray_durable.remote
def talks(name):
    handle = ray_durable.get_handle(name)
    for number in range(3):
        handle.send("in", number)
    state = handle.status()["state"]
    return state, ray.get(handle.result())


@ray_durable.remote
async def reads(n):
    stream = jobs.streams.remote(n)
    return [await ref async for ref in stream]


@ray_durable.remote
async def joins(name):
    stream = jobs.streams.options(name=name, get_if_exists=True).remote(99)
    values = [await ref async for ref in stream]
    rest = ray_durable.get_handle(name).stream()
    rest.index = 3
    return values, [await ref async for ref in rest]


@ray_durable.remote
def polls(n):
    ref = jobs.square.remote(n)
    value = ray.get(ref)
    ready, pending = ray.wait([ref], timeout=0)
    return value, ray.get(ref, timeout=0), len(ready), len(pending)


@ray_durable.remote
def forgets(n):
    for i in range(n):
        ray.get(jobs.square.remote(i))
    return len(entered.identity.calls or {})


def ordinary(name):
    return ray_durable.get_handle(name).status()


@ray_durable.remote
def blocks(name):
    return ordinary(name)


@ray.remote(num_cpus=0)
def refuse():
    raise jobs.Refused(1)


@ray_durable.remote
def looks_in(given):
    """The values of the refs in a dict, or the names of their errors."""
    found = {}
    for name, ref in given.items():
        time.sleep(0.01)
        try:
            found[name] = ray.get(ref)
        except Exception as error:
            found[name] = type(getattr(error, "cause", None) or error).__name__
    return found


@ray_durable.remote
def values_in(given):
    for ref in given:
        yield ray.get(ref)


@ray_durable.remote
def hands_on(gate):
    own = jobs.slow_square.remote(5, gate, f"{gate}.journal")
    open_gate.remote(gate)
    return ray.get(looks_in.remote({"own": own}))


@ray.remote(num_cpus=0)
def open_gate(gate):
    time.sleep(0.3)
    with open(gate, "w"):
        pass


@ray.remote(num_cpus=0)
def counting():
    yield 1


@ray_durable.remote
def reads_a_tasks_stream():
    return [ray.get(ref) for ref in counting.remote()]
