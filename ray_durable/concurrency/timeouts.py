"""`asyncio.timeout`, `timeout_at` and `wait_for`: deadlines on the wall clock, which hold through a move.

asyncio counts by the event loop's clock, which is another one on another machine: `when()` and `reschedule()`
translate.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable
from ray_durable.concurrency.futures import Alarm, Future, set_alarm
from ray_durable.concurrency.tasks import Task, ensure_future, own_task
from ray_durable.running import is_inside

__all__ = ["Timeout", "timeout", "timeout_at", "wait_for"]


def timeout(delay: float | None) -> Any:
    """As `asyncio.timeout`: the block gets TimeoutError `delay` seconds from now, wherever it runs by then."""
    if not is_inside():
        return asyncio.timeout(delay)
    return Timeout(None if delay is None else SYSTEM_CLOCK.now() + delay)


def timeout_at(when: float | None) -> Any:
    """As `asyncio.timeout_at`: `when` is a time of this host's event loop."""
    if not is_inside():
        return asyncio.timeout_at(when)
    return Timeout(wall_time(when))


def wall_time(when: float | None) -> float | None:
    """A time of the event loop as seconds since the epoch."""
    return None if when is None else when - SYSTEM_CLOCK.monotonic() + SYSTEM_CLOCK.now()


class Timeout:
    """As `asyncio.Timeout`; `until` is in seconds since the epoch."""

    def __init__(self, until: float | None) -> None:
        self.until = until
        self.state = "created"
        self.alarm: Alarm | None = None
        self.task: Task | None = None
        self.cancels = 0

    def when(self) -> float | None:
        """The deadline, as a time of this host's event loop."""
        return None if self.until is None else self.until - SYSTEM_CLOCK.now() + SYSTEM_CLOCK.monotonic()

    def reschedule(self, when: float | None) -> None:
        """Move the deadline. Raises: RuntimeError unless the block runs and the deadline has not come."""
        if self.state != "active":
            reason = "has not been entered" if self.state == "created" else f"is {self.state}"
            raise RuntimeError(f"Cannot change state of Timeout: it {reason}")
        self.set_deadline(wall_time(when))

    def set_deadline(self, until: float | None) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        self.until = until
        self.alarm = None if until is None else set_alarm(until - SYSTEM_CLOCK.now(), self.expire)

    def expired(self) -> bool:
        """Whether the deadline has come while the block ran."""
        return self.state in ("expiring", "expired")

    def expire(self) -> None:
        assert self.task is not None
        self.alarm = None
        self.state = "expiring"
        self.task.cancel()

    @durable
    async def __aenter__(self) -> Any:
        if self.state != "created":
            raise RuntimeError("Timeout has already been entered")
        self.state = "active"
        self.task = own_task()
        self.cancels = self.task.cancelling()
        self.set_deadline(self.until)
        return self

    @durable
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.state == "expiring":
            self.state = "expired"
            assert self.task is not None
            if self.task.uncancel() <= self.cancels and kind is asyncio.CancelledError:
                raise TimeoutError from error
        else:
            self.state = "finished"

    def __repr__(self) -> str:
        return f"<Timeout [{self.state}]>"


def native_wait_for(fut: Any, timeout: float | None) -> Any:
    return asyncio.wait_for(fut, timeout)


@durable
async def wait_for(fut: Any, timeout: float | None) -> Any:
    """As `asyncio.wait_for`."""
    if not is_inside():
        return await native_wait_for(fut, timeout)
    if timeout is not None and timeout <= 0:
        task = ensure_future(fut)
        if not task.done():
            await cancel_and_wait(task)
        return result_in_time(task)
    limit = Timeout(None if timeout is None else SYSTEM_CLOCK.now() + timeout)
    async with limit:
        return await fut


@durable
async def cancel_and_wait(task: Any) -> None:
    ended = Future()
    task.add_done_callback(ended.set_result)
    task.cancel()
    await ended


def result_in_time(task: Any) -> Any:
    try:
        return task.result()
    except asyncio.CancelledError as error:
        raise TimeoutError from error
