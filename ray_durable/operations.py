"""What a coroutine can ask for at a yield point: plain requests, carried out by the runner and its host.

A request is data: it is pickled with the frames that wait for it, so that another host can carry it out again. Times
in requests are points on the wall clock, so that a sleep keeps its end through a move. Outside a coroutine each
operation does what its ordinary namesake does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from typing import Any

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable, suspend_at_back_edges, suspends
from ray_durable.running import entered, is_inside

__all__ = [
    "Emit",
    "Pause",
    "Receive",
    "Request",
    "Sleep",
    "Suspended",
    "install",
    "receive",
    "sleep",
    "suspend",
    "yield_point",
]


class Request:
    """Base of all requests. What answers one is sent into the coroutine as the value of its yield.

    A request is pickled with every checkpoint, so each says by `__reduce__` how: a dataclass's own way costs 3 µs."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({values})"

    def __reduce__(self) -> Any:
        return type(self), tuple([getattr(self, name) for name in self.__slots__])


class Pause(Request):
    """Go on as soon as this yield's checkpoint is durable. There is one, `PAUSE`."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "PAUSE"


PAUSE = Pause()
ONE_PAUSE = (PAUSE,)


class Sleep(Request):
    """Go on at `until` (seconds since the epoch) with `result`."""

    __slots__ = ("until", "result")  # noqa: RUF023 - the order of the arguments

    def __init__(self, until: float, result: Any = None) -> None:
        self.until = until
        self.result = result


class Receive(Request):
    """Go on with the next message under `topic`; with TimeoutError at `until`, when that is given."""

    __slots__ = ("topic", "until")

    def __init__(self, topic: str, until: float | None = None) -> None:
        self.topic = topic
        self.until = until


class Emit(Request):
    """Hand `value` to whoever reads this coroutine's stream; go on when it is durable."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


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


def pausing() -> Iterator[Request]:
    """The twin of `yield_point`: what code delegates to there. An iterator, as a checkpoint then has one frame less."""
    return iter(ONE_PAUSE if entered.identity is not None else ())  # else an `async def` on an ordinary event loop


@durable
def suspended_sleep(seconds: float) -> Generator[Request, Any, None]:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if entered.identity is None:
        time.sleep(seconds)  # itself: nothing is replaced in a generator that code delegates to
    else:
        yield Sleep(SYSTEM_CLOCK.now() + seconds) if seconds else PAUSE


def native_sleep(delay: float, result: Any) -> Any:
    """`asyncio.sleep` itself: in durable code that name means ours."""
    return asyncio.sleep(delay, result)


@durable
async def sleep(delay: float, result: Any = None) -> Any:
    """Suspend the coroutine for `delay` seconds, and return `result`. No thread, no timer on a dead node: it ends on
    time wherever the coroutine lives by then. Stands in for `asyncio.sleep` inside durable code."""
    if not is_inside():
        return await native_sleep(delay, result)
    if delay > 0:
        return await Suspended(Sleep(SYSTEM_CLOCK.now() + delay, result))
    await Suspended(PAUSE)
    return result


async def async_yield_point() -> None:
    """`yield_point` for `async def` functions."""
    if is_inside():
        await Suspended(PAUSE)


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


def install() -> None:
    """Make durable code suspend where it calls the ordinary operations. Hosts and harnesses call this once."""
    from ray_durable import concurrency, steps

    concurrency.install()
    steps.install()
    suspend_at_back_edges(pausing)
    suspends(time.sleep, suspended_sleep)
    suspends(asyncio.sleep, suspended_sleep, sleep)
    suspends(yield_point, pausing, awaited=async_yield_point)
    suspends(receive, suspended_receive, receive)
