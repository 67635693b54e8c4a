"""Programs of queues, events, locks, semaphores and conditions, like those in `programs`."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.concurrency.programs import settle


async def a_queue(log):
    queue: Any = asyncio.Queue(maxsize=2)

    async def produce():
        for n in range(6):
            await queue.put(n)
        log.append("produced")

    async def consume(name):
        while True:
            item = await queue.get()
            await asyncio.sleep(0)
            log.append(item)
            queue.task_done()

    consumer = asyncio.create_task(consume("c"))
    await produce()
    await queue.join()
    log.append((queue.qsize(), queue.empty(), queue.full(), queue.maxsize))
    consumer.cancel()
    await asyncio.gather(consumer, return_exceptions=True)
    try:
        queue.get_nowait()
    except asyncio.QueueEmpty:
        log.append("empty")
    queue.put_nowait(1)
    queue.put_nowait(2)
    try:
        queue.put_nowait(3)
    except asyncio.QueueFull:
        log.append("full")


async def queues_of_other_orders(log):
    for kind in (asyncio.PriorityQueue, asyncio.LifoQueue):
        queue = kind()
        for n in (3, 1, 2):
            await queue.put(n)
            await asyncio.sleep(0)
        log.append([await queue.get() for _ in range(3)])


async def getters_take_turns(log):
    queue: Any = asyncio.Queue()

    async def get(name):
        log.append((name, await queue.get()))

    getters = []
    for name in "abc":
        getters.append(asyncio.create_task(get(name)))
        await settle()
    getters[0].cancel()
    await settle()
    for n in range(2):
        queue.put_nowait(n)
        await settle()
    await asyncio.gather(*getters, return_exceptions=True)


async def an_event(log):
    event = asyncio.Event()

    async def wait(name):
        log.append((name, await event.wait()))

    waiting = []
    for name in "abc":
        waiting.append(asyncio.create_task(wait(name)))
        await settle()
    log.append(event.is_set())
    event.set()
    event.clear()
    await asyncio.gather(*waiting)
    log.append(event.is_set())
    event.set()
    log.append(await event.wait())


async def a_lock(log):
    lock, gate = asyncio.Lock(), asyncio.Event()

    async def work(name):
        async with lock:
            log.append(f"{name} in")
            await gate.wait()
            log.append(f"{name} out")

    started = []
    for name in "abcd":
        started.append(asyncio.create_task(work(name)))
        await settle()
    started[2].cancel()
    gate.set()
    await asyncio.gather(*started, return_exceptions=True)
    log.append(lock.locked())
    try:
        lock.release()
    except RuntimeError:
        log.append("not held")


async def a_semaphore(log):
    semaphore = asyncio.Semaphore(2)
    inside = 0

    async def work(name):
        nonlocal inside
        async with semaphore:
            inside += 1
            log.append((name, inside <= 2))
            await settle()
            inside -= 1

    await asyncio.gather(*[work(name) for name in "abcde"])
    log.append(semaphore.locked())
    bounded = asyncio.BoundedSemaphore(1)
    await bounded.acquire()
    log.append(bounded.locked())
    bounded.release()
    try:
        bounded.release()
    except ValueError:
        log.append("too many")


async def a_condition(log):
    condition = asyncio.Condition()
    ready = []

    async def consume(name):
        async with condition:
            await condition.wait_for(lambda: ready)
            log.append((name, ready.pop()))

    consumers = []
    for name in "ab":
        consumers.append(asyncio.create_task(consume(name)))
        await settle()
    for n in range(2):
        async with condition:
            ready.append(n)
            condition.notify()
        await settle()
    await asyncio.gather(*consumers)


PROGRAMS = [
    a_queue, queues_of_other_orders, getters_take_turns, an_event, a_lock, a_semaphore, a_condition,
]  # fmt: skip
