"""`step`: an effect on the outside that is not repeated once its outcome is durable."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ray_durable.compiler import durable, suspends
from ray_durable.compiler.decoration import compiled_of
from ray_durable.operations import PAUSE, Request, Suspended
from ray_durable.running import is_inside

__all__ = ["install", "step", "steps_of"]

CALLS: dict[type, Callable[..., Any]] = {}


def steps_of(kind: type, call: Callable[..., Any]) -> None:
    """Have `step` run callables of this type by `call(function, *args, **kwargs)`, a durable plain function."""
    CALLS[kind] = call


def step(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run `function(*args, **kwargs)` (an ordinary function, or a Ray task, whose value is awaited), make its outcome
    durable, and return it; an exception is kept and raised in the same way.

    Once kept it is never run again, also after a crash; a crash before that runs it again, with the same
    `ray_durable.current().derive(…)`: that is the idempotency key for the effect. In `async def` code write
    `await ray_durable.step(…)`; `function` may be `async` there. Outside a coroutine it is just called.
    Example: receipt = ray_durable.step(charge, order)"""
    return called(function)(*args, **kwargs)


def called(function: Any) -> Callable[..., Any]:
    """How `function` is called here: itself, but for a Ray task."""
    call = None if compiled_of(function) is not None else CALLS.get(type(function))
    if call is None:
        found: Callable[..., Any] = function
        return found
    made: Callable[..., Any] = StepCall(call, function)
    return made


class StepCall:
    """`call(function, …)`, durable where `call` is."""

    __slots__ = ("call", "function")

    def __init__(self, call: Callable[..., Any], function: Any) -> None:
        self.call = call
        self.function = function

    @durable
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.function, *args, **kwargs)


@durable
def suspended_step(function: Any, /, *args: Any, **kwargs: Any) -> Generator[Request, Any, Any]:
    run = called(function)
    error = result = None
    try:
        result = run(*args, **kwargs)
    except Exception as raised:
        error = raised
    del run, function, args, kwargs
    if is_inside():
        yield PAUSE
    if error is not None:
        raise error
    return result


@durable
async def async_step(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    run = called(function)
    error = result = None
    try:
        result = run(*args, **kwargs)
        if hasattr(result, "__await__"):
            result = await result
    except Exception as raised:
        error = raised
    del run, function, args, kwargs
    if is_inside():
        await Suspended(PAUSE)
    if error is not None:
        raise error
    return result


def install() -> None:
    """Make durable code suspend at `step`."""
    suspends(step, suspended_step, async_step)
