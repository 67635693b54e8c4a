"""Waiting for several tasks: `gather`, `wait`, `as_completed`, and `shield`, which waits without cancelling."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Iterable
from typing import Any

from ray_durable.compiler import durable
from ray_durable.concurrency.futures import CANCELLED, RAISED, Alarm, Future, set_alarm
from ray_durable.concurrency.tasks import Task, ensure_future
from ray_durable.running import is_inside

__all__ = ["as_completed", "gather", "shield", "wait"]


def gather(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
    """Run awaitables (durable calls, refs) side by side; awaited, it gives their results in order, as `asyncio.gather`
    does: the first exception is raised at once unless `return_exceptions`, and the others go on. To cancel it is to
    cancel them.

    Inside a coroutine all of them belong to it: they are checkpointed and moved with it.
    Example: total, rate = await ray_durable.gather(price(order), rate_of("EUR"))"""
    if not is_inside():
        return asyncio.gather(*coros_or_futures, return_exceptions=return_exceptions)
    made: dict[int, Any] = {}
    for each in coros_or_futures:
        if id(each) not in made:
            made[id(each)] = ensure_future(each)
    return Gathering([made[id(each)] for each in coros_or_futures], return_exceptions)


class Gathering(Future):
    """The future that `gather` returns."""

    __slots__ = ("asked_to_cancel", "children", "left", "return_exceptions")

    def __init__(self, children: list[Any], return_exceptions: bool) -> None:
        super().__init__()
        self.children = children
        self.return_exceptions = return_exceptions
        self.asked_to_cancel = False
        unique = list(dict.fromkeys(children))
        self.left = len(unique)
        if not unique:
            self.set_result([])
        for child in unique:
            child.add_done_callback(self.on_done)

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.children, self.return_exceptions, self.asked_to_cancel, self.left)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:4])
        self.children, self.return_exceptions, self.asked_to_cancel, self.left = state[4:]

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        cancelled = [child.cancel(msg) for child in self.children]
        if any(cancelled):
            self.asked_to_cancel = True
        return any(cancelled)

    def on_done(self, child: Any) -> None:
        self.left -= 1
        if self.done():
            return
        if not self.return_exceptions and child.outcome in (CANCELLED, RAISED):
            self.set_exception(child.cancellation() if child.cancelled() else child.exception())
        elif not self.left and self.asked_to_cancel:
            self.set_exception(asyncio.CancelledError())
        elif not self.left:
            self.set_result([outcome_of(child) for child in self.children])


def outcome_of(child: Any) -> Any:
    if child.cancelled():
        return child.cancellation()
    return child.value


def native_wait(fs: Any, timeout: float | None, return_when: str) -> Any:
    return asyncio.wait(fs, timeout=timeout, return_when=return_when)


@durable
async def wait(fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED) -> Any:
    """As `asyncio.wait`: the sets of tasks that are done and of those that are not."""
    if not is_inside():
        return await native_wait(fs, timeout, return_when)
    tasks = checked(fs, return_when)
    waiter = Waiter(tasks, return_when)
    alarm = None if timeout is None else set_alarm(timeout, waiter.enough)
    try:
        await waiter
    finally:
        leave(waiter, tasks, alarm)
    return {task for task in tasks if task.done()}, {task for task in tasks if not task.done()}


def checked(fs: Any, return_when: str) -> list[Any]:
    """Raises: TypeError, ValueError as `asyncio.wait` does."""
    if isinstance(fs, Future) or inspect.iscoroutine(fs):
        raise TypeError(f"expect a list of futures, not {type(fs).__name__}")
    tasks = list(dict.fromkeys(fs))
    if not tasks:
        raise ValueError("Set of Tasks/Futures is empty.")
    if return_when not in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED):
        raise ValueError(f"Invalid return_when value: {return_when}")
    if any(inspect.iscoroutine(task) for task in tasks):
        raise TypeError("Passing coroutines is forbidden, use tasks explicitly.")
    return [ensure_future(task) for task in tasks]


class Waiter(Future):
    """Done when enough of some tasks are; cancelling it cancels none of them."""

    __slots__ = ("left", "return_when")

    def __init__(self, tasks: list[Any], return_when: str) -> None:
        super().__init__()
        self.left = len(tasks)
        self.return_when = return_when
        for task in tasks:
            task.add_done_callback(self.on_done)

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.left, self.return_when)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:4])
        self.left, self.return_when = state[4:]

    def on_done(self, task: Any) -> None:
        self.left -= 1
        failed = self.return_when == asyncio.FIRST_EXCEPTION and task.outcome == RAISED
        if not self.left or failed or self.return_when == asyncio.FIRST_COMPLETED:
            self.enough()

    def enough(self) -> None:
        if not self.done():
            self.set_result(None)


def leave(waiter: Waiter, tasks: list[Any], alarm: Alarm | None) -> None:
    if alarm is not None:
        alarm.cancel()
    for task in tasks:
        task.remove_done_callback(waiter.on_done)


def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """As `asyncio.as_completed`: an iterator of awaitables, each of which gives the next result there is; `async for`
    over it gives the tasks themselves, on every version of Python."""
    if not is_inside():
        return asyncio.as_completed(fs, timeout=timeout)
    if isinstance(fs, Future) or inspect.iscoroutine(fs):
        raise TypeError(f"expect an iterable of futures, not {type(fs).__name__}")
    return AsCompleted([ensure_future(each) for each in dict.fromkeys(fs)], timeout)


class AsCompleted:
    """Tasks in the order in which they end."""

    def __init__(self, tasks: list[Any], timeout: float | None) -> None:
        self.left = len(tasks)  # to be handed out
        self.running = list(tasks)
        self.ended: deque[Any] = deque()
        self.waiters: deque[Future] = deque()
        self.is_late = False
        self.alarm: Alarm | None = None
        if timeout is not None and tasks:
            self.alarm = set_alarm(timeout, self.expire)
        for task in tasks:
            task.add_done_callback(self.on_done)

    def on_done(self, task: Any) -> None:
        self.running.remove(task)
        self.ended.append(task)
        if not self.running and self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        self.wake_one()

    def wake_one(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def expire(self) -> None:
        self.alarm = None
        self.is_late = True
        for task in self.running:
            task.remove_done_callback(self.on_done)
        self.running.clear()
        waiters, self.waiters = self.waiters, deque()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @durable
    async def next_task(self) -> Any:
        """The next task that has ended. Raises: TimeoutError."""
        while not self.ended:
            if self.is_late:
                raise TimeoutError
            waiter = Future()
            self.waiters.append(waiter)
            await waiter
        return self.ended.popleft()

    @durable
    async def next_result(self) -> Any:
        task = await self.next_task()
        return task.result()

    def __iter__(self) -> AsCompleted:
        return self

    def __next__(self) -> Any:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.next_result()

    def __aiter__(self) -> AsCompleted:
        return self

    @durable
    async def __anext__(self) -> Any:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return await self.next_task()


def shield(arg: Any) -> Any:
    """As `asyncio.shield`: to cancel what waits for it does not cancel `arg`."""
    if not is_inside():
        return asyncio.shield(arg)
    inner = ensure_future(arg)
    if inner.done():
        return inner
    outer = Shield()
    inner.add_done_callback(outer.follow)
    return outer


class Shield(Future):
    """Follows a task, and can be cancelled alone."""

    __slots__ = ()

    def follow(self, inner: Task) -> None:
        if not self.done():
            self.settle(inner.outcome, inner.value)
