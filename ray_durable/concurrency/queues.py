"""`asyncio.Queue`, `PriorityQueue` and `LifoQueue`, their items captured with the coroutine."""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections import deque
from typing import Any

from ray_durable.compiler import durable
from ray_durable.concurrency.futures import Future
from ray_durable.concurrency.locks import Event
from ray_durable.running import is_inside

__all__ = ["LifoQueue", "PriorityQueue", "Queue"]


class Queue:
    """As `asyncio.Queue`."""

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.items: Any = self.made()
        self.getters: deque[Future] = deque()
        self.putters: deque[Future] = deque()
        self.unfinished = 0
        self.finished = Event()
        self.finished.set()
        self.is_shut_down = False

    def made(self) -> Any:
        return deque()

    def add(self, item: Any) -> None:
        self.items.append(item)

    def take(self) -> Any:
        return self.items.popleft()

    def qsize(self) -> int:
        return len(self.items)

    def empty(self) -> bool:
        return not self.items

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)

    @durable
    async def put(self, item: Any) -> None:
        while self.full():
            self.refuse_if_shut_down()
            putter = Future()
            self.putters.append(putter)
            try:
                await putter
            except BaseException:
                withdraw(self.putters, putter, not self.full())
                raise
        self.put_nowait(item)

    def put_nowait(self, item: Any) -> None:
        """Raises: asyncio.QueueFull."""
        self.refuse_if_shut_down()
        if self.full():
            raise asyncio.QueueFull
        self.add(item)
        self.unfinished += 1
        self.finished.clear()
        wake_next(self.getters)

    @durable
    async def get(self) -> Any:
        while self.empty():
            self.refuse_if_shut_down()
            getter = Future()
            self.getters.append(getter)
            try:
                await getter
            except BaseException:
                withdraw(self.getters, getter, not self.empty())
                raise
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Raises: asyncio.QueueEmpty."""
        if self.empty():
            self.refuse_if_shut_down()
            raise asyncio.QueueEmpty
        item = self.take()
        wake_next(self.putters)
        return item

    def task_done(self) -> None:
        if self.unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self.unfinished -= 1
        if not self.unfinished:
            self.finished.set()

    @durable
    async def join(self) -> None:
        if self.unfinished:
            await self.finished.wait()

    def refuse_if_shut_down(self) -> None:
        if self.is_shut_down:
            raise asyncio.QueueShutDown  # type: ignore[attr-defined, unused-ignore]

    def shutdown(self, immediate: bool = False) -> None:
        """As on Python 3.13: no more puts, gets until it is empty; `immediate`: it is emptied."""
        if sys.version_info < (3, 13):
            raise AttributeError("asyncio.Queue has no shutdown() before Python 3.13")
        self.is_shut_down = True
        if immediate:
            while not self.empty():
                self.take()
                if self.unfinished:
                    self.unfinished -= 1
            if not self.unfinished:
                self.finished.set()
        while self.getters:
            wake_next(self.getters)
        while self.putters:
            wake_next(self.putters)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} maxsize={self.maxsize} size={self.qsize()}>"


class PriorityQueue(Queue):
    """As `asyncio.PriorityQueue`: the least item first."""

    def made(self) -> Any:
        return []

    def add(self, item: Any) -> None:
        heapq.heappush(self.items, item)

    def take(self) -> Any:
        return heapq.heappop(self.items)


class LifoQueue(Queue):
    """As `asyncio.LifoQueue`: the newest item first."""

    def made(self) -> Any:
        return []

    def take(self) -> Any:
        return self.items.pop()


def wake_next(waiters: deque[Future]) -> None:
    """Let the first that still waits look again."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def withdraw(waiters: deque[Future], waiter: Future, may_go: bool) -> None:
    """`waiter` was cancelled; if it had been woken, its turn is the next one's."""
    waiter.cancel()
    if waiter in waiters:
        waiters.remove(waiter)
    if may_go and not waiter.cancelled():
        wake_next(waiters)


def queue(maxsize: int = 0) -> Any:
    return Queue(maxsize) if is_inside() else asyncio.Queue(maxsize)


def priority_queue(maxsize: int = 0) -> Any:
    return PriorityQueue(maxsize) if is_inside() else asyncio.PriorityQueue(maxsize)


def lifo_queue(maxsize: int = 0) -> Any:
    return LifoQueue(maxsize) if is_inside() else asyncio.LifoQueue(maxsize)
