"""Tasks: branches of a coroutine as `asyncio.Task` shows them, and their cancellation.

A cancelled task gets CancelledError at its next step, or the future that it waits for is cancelled in its stead, as in
asyncio. The request to cancel is part of the captured state until the task has taken it.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ray_durable.compiler import durable
from ray_durable.compiler.replacements import ready
from ray_durable.concurrency.futures import CANCELLED, RAISED, RETURNED, Future, Wait
from ray_durable.running import entered, is_inside

__all__ = ["Task", "create_task", "current_task", "ensure_future", "own_task", "spawn", "task_of"]


class Task(Future):
    """One branch of a coroutine, with the interface of `asyncio.Task`."""

    __slots__ = ("branch", "cancels", "message", "must_cancel", "name")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.must_cancel = False
        self.message: Any = None
        self.cancels = 0
        self.branch: Any = None  # what it stands for, in this process; None once that is done

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.name, self.must_cancel, self.message, self.cancels)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:4])
        self.name, self.must_cancel, self.message, self.cancels = state[4:]
        self.branch = None

    def get_name(self) -> str:
        return self.name

    def set_name(self, value: object) -> None:
        self.name = str(value)

    def get_coro(self) -> Any:
        return None if self.branch is None else self.branch.root

    def set_result(self, result: Any) -> None:
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception: BaseException | type[BaseException]) -> None:
        raise RuntimeError("Task does not support set_exception operation")

    def cancel(self, msg: Any = None) -> bool:
        """Have CancelledError thrown into the task; False when it is done."""
        if self.done():
            return False
        self.cancels += 1
        request = None if self.branch is None else self.branch.request
        if type(request) is Wait and request.future.cancel(msg):
            return True
        self.must_cancel, self.message = True, msg
        self.stir()
        return True

    def cancelling(self) -> int:
        return self.cancels

    def uncancel(self) -> int:
        if self.cancels:
            self.cancels -= 1
            if not self.cancels:
                self.must_cancel = False
        return self.cancels

    def take_cancel(self, error: BaseException | None) -> BaseException:
        """What is thrown into the task now, in the place of its answer."""
        self.must_cancel = False
        if isinstance(error, asyncio.CancelledError):
            return error
        return asyncio.CancelledError() if self.message is None else asyncio.CancelledError(self.message)

    def stir(self) -> None:
        """Have the host look again at what the branch waits for."""
        if self.branch is not None:
            self.branch.coroutine.stir(self.branch)

    def finish(self, succeeded: bool, value: Any) -> None:
        """The branch is done."""
        self.branch = None
        if succeeded:
            self.settle(RETURNED, value)
        elif isinstance(value, asyncio.CancelledError):
            self.settle(CANCELLED, value.args[0] if value.args else None)
        else:
            self.settle(RAISED, value)


def task_of(branch: Any) -> Task:
    """The task that stands for a branch."""
    if branch.task is None:
        branch.task = Task(f"Task-{branch.number + 1}")
        branch.task.branch = branch
    found: Task = branch.task
    return found


def own_task() -> Task:
    """The task of the running branch. Raises: RuntimeError outside a coroutine."""
    coroutine: Any = entered.identity
    if coroutine is None:
        raise RuntimeError("this belongs to a durable coroutine, and can be awaited only inside it")
    return task_of(coroutine.running)


def current_task(loop: Any = None) -> Any:
    """As `asyncio.current_task`: inside a coroutine, the task of the running branch."""
    return own_task() if is_inside() else asyncio.current_task(loop)


@durable
async def awaiting(awaitable: Any) -> Any:
    """A root for an awaitable that is not a coroutine itself, such as an ObjectRef."""
    return await awaitable


def create_task(coro: Any, *, name: str | None = None, context: Any = None) -> Any:
    """As `asyncio.create_task`: inside a coroutine, `coro` runs as a branch of it, captured and moved with it.

    `context` is not kept. What still runs when the coroutine's function returns is cancelled, and the coroutine ends
    when that has ended, as under `asyncio.run`."""
    if not is_inside():
        if context is None:
            return asyncio.create_task(coro, name=name)
        return asyncio.create_task(coro, name=name, context=context)
    if not inspect.iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    return spawn(coro, name)


def spawn(coro: Any, name: str | None = None) -> Task:
    """Start a branch; an undecorated coroutine is made durable first."""
    coroutine: Any = entered.identity
    branch = coroutine.spawn(ready(coro))
    task = task_of(branch)
    if name is not None:
        task.name = str(name)
    return task


def ensure_future(coro_or_future: Any, *, loop: Any = None) -> Any:
    """As `asyncio.ensure_future`."""
    if not is_inside():
        return asyncio.ensure_future(coro_or_future, loop=loop)
    if isinstance(coro_or_future, Future):
        return coro_or_future
    if inspect.iscoroutine(coro_or_future):
        return spawn(coro_or_future)
    if inspect.isawaitable(coro_or_future) or hasattr(coro_or_future, "__await__"):
        return spawn(awaiting(coro_or_future))
    raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")
