"""What stands in for asyncio inside durable code: tasks, timeouts, locks and queues, captured with the coroutine.

They have asyncio's interface and semantics, and hold plain data only: results, counts, points on the wall clock, and
each other. A task is a branch of the coroutine; a deadline keeps its time through a move. Outside a coroutine each name
makes asyncio's own object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray_durable.compiler import suspends
from ray_durable.concurrency import locks, queues, tasks, timeouts, waiting
from ray_durable.concurrency.groups import task_group

__all__ = ["install"]


class Returned:
    """The delegate of a call that does not suspend, in generators and plain functions."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __iter__(self) -> Returned:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self.value)


def replace(native: Any, ours: Callable[..., Any]) -> None:
    """Have durable code call `ours`, which does not suspend, where it calls `native`."""
    suspends(native, lambda *arguments, **keywords: Returned(ours(*arguments, **keywords)), ours)


def install() -> None:
    """Make durable code use these in the place of asyncio's."""
    replace(asyncio.create_task, tasks.create_task)
    replace(asyncio.ensure_future, tasks.ensure_future)
    replace(asyncio.current_task, tasks.current_task)
    replace(asyncio.shield, waiting.shield)
    replace(asyncio.gather, waiting.gather)
    replace(asyncio.as_completed, waiting.as_completed)
    replace(asyncio.TaskGroup, task_group)
    replace(asyncio.timeout, timeouts.timeout)
    replace(asyncio.timeout_at, timeouts.timeout_at)
    replace(asyncio.Event, locks.event)
    replace(asyncio.Lock, locks.lock)
    replace(asyncio.Semaphore, locks.semaphore)
    replace(asyncio.BoundedSemaphore, locks.bounded_semaphore)
    replace(asyncio.Condition, locks.condition)
    replace(asyncio.Queue, queues.queue)
    replace(asyncio.PriorityQueue, queues.priority_queue)
    replace(asyncio.LifoQueue, queues.lifo_queue)
    suspends(asyncio.wait, None, waiting.wait)
    suspends(asyncio.wait_for, None, timeouts.wait_for)
