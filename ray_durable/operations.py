"""What a coroutine can ask for at a yield point: plain requests, carried out by the runner and its host.

A request is data: it is pickled with the frames that wait for it, so that another host can carry it out again. Times
in requests are points on the wall clock, so that a sleep keeps its end through a move. Outside a coroutine each
operation does what its ordinary namesake does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable, suspends
from ray_durable.running import is_inside

__all__ = [
    "Emit",
    "Join",
    "Pause",
    "Receive",
    "Request",
    "Sleep",
    "Spawn",
    "Suspended",
    "gather",
    "install",
    "receive",
    "sleep",
    "suspend",
    "yield_point",
]


class Request:
    """Base of all requests. What answers one is sent into the coroutine as the value of its yield."""

    __slots__ = ()


@dataclass(slots=True)
class Pause(Request):
    """Go on as soon as this yield's checkpoint is durable."""


@dataclass(slots=True)
class Sleep(Request):
    """Go on at `until` (seconds since the epoch) with `result`."""

    until: float
    result: Any = None


@dataclass(slots=True)
class Receive(Request):
    """Go on with the next message under `topic`; with TimeoutError at `until`, when that is given."""

    topic: str
    until: float | None = None


@dataclass(slots=True)
class Emit(Request):
    """Hand `value` to whoever reads this coroutine's stream; go on when it is durable."""

    value: Any


@dataclass(slots=True)
class Spawn(Request):
    """Run `roots` (suspended or un-started durable objects) beside the caller, as branches of the same coroutine.

    Answered at once, without a checkpoint, with the branches' numbers."""

    roots: list[Any]


@dataclass(slots=True)
class Join(Request):
    """Go on when all `branches` are done, or, unless `keep_errors`, as soon as one has failed.

    The answer is their outcomes in order: `(True, value)` or `(False, exception)`, None for one not done."""

    branches: list[int]
    keep_errors: bool = False


@durable
def suspend(request: Request) -> Generator[Request, Any, Any]:
    """The innermost frame of every suspended coroutine: hands `request` to the runner, returns its answer."""
    return (yield request)


class Suspended:
    """An awaitable that suspends the coroutine with `request`."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def __await__(self) -> Generator[Request, Any, Any]:
        return suspend(self.request)


# ---------------------------------------------------------------- sleep and yield points


def yield_point() -> None:
    """A yield point: the coroutine's state is made durable here. Outside a coroutine it does nothing.

    Example: for batch in batches: train(batch); ray_durable.yield_point()"""


@durable
def suspended_yield_point() -> Generator[Request, Any, None]:
    yield Pause()


@durable
def suspended_sleep(seconds: float) -> Generator[Request, Any, None]:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    yield Sleep(SYSTEM_CLOCK.now() + seconds) if seconds else Pause()


@durable
async def sleep(delay: float, result: Any = None) -> Any:
    """Suspend the coroutine for `delay` seconds, and return `result`. No thread, no timer on a dead node: it ends on
    time wherever the coroutine lives by then. Stands in for `asyncio.sleep` inside durable code."""
    if not is_inside():
        return await asyncio.sleep(delay, result)
    return await Suspended(Sleep(SYSTEM_CLOCK.now() + delay, result) if delay > 0 else Pause())


async def async_yield_point() -> None:
    """`yield_point` for `async def` functions."""
    if is_inside():
        await Suspended(Pause())


# ---------------------------------------------------------------- messages


@durable
async def receive(topic: str = "", *, timeout_s: float | None = None) -> Any:
    """Take the next message sent to this coroutine under `topic`, suspended (no thread, no CPU) until one is there.

    Each message is taken exactly once, also across a crash. `timeout_s`: seconds from now, kept across a move; None:
    no limit. Raises: TimeoutError when none came in time; a later one waits for the next `receive`; RuntimeError
    outside a coroutine.
    Example: decision = await receive("approval", timeout_s=86_400)"""
    if not is_inside():
        raise RuntimeError("receive() waits for messages to a durable coroutine: start the function with .remote()")
    return await Suspended(Receive(topic, None if timeout_s is None else SYSTEM_CLOCK.now() + timeout_s))


@durable
def suspended_receive(topic: str = "", *, timeout_s: float | None = None) -> Generator[Request, Any, Any]:
    return (yield Receive(topic, None if timeout_s is None else SYSTEM_CLOCK.now() + timeout_s))


# ---------------------------------------------------------------- gather


@durable
async def branch_of(awaitable: Any) -> Any:
    """A durable root for an awaitable that is not a coroutine itself, such as an ObjectRef."""
    return await awaitable


@durable
async def gather(*awaitables: Any, return_exceptions: bool = False) -> list[Any]:
    """Run the awaitables (durable calls, refs) side by side and return their results in order, as `asyncio.gather`
    does: the first exception is raised at once unless `return_exceptions`, and the others go on.

    All of them belong to the calling coroutine: they are checkpointed and moved with it."""
    if not is_inside():
        return list(await asyncio.gather(*awaitables, return_exceptions=return_exceptions))
    if not awaitables:
        return []
    unique: dict[int, int] = {}
    roots: list[Any] = []
    for awaitable in awaitables:
        if id(awaitable) not in unique:
            unique[id(awaitable)] = len(roots)
            roots.append(awaitable if asyncio.iscoroutine(awaitable) else branch_of(awaitable))
    places = [unique[id(awaitable)] for awaitable in awaitables]
    del awaitable, awaitables, unique
    branches = await Suspended(Spawn(roots))
    del roots
    outcomes = await Suspended(Join(branches, return_exceptions))
    if not return_exceptions:
        for outcome in outcomes:
            if outcome is not None and not outcome[0]:
                raise outcome[1]
    return [outcomes[place][1] for place in places]


def install() -> None:
    """Make durable code suspend where it calls the ordinary operations. Hosts and harnesses call this once."""
    suspends(time.sleep, suspended_sleep, sleep)
    suspends(asyncio.sleep, suspended_sleep, sleep)
    suspends(asyncio.gather, None, gather)
    suspends(yield_point, suspended_yield_point, async_yield_point)
    suspends(receive, suspended_receive, receive)
