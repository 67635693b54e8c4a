"""Drives an `async def` branch inside a real asyncio task, so that foreign awaitables (an HTTP client's, say) find the
running loop and `current_task()` that they expect."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Generator
from typing import Any

from ray_durable.runner import Branch, Outcome

__all__ = ["AsyncDriver"]

Stepped = Callable[[Branch, Outcome, Any], None]


class AsyncDriver:
    """One task for the life of one branch on this host; between durable requests it waits for `wake`."""

    __slots__ = ("answer", "branch", "foreign", "stepped", "task", "wakeup")

    def __init__(self, branch: Branch, stepped: Stepped, loop: asyncio.AbstractEventLoop) -> None:
        self.branch = branch
        self.stepped = stepped
        self.wakeup: asyncio.Future[None] = loop.create_future()
        self.answer: tuple[Any, BaseException | None] = (None, None)
        self.foreign = False  # it awaits something of asyncio's just now
        self.task = loop.create_task(self.run())

    def wake(self, value: Any, error: BaseException | None) -> None:
        """Send `value` into the branch, or throw `error`, in the task's next turn."""
        self.answer = (value, error)
        if not self.wakeup.done():
            self.wakeup.set_result(None)

    def interrupt(self, reason: str) -> None:
        """Cancel what the branch awaits of asyncio's: CancelledError is raised there."""
        self.task.cancel(reason)

    def stop(self) -> None:
        """Never touch the branch again: it lives on elsewhere."""
        self.branch = None  # type: ignore[assignment]
        self.task.cancel()

    async def run(self) -> None:
        try:
            await self.steps()
        except asyncio.CancelledError:
            if self.branch is not None:
                raise

    @types.coroutine
    def steps(self) -> Generator[Any, Any, None]:
        while True:
            yield from self.wakeup
            (value, error), self.answer = self.answer, (None, None)
            outcome, answer = self.branch.step(value, error)
            while outcome is Outcome.FOREIGN:
                self.foreign = True
                if self.branch.coroutine.stirred:
                    self.stepped(self.branch, outcome, answer)
                try:
                    value, error = (yield answer), None
                except BaseException as thrown:
                    value, error = None, thrown
                self.foreign = False
                if self.branch is None:
                    return
                outcome, answer = self.branch.step(value, error)
            self.wakeup = self.task.get_loop().create_future()
            self.stepped(self.branch, outcome, answer)
            if outcome is not Outcome.SUSPENDED:
                return
