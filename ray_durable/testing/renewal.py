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
import contextlib
import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any

from ray_durable.compiler import capture, discard, durable, restore
from ray_durable.compiler.discard import delegates_of
from ray_durable.compiler.unit import unit_of
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
        unit_of(made.__code__).resume()  # type: ignore[union-attr]  # now, not under a test's tracer or clock
    except CompileError as error:
        COUNTS[f"refused: {error.reason}"] += 1
        return function
    COUNTS["functions"] += 1
    return of_kind(made, kind, DRIVERS[kind])


def of_kind(made: types.FunctionType, kind: int, driver: Callable[[Any], Any]) -> types.FunctionType:
    """A plain function that calls `made` and hands the object to `driver`, but looks like one of `made`'s kind."""
    let_go = partial(discard, deep=False)
    CO_ITERABLE_COROUTINE, awaitable, drive_it = inspect.CO_ITERABLE_COROUTINE, types.coroutine, drive_awaitable

    def call(*args: Any, **kwargs: Any) -> Any:
        make: Callable[..., Any] = made
        drive = driver
        if found.__code__.co_flags & CO_ITERABLE_COROUTINE:  # by `types.coroutine`, later
            make, drive = awaitable(made), drive_it
        suspended = make(*args, **kwargs)
        let_go(suspended)  # its driver answers for it: dropped, it must neither run nor warn a second time
        driven = drive(suspended)
        driven.__name__, driven.__qualname__ = found.__name__, found.__qualname__
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
    inner = list(delegates_of(suspended))[1:]
    found = without_hooks(restore, frame)
    for each in (suspended, found):  # the values live on; and `found` is its driver's to close
        discard(each, deep=False)
    give_up(inner)
    COUNTS["renewed"] += 1
    return found


def without_hooks(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call, while async generators that are started are not shown to the event loop: it knows their drivers."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return function(*arguments)
    finally:
        sys.set_asyncgen_hooks(*hooks)


class GivenUp(BaseException):
    """Ends a driver, and not what it drives."""


def give_up(inner: list[Any]) -> None:
    """End the drivers that a captured object delegated to: who else holds one finds it used up, as another goes on."""
    if inner and all(code_of(each) in DRIVING for each in inner):
        with contextlib.suppress(GivenUp):
            inner[0].throw(GivenUp())


def code_of(suspended: Any) -> types.CodeType | None:
    found: types.CodeType | None = getattr(suspended, "gi_code", None) or getattr(suspended, "cr_code", None)
    return found


class Driven:
    """A suspended object that is driven, and what goes into it next; of which, as natively, nothing is held meanwhile.

    CPython closes what a coroutine awaits before it throws GeneratorExit into the coroutine itself. So the steps of one
    end then (`left`), and begin again with that exception, which the coroutine that is driven may well survive."""

    def __init__(self, suspended: Any) -> None:
        self.suspended = suspended
        self.sent: Any = None
        self.thrown: BaseException | None = None
        self.left = False

    def taken(self, name: str) -> Any:
        value = getattr(self, name)
        setattr(self, name, None)
        return value

    def step(self) -> Any:
        if self.thrown is not None:
            return self.suspended.throw(self.taken("thrown"))
        return self.suspended.send(self.taken("sent"))

    def step_of(self, suspended: Any) -> Any:
        """The awaitable of an async generator's next step."""
        if self.thrown is not None:
            return suspended.athrow(self.taken("thrown"))
        return without_hooks(suspended.asend, self.taken("sent"))

    def __await__(self) -> Generator[Any, Any, Any]:
        return drive_steps(self)


@durable
def drive_generator(suspended: Any) -> Generator[Any, Any, Any]:
    """Drives a generator, renewing it at each suspension."""
    driven, suspended = Driven(suspended), None
    while True:
        try:
            item = driven.step()
        except StopIteration as stop:
            return stop.value
        driven.suspended = renewed(driven.suspended)
        try:
            driven.sent = yield item
        except GivenUp:
            raise
        except BaseException as error:
            driven.thrown = error
        item = None


drive_awaitable = types.coroutine(types.FunctionType(drive_generator.__code__, globals()))


@durable
def drive_steps(driven: Driven) -> Generator[Any, Any, Any]:
    """The same for the steps of a coroutine."""
    while True:
        try:
            item = driven.step()
        except StopIteration as stop:
            return stop.value
        driven.suspended = renewed(driven.suspended)
        try:
            driven.sent = yield item
        except GivenUp:
            raise
        except GeneratorExit:
            driven.left = True
            return None
        except BaseException as error:
            driven.thrown = error
        item = None


@durable
async def drive_coroutine(suspended: Any) -> Any:
    driven, suspended = Driven(suspended), None
    while True:
        try:
            return await driven
        except GeneratorExit as error:
            if not driven.left:
                raise
            driven.left, driven.thrown = False, error


@durable
async def drive_async_generator(suspended: Any) -> AsyncGenerator[Any, Any]:
    """Drives an async generator, renewing it at each `yield`; what it awaits is awaited natively."""
    driven = Driven(None)  # the generator itself is a local: a delegate, which a restore replaces there
    while True:
        try:
            item = await driven.step_of(suspended)
        except StopAsyncIteration:
            return
        suspended = renewed(suspended)
        try:
            driven.sent = yield item
        except BaseException as error:
            driven.thrown = error
        item = None


DRIVERS: dict[int, Callable[[Any], Any]] = {
    CO_ASYNC_GENERATOR: drive_async_generator,
    CO_COROUTINE: drive_coroutine,
    CO_GENERATOR: drive_generator,
}
DRIVING = frozenset(
    code
    for driver in (drive_coroutine, drive_steps, drive_generator, drive_awaitable)
    for unit in (unit_of(driver.__code__),)
    for code in (driver.__code__, unit.code, unit.resume())  # type: ignore[union-attr]
)
