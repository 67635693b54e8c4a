"""Functions whose suspensions are all captured and restored: what the conformance runner puts in the place of a
package's own generator and async functions.

`renewing(function)` gives a function of the same kind. What it makes is a native generator (coroutine, async
generator) too, which drives a durable one and, each time that suspends, replaces it by `restore(capture(it))` and
discards the original. Values go by reference, so nothing needs to be picklable. The driver is itself durable, so a
renewed object may delegate to another renewed one.

Each function, and each suspension that could not be renewed, is counted in `COUNTS`, with the reason.
"""

from __future__ import annotations

import collections
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any

from ray_durable.compiler import capture, compiled_of, discard, durable, restore
from ray_durable.errors import CaptureError, CompileError

CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
COUNTS: collections.Counter[str] = collections.Counter()


def renewing(function: Any) -> Any:
    """A function of the kind of `function`, all of whose suspensions are captured and restored.

    One that cannot be compiled stays as it is, and is counted as "refused: …"."""
    if not isinstance(function, types.FunctionType):
        return function
    flags = function.__code__.co_flags
    kind = next((kind for kind in DRIVERS if flags & kind), None)
    if kind is None:
        return function
    try:
        made = durable(function)
    except CompileError as error:
        COUNTS[f"refused: {error.reason}"] += 1
        return function
    COUNTS["functions"] += 1
    return of_kind(made, kind, DRIVERS[kind])


def of_kind(made: types.FunctionType, kind: int, driver: Callable[[Any], Any]) -> types.FunctionType:
    """A plain function that calls `made` and hands the object to `driver`, but looks like one of `made`'s kind."""
    give_up = partial(discard, deep=False)
    drive_iterable_coroutine: Callable[[Any], Any] = driven_natively
    CO_ITERABLE_COROUTINE = inspect.CO_ITERABLE_COROUTINE

    def call(*args: Any, **kwargs: Any) -> Any:
        suspended = made(*args, **kwargs)
        give_up(suspended)  # its driver answers for it: dropped, it must neither run nor warn a second time
        iterable = found.__code__.co_flags & CO_ITERABLE_COROUTINE  # by `types.coroutine`, later
        driven = (drive_iterable_coroutine if iterable else driver)(suspended)
        driven.__name__, driven.__qualname__ = suspended.__name__, suspended.__qualname__
        return driven

    # `inspect` tells kinds by these flags, and modules by the globals; CPython itself goes by the opcodes
    code = call.__code__.replace(co_flags=call.__code__.co_flags | kind, co_name=made.__name__)
    found = types.FunctionType(code, made.__globals__, made.__name__, None, call.__closure__)
    found.__defaults__, found.__kwdefaults__ = made.__defaults__, made.__kwdefaults__  # read by some decorators
    functools.update_wrapper(found, made)
    return found


def renewed(suspended: Any) -> Any:
    """`suspended` captured and restored, where that is possible."""
    try:
        frame = capture(suspended)
    except CaptureError as error:
        COUNTS[f"not captured: {error.reason}"] += 1
        return suspended
    if frame.evaluates_again:
        COUNTS["not captured: awaits what is not durable"] += 1
        return suspended
    found = restore(frame)
    for each in (suspended, found):  # the values live on; and `found` is its driver's to close
        discard(each, deep=False)
    COUNTS["renewed"] += 1
    return found


@durable
def drive_generator(suspended: Any) -> Generator[Any, Any, Any]:
    """Drives a generator, or the steps of a coroutine, renewing it at each suspension."""
    thrown: BaseException | None
    try:
        item = suspended.send(None)
    except StopIteration as stop:
        return stop.value
    while True:
        suspended = renewed(suspended)
        try:
            sent = yield item
        except GeneratorExit:
            suspended.close()
            raise
        except BaseException as error:
            sent, thrown = None, error
        else:
            thrown = None
        try:
            item = suspended.send(sent) if thrown is None else suspended.throw(thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            thrown = None


driven_natively = types.coroutine(compiled_of(drive_generator).original)  # type: ignore[union-attr]


class Steps:
    """Awaits a coroutine by driving it."""

    def __init__(self, suspended: Any) -> None:
        self.suspended = suspended

    def __await__(self) -> Generator[Any, Any, Any]:
        return drive_generator(self.suspended)


@durable
async def drive_coroutine(suspended: Any) -> Any:
    return await Steps(suspended)


@durable
async def drive_async_generator(suspended: Any) -> AsyncGenerator[Any, Any]:
    """Drives an async generator, renewing it at each `yield`; what it awaits is awaited natively."""
    thrown: BaseException | None
    try:
        item = await suspended.asend(None)
    except StopAsyncIteration:
        return
    while True:
        suspended = renewed(suspended)
        try:
            sent = yield item
        except GeneratorExit:
            await suspended.aclose()
            raise
        except BaseException as error:
            sent, thrown = None, error
        else:
            thrown = None
        try:
            item = await (suspended.asend(sent) if thrown is None else suspended.athrow(thrown))
        except StopAsyncIteration:
            return
        finally:
            thrown = None


DRIVERS: dict[int, Callable[[Any], Any]] = {
    CO_ASYNC_GENERATOR: drive_async_generator,
    CO_COROUTINE: drive_coroutine,
    CO_GENERATOR: drive_generator,
}
