"""`Lock`, `Event`, `Condition` and semaphores of asyncio: first come, first served, and captured with the coroutine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ray_durable.compiler import durable
from ray_durable.concurrency.futures import Future
from ray_durable.running import is_inside

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"]


class Entered:
    """`async with` on what has `acquire` and `release`."""

    acquire: Callable[[], Any]
    release: Callable[[], None]

    @durable
    async def __aenter__(self) -> None:
        await self.acquire()

    @durable
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Lock(Entered):
    """As `asyncio.Lock`."""

    def __init__(self) -> None:
        self.is_held = False
        self.waiters: deque[Future] = deque()

    def locked(self) -> bool:
        return self.is_held

    @durable
    async def acquire(self) -> bool:
        if not self.is_held and all(waiter.cancelled() for waiter in self.waiters):
            self.is_held = True
            return True
        waiter = Future()
        self.waiters.append(waiter)
        try:
            try:
                await waiter
            finally:
                self.waiters.remove(waiter)
        except asyncio.CancelledError:
            if not self.is_held:  # the turn was this one's: pass it on
                self.wake_first()
            raise
        self.is_held = True
        return True

    def release(self) -> None:
        if not self.is_held:
            raise RuntimeError("Lock is not acquired.")
        self.is_held = False
        self.wake_first()

    def wake_first(self) -> None:
        if self.waiters and not self.waiters[0].done():
            self.waiters[0].set_result(True)

    def __repr__(self) -> str:
        return f"<Lock [{'locked' if self.is_held else 'unlocked'}, waiters:{len(self.waiters)}]>"


class Event:
    """As `asyncio.Event`."""

    def __init__(self) -> None:
        self.value = False
        self.waiters: deque[Future] = deque()

    def is_set(self) -> bool:
        return self.value

    def set(self) -> None:
        if not self.value:
            self.value = True
            for waiter in list(self.waiters):
                if not waiter.done():
                    waiter.set_result(True)

    def clear(self) -> None:
        self.value = False

    @durable
    async def wait(self) -> bool:
        if self.value:
            return True
        waiter = Future()
        self.waiters.append(waiter)
        try:
            await waiter
            return True
        finally:
            self.waiters.remove(waiter)


class Semaphore(Entered):
    """As `asyncio.Semaphore`."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self.value = value
        self.waiters: deque[Future] = deque()

    def locked(self) -> bool:
        return self.value == 0 or any(not waiter.cancelled() for waiter in self.waiters)

    @durable
    async def acquire(self) -> bool:
        if not self.locked():
            self.value -= 1
            return True
        waiter = Future()
        self.waiters.append(waiter)
        try:
            try:
                await waiter
            finally:
                self.waiters.remove(waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it had its turn: give that back
                self.value += 1
            raise
        finally:
            while self.value > 0 and self.wake_next():
                pass
        return True

    def release(self) -> None:
        self.value += 1
        self.wake_next()

    def wake_next(self) -> bool:
        """Give one unit to the first that waits."""
        for waiter in self.waiters:
            if not waiter.done():
                self.value -= 1
                waiter.set_result(True)
                return True
        return False


class BoundedSemaphore(Semaphore):
    """As `asyncio.BoundedSemaphore`."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self.bound = value

    def release(self) -> None:
        if self.value >= self.bound:
            raise ValueError("BoundedSemaphore released too many times")
        super().release()


class Condition(Entered):
    """As `asyncio.Condition`."""

    def __init__(self, lock: Any = None) -> None:
        self.lock = Lock() if lock is None else lock
        self.locked = self.lock.locked
        self.acquire = self.lock.acquire
        self.release = self.lock.release
        self.waiters: deque[Future] = deque()

    @durable
    async def wait(self) -> bool:
        if not self.lock.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        self.lock.release()
        cancelled = None
        waiter = Future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
            if waiter.done() and not waiter.cancelled():  # it was notified: another one may go instead
                self.notify_unchecked(1)
        finally:
            self.waiters.remove(waiter)
        while True:
            try:
                await self.lock.acquire()
                break
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return True

    @durable
    async def wait_for(self, predicate: Callable[[], Any]) -> Any:
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        if not self.lock.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self.notify_unchecked(n)

    def notify_unchecked(self, n: int) -> None:
        waiting = [waiter for waiter in self.waiters if not waiter.done()]
        for waiter in waiting[:n]:
            waiter.set_result(False)

    def notify_all(self) -> None:
        self.notify(len(self.waiters))


def lock() -> Any:
    return Lock() if is_inside() else asyncio.Lock()


def event() -> Any:
    return Event() if is_inside() else asyncio.Event()


def semaphore(value: int = 1) -> Any:
    return Semaphore(value) if is_inside() else asyncio.Semaphore(value)


def bounded_semaphore(value: int = 1) -> Any:
    return BoundedSemaphore(value) if is_inside() else asyncio.BoundedSemaphore(value)


def condition(lock: Any = None) -> Any:
    return Condition(lock) if is_inside() else asyncio.Condition(lock)
