"""Drives an `async def` branch inside a real asyncio task, so that foreign awaitables (an HTTP client's, say) find the
running loop and `current_task()` that they expect. While the host may run nothing, what they answer is kept."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ray_durable.actors.culprits import IDLE, note
from ray_durable.runner import Branch, Outcome

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["AsyncDriver"]


class AsyncDriver:
    """One task for the life of one branch on this host; between durable requests it waits for `wake`."""

    __slots__ = ("answer", "branch", "engine", "foreign", "stepped", "task", "wakeup")

    def __init__(self, branch: Branch, engine: Engine) -> None:
        self.branch = branch
        self.engine = engine
        self.stepped = engine.stepped
        self.wakeup: asyncio.Future[None] = engine.loop.create_future()
        self.answer: tuple[Any, BaseException | None] = (None, None)
        self.foreign = False  # it awaits something of asyncio's just now
        self.task = engine.loop.create_task(self.run())

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
            outcome, answer = self.step(value, error)
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
                if self.is_held():  # rule 13: the coming turn goes on with it, when there is one
                    self.wakeup = self.engine.loop.create_future()
                    self.engine.ready.append((self.branch, value, error))
                    yield from self.wakeup
                    (value, error), self.answer = self.answer, (None, None)
                outcome, answer = self.step(value, error)
            self.wakeup = self.engine.loop.create_future()
            self.stepped(self.branch, outcome, answer)
            if outcome is not Outcome.SUSPENDED:
                return

    def step(self, value: Any, error: BaseException | None) -> tuple[Outcome, Any]:
        """Run the branch to its next request, end or foreign awaitable."""
        running, coroutine = self.engine.running, self.branch.coroutine
        note(running, 0, coroutine.seq, coroutine.label)
        taken = self.branch.step(value, error)
        running[:] = IDLE
        return taken

    def is_held(self) -> bool:
        """Whether this host may resume nothing just now."""
        engine = self.engine
        engine.paused = engine.paused or not engine.allowed()
        return engine.paused
