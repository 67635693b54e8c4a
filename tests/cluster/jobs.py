"""Durable functions and Ray tasks for the tests on live clusters."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import time

import ray

import ray_durable


@ray.remote(num_cpus=0)
def square(x):
    return x * x


@ray.remote(num_cpus=0)
def slow_square(x, gate, journal):
    """Notes that it ran; the note is what shows a repeat. Ends when there is a file at `gate`, if one is named."""
    with open(journal, "a") as file:
        file.write(f"{x}\n")
    while gate is not None and not os.path.exists(gate):
        time.sleep(0.05)
    return x * x


@ray.remote(num_cpus=0)
class Adder:
    def __init__(self, base):
        self.base = base

    def add(self, x):
        return self.base + x


@ray_durable.remote
def ticks(count, pause, journal=None):
    """Yields `count` times; the journal gets a line for each step that really ran."""
    seen = []
    for number in range(count):
        time.sleep(pause)
        seen.append(number)
        if journal is not None:
            with open(journal, "a") as file:
                file.write(f"{number}\n")
    return seen


@ray_durable.remote
def sums(n):
    total = 0
    for i in range(n):
        total += ray.get(square.remote(i))
    adder = Adder.remote(1000)
    return total + sum(ray.get([adder.add.remote(i) for i in range(3)])) + helper(n)


@ray_durable.remote
def helper(n):
    time.sleep(0.01)
    return n


@ray_durable.remote
async def gathered(n):
    async def one(i):
        await asyncio.sleep(0.01 * i)
        return i

    results = await asyncio.gather(*(one(i) for i in range(n)), square.remote(n))
    await asyncio.sleep(0.01)
    return results, await square.remote(n)


@ray_durable.remote
def waits(journal, gate):
    """Two calls of different length: the short one's value is kept while the long one runs."""
    refs = [slow_square.remote(2, None, journal), slow_square.remote(3, gate, journal)]
    return ray.get(refs)


@ray_durable.remote
def streams(count, pause=0.0):
    for i in range(count):
        time.sleep(pause)
        yield i
    return "the end"


@ray_durable.remote
def echo():
    total = 0
    while True:
        sent = yield total
        if sent is None:
            return total
        total += sent


@ray_durable.remote
async def mailbox(count):
    return [await ray_durable.receive("in") for _ in range(count)]


class Refused(Exception):
    def __init__(self, amount):
        super().__init__(f"refused {amount}")
        self.amount = amount


@ray_durable.remote
def fails(amount):
    time.sleep(0.01)
    raise Refused(amount)


@ray.remote(num_cpus=0)
def refuses(amount):
    raise Refused(amount)


@ray_durable.remote
def passes_on(kind, amount):
    """Waits for a Ray task or another coroutine that fails, and lets the error through."""
    return ray.get(refuses.remote(amount) if kind == "task" else fails.remote(amount))


@ray_durable.remote
def holds_a_socket():
    time.sleep(0.01)
    client = socket.socket()
    time.sleep(0.01)
    client.close()


@ray_durable.remote
def sleeps(until):
    time.sleep(max(0.0, until - time.time()))
    return time.time()


@ray_durable.remote
def cleans_up(journal):
    try:
        time.sleep(600)
    finally:
        with open(journal, "a") as file:
            file.write("cleaned up\n")


@ray_durable.remote(retry_exceptions=True, max_retries=2)
def flaky(journal):
    time.sleep(0.01)
    with open(journal, "a") as file:
        file.write("tried\n")
    with open(journal) as file:
        if len(file.readlines()) < 3:
            raise OSError("not yet")
    return "done"


@ray_durable.remote
def crashes():
    time.sleep(0.01)
    ctypes.string_at(0)


@ray_durable.remote
def where():
    time.sleep(0.01)
    return ray.get_runtime_context().get_node_id(), os.getpid()


@ray_durable.remote
def parent(n):
    return sum(ray.get([child.remote(i) for i in range(n)]))


@ray_durable.remote
def child(i):
    time.sleep(0.05)
    return i
