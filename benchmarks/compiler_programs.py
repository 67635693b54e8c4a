# ruff: noqa: UP028  # the loops are what is timed
"""The programs that `compiler.py` times, made durable by us or, with BENCHMARK_PEER=dispatch, by dispatch-py.

They stand in a module of their own, so that pickles name them as any user's function is named.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import coroutine
from typing import Any

if os.environ.get("BENCHMARK_PEER") == "dispatch":
    from dispatch.experimental.durable import durable
else:
    from ray_durable.compiler import durable

PLAIN: dict[str, Callable[..., Any]] = {}
Steps = Generator[int, None, int]


def program(function: Callable[..., Any]) -> Any:
    """The durable function; the plain one is kept beside it, to be timed in turns."""
    PLAIN[function.__name__] = function
    return durable(function)


@program
def small_loop(n: int) -> Iterator[int]:
    for i in range(n):
        yield i


@program
def numeric(n: int) -> float:
    total, sign = 0.0, 1.0
    for i in range(n):
        total += sign / (2 * i + 1)
        sign = -sign
    return total


@program
def counting(n: int) -> int:
    total = i = 0
    while i < n:
        total += i * i
        i += 1
    return total


@program
def ten_yield_from(depth: int, n: int, this: Any) -> Steps:
    if depth:
        return (yield from this(depth - 1, n, this))
    for i in range(n):
        yield i
    return n


@coroutine
def pause() -> Generator[None, None, None]:
    yield


class Pauses:
    """Awaitable that suspends `n` times, natively: what is timed are the frames above."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __await__(self) -> Iterator[None]:
        return iter([None] * self.n)


@program
async def ten_await(depth: int, leaf: Awaitable[None], this: Any) -> int:
    if depth:
        found: int = await this(depth - 1, leaf, this)
        return found
    await leaf
    return 1


@program
def eight_locals(a: int, b: int, c: int, d: int) -> Iterator[int]:
    e = a + b
    f = "name"
    g = [c, d]
    for i in range(100):
        yield i
    print(e, f, g)


@program
def ten_deep(depth: int) -> Steps:
    if depth:
        found = yield from ten_deep(depth - 1)
        return found + 1
    for i in range(100):
        yield i
    return 0
