"""`asyncio.TaskGroup`: when one task fails its siblings are cancelled, and all have ended when the block has."""

from __future__ import annotations

import asyncio
import inspect
from types import TracebackType
from typing import Any

from ray_durable.compiler import durable
from ray_durable.concurrency.futures import Future
from ray_durable.concurrency.tasks import Task, own_task, spawn
from ray_durable.running import is_inside

__all__ = ["TaskGroup", "task_group"]


def task_group() -> Any:
    """As `asyncio.TaskGroup()`."""
    return TaskGroup() if is_inside() else asyncio.TaskGroup()


class TaskGroup:
    """As `asyncio.TaskGroup`, its tasks being branches of the coroutine."""

    def __init__(self) -> None:
        self.parent: Task | None = None
        self.state = "new"
        self.tasks: list[Task] = []
        self.errors: list[BaseException] = []
        self.base_error: BaseException | None = None
        self.aborting = False
        self.cancelled_parent = False
        self.all_done: Future | None = None

    @durable
    async def __aenter__(self) -> Any:
        if self.state != "new":
            raise RuntimeError(f"{self!r} has already been entered")
        self.state = "entered"
        self.parent = own_task()
        return self

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Task:
        """As `asyncio.TaskGroup.create_task`. Raises: RuntimeError when the group is not entered, or is ending."""
        if self.state == "new":
            self.refuse(coro, "has not been entered")
        if self.state == "exiting" and not self.tasks:
            self.refuse(coro, "is finished")
        if self.aborting:
            self.refuse(coro, "is shutting down")
        if not inspect.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        task = spawn(coro, name)
        self.tasks.append(task)
        task.add_done_callback(self.on_done)
        return task

    def refuse(self, coro: Any, reason: str) -> None:
        if inspect.iscoroutine(coro):
            coro.close()
        raise RuntimeError(f"TaskGroup {self!r} {reason}")

    def on_done(self, task: Task) -> None:
        """One task has ended: its failure ends the others, and the block if that still runs."""
        self.tasks.remove(task)
        if self.all_done is not None and not self.tasks and not self.all_done.done():
            self.all_done.set_result(True)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self.errors.append(error)
        if isinstance(error, KeyboardInterrupt | SystemExit) and self.base_error is None:
            self.base_error = error
        assert self.parent is not None
        if self.parent.done():
            return
        if not self.aborting and not self.cancelled_parent:
            self.abort()
            self.cancelled_parent = True
            self.parent.cancel()

    def abort(self) -> None:
        self.aborting = True
        for task in list(self.tasks):
            task.cancel()

    @durable
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.begin_exit(kind, error)
        cancellation = error if kind is not None and issubclass(kind, asyncio.CancelledError) else None
        del traceback
        while self.tasks:
            if self.all_done is None:
                self.all_done = Future()
            try:
                await self.all_done
            except asyncio.CancelledError as raised:
                if not self.aborting:
                    # Not this group's doing: the block's own task was cancelled from outside.
                    cancellation = raised
                    self.abort()
            self.all_done = None
        if self.base_error is not None:
            raise self.base_error
        assert self.parent is not None
        if self.cancelled_parent and self.parent.uncancel() == 0:
            cancellation = None
        if cancellation is not None and not self.errors:
            raise cancellation
        self.end_exit(kind, error)

    def begin_exit(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        self.state = "exiting"
        if isinstance(error, KeyboardInterrupt | SystemExit) and self.base_error is None:
            self.base_error = error
        if kind is not None and not self.aborting:
            self.abort()

    def end_exit(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """Raises: BaseExceptionGroup of what the tasks and the block raised."""
        if error is not None and kind is not None and not issubclass(kind, asyncio.CancelledError):
            self.errors.append(error)
        if self.errors:
            errors, self.errors = self.errors, []
            if self.parent is not None and self.parent.cancelling():  # from outside: the next await must meet it
                self.parent.uncancel()
                self.parent.cancel()
            raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors)

    def __repr__(self) -> str:
        return f"<TaskGroup {self.state} tasks={len(self.tasks)}>"
