"""A future that is plain data: what it has come to, and the tasks that wait for it.

All waiting of this package goes through one request, `Wait(future)`. It is level-triggered: whoever carries it out
looks whether the future is done, now and after a resume, so that no wake-up can be lost between two checkpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable
from ray_durable.operations import Request
from ray_durable.running import entered

if TYPE_CHECKING:
    from ray_durable.concurrency.tasks import Task

__all__ = ["Alarm", "Future", "Wait", "set_alarm"]

PENDING, CANCELLED, RETURNED, RAISED = range(4)


class Wait(Request):
    """Go on when `future` is done."""

    __slots__ = ("future",)

    def __init__(self, future: Future) -> None:
        self.future = future


class Future:
    """As `asyncio.Future`, but that callbacks run at once, and that it belongs to one coroutine."""

    __slots__ = ("callbacks", "outcome", "value", "waiting")

    def __init__(self) -> None:
        self.outcome = PENDING
        self.value: Any = None  # the result, the exception, or the message of the cancellation
        self.waiting: list[Task] = []
        self.callbacks: list[Callable[[Any], object]] = []

    def __getstate__(self) -> Any:
        return self.outcome, self.value, self.waiting, self.callbacks

    def __setstate__(self, state: Any) -> None:
        self.outcome, self.value, self.waiting, self.callbacks = state

    def done(self) -> bool:
        return self.outcome != PENDING

    def cancelled(self) -> bool:
        return self.outcome == CANCELLED

    def result(self) -> Any:
        """The result; raises the exception, CancelledError, or InvalidStateError before the end."""
        if self.outcome == RETURNED:
            return self.value
        if self.outcome == RAISED:
            raise self.value
        if self.outcome == CANCELLED:
            raise self.cancellation()
        raise asyncio.InvalidStateError("Result is not set.")

    def exception(self) -> BaseException | None:
        """The exception, None for a result; raises CancelledError, or InvalidStateError before the end."""
        if self.outcome == CANCELLED:
            raise self.cancellation()
        if self.outcome == PENDING:
            raise asyncio.InvalidStateError("Exception is not set.")
        return self.value if self.outcome == RAISED else None

    def cancellation(self) -> asyncio.CancelledError:
        return asyncio.CancelledError() if self.value is None else asyncio.CancelledError(self.value)

    def set_result(self, result: Any) -> None:
        self.settle(RETURNED, result)

    def set_exception(self, exception: BaseException | type[BaseException]) -> None:
        self.settle(RAISED, exception() if isinstance(exception, type) else exception)

    def cancel(self, msg: Any = None) -> bool:
        """End it with CancelledError; False when it is done."""
        if self.outcome != PENDING:
            return False
        self.settle(CANCELLED, msg)
        return True

    def settle(self, outcome: int, value: Any) -> None:
        """Note what it has come to, and wake who waits. Raises: InvalidStateError when it is done."""
        if self.outcome != PENDING:
            raise asyncio.InvalidStateError("invalid state")
        self.outcome, self.value = outcome, value
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            task.stir()
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            self.call(callback)

    def call(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception as error:  # as in asyncio, it must not stop whoever settled the future
            context = {"message": f"Exception in callback {callback!r}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call `callback(self)` when it is done; at once if it is. `context` is not kept."""
        if self.outcome == PENDING:
            self.callbacks.append(callback)
        else:
            self.call(callback)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        kept = [each for each in self.callbacks if each != callback]
        removed = len(self.callbacks) - len(kept)
        self.callbacks = kept
        return removed

    def __await__(self) -> Generator[Request, Any, Any]:
        return wait_on(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {('pending', 'cancelled', 'finished', 'failed')[self.outcome]}>"


@durable
def wait_on(future: Any) -> Generator[Request, Any, Any]:
    """The steps of `await future`."""
    if not future.done():
        begin_waiting(future)
        yield Wait(future)
    return future.result()


def begin_waiting(future: Future) -> None:
    from ray_durable.concurrency.tasks import own_task

    future.waiting.append(own_task())


class Alarm:
    """Calls `action()` at `when` (seconds since the epoch), on whichever host its coroutine is by then."""

    __slots__ = ("action", "coroutine", "stop", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self.action = action
        self.coroutine: Any = None  # where it is set, in this process
        self.stop: Callable[[], None] | None = None  # given by the host that keeps its time

    def __getstate__(self) -> Any:
        return self.when, self.action

    def __setstate__(self, state: Any) -> None:
        self.when, self.action = state
        self.coroutine = self.stop = None

    def cancel(self) -> None:
        """Do not ring any more."""
        if self.coroutine is not None:
            self.coroutine.alarms.pop(self, None)
        if self.stop is not None:
            self.stop()

    def ring(self) -> None:
        """Its time has come; nothing if it was cancelled."""
        if self.coroutine is not None and self.coroutine.alarms.pop(self, self) is None:
            self.action()


def set_alarm(delay: float, action: Callable[[], object]) -> Alarm:
    """Have the running coroutine's host call `action()` in `delay` seconds."""
    coroutine: Any = entered.identity
    alarm = Alarm(SYSTEM_CLOCK.now() + delay, action)
    coroutine.set_alarm(alarm)
    return alarm
