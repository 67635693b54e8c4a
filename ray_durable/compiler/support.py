"""What compiled code calls at run time. `HELPERS` are put into its constants by name (`passes.emit`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from functools import partial
from types import AsyncGeneratorType, TracebackType
from typing import Any

from ray_durable.compiler.backedges import DUE, back_edge, back_edge_async
from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.iterators import loop_iter
from ray_durable.compiler.passes.names import is_ours
from ray_durable.compiler.replacements import Awaited as Awaited
from ray_durable.compiler.replacements import (
    delegate,
    manager,
    method_site,
    method_site_async,
    ready,
    replaced,
    suspending,
    suspending_async,
)

Saved = tuple[BaseException, Any, Any, Any, Any]


class Resumed:
    """A manager that was entered before the capture: entering it again does nothing, leaving it leaves it."""

    __slots__ = ("leave", "manager")

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.leave = type(manager).__exit__

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: Any) -> Any:
        return self.leave(self.manager, *exception)


def back(error: BaseException) -> Saved:
    """What raising `error` again will change on it."""
    return error, error.__traceback__, error.__cause__, error.__context__, error.__suppress_context__


def forward(saved: Saved | None) -> None:
    """Undo those changes."""
    if saved is not None:
        error, traceback, cause, context, suppress = saved
        error.__cause__ = cause
        error.__context__ = context
        error.__suppress_context__ = suppress
        error.__traceback__ = traceback


def forward_iterator(iterator: Any) -> Generator[Any, Any, Any]:
    """`yield from iterator` for a resumed frame: the first step only starts it, and takes nothing."""
    item: Any = None
    while True:
        try:
            sent = yield item
        except GeneratorExit:
            getattr(iterator, "close", lambda: None)()
            raise
        except BaseException as error:
            throw = getattr(iterator, "throw", None)
            if throw is None:
                raise
            step = partial(throw, error)
        else:
            if sent is None:
                return (yield from iterator)
            step = partial(iterator.send, sent)
        try:
            item = step()
        except StopIteration as stop:
            return stop.value


def forward_group(saved: Saved | None) -> None:
    """`forward`, for the clause of an `except*`: the part of the group that it handles was split off just now."""
    made = None if saved is None else saved[0].__traceback__
    forward(saved)
    if saved is not None and saved[0].__traceback__ is None:
        saved[0].__traceback__ = made  # CPython tells by it what a clause raises from what it raises again
    current = sys.exception()
    if saved is not None and current is not None and current is not saved[0] and isinstance(current, type(saved[0])):
        current.__context__ = saved[3]


async def closing(generator: Any) -> None:
    """The rest of an `aclose()` that was captured half-way; the exception is in the generator already."""
    try:
        await generator.__anext__()
    except (StopAsyncIteration, GeneratorExit):
        return
    raise RuntimeError("async generator ignored GeneratorExit")


def async_iter(iterable: Any) -> Any:
    """What `async for x in iterable` steps through."""
    kind = type(iterable)
    make = getattr(kind, "__aiter__", None)
    if make is None:
        raise TypeError(f"'async for' requires an object with __aiter__ method, got {kind.__name__}")
    iterator = make(iterable)
    if getattr(type(iterator), "__anext__", None) is None:
        raise TypeError(
            "'async for' received an object from __aiter__ that does not implement __anext__: "
            f"{type(iterator).__name__}"
        )
    return delegate(iterator) if type(iterator) is AsyncGeneratorType else iterator


def next_of(iterator: Any) -> Any:
    """The awaitable of an async iterator's next step."""
    return type(iterator).__anext__(iterator)


def enter_async(entered: Any) -> Any:
    """The awaitable of `__aenter__`; both methods must exist before either is called."""
    kind = type(entered)
    for name in ("__aenter__", "__aexit__"):
        if not hasattr(kind, name):
            message = f"'{kind.__name__}' object does not support the asynchronous context manager protocol"
            raise TypeError(message + (" (missed __aexit__ method)" if name == "__aexit__" else ""))
    return kind.__aenter__(entered)


def leave_async(entered: Any, error: BaseException | None) -> Any:
    """The awaitable of `__aexit__`."""
    if error is None:
        return type(entered).__aexit__(entered, None, None, None)
    traceback: TracebackType | None = error.__traceback__
    return type(entered).__aexit__(entered, type(error), error, traceback)


def users(variables: Any, prefix: str) -> Any:
    """The user's part of what `locals()`, `vars()` or `dir()` gave."""
    if isinstance(variables, dict):
        return {name: value for name, value in variables.items() if not is_ours(name, prefix)}
    return [name for name in variables if not is_ours(name, prefix)]


HELPERS: dict[str, Callable[..., Any] | Any] = {
    "AssertionError": AssertionError,
    "BaseException": BaseException,
    "StopAsyncIteration": StopAsyncIteration,
    "UNBOUND": UNBOUND,
    "ascii": ascii,
    "async_iter": async_iter,
    "back": back,
    "back_edge": back_edge,
    "back_edge_async": back_edge_async,
    "delegate": delegate,
    "due": DUE,
    "enter_async": enter_async,
    "exception": sys.exception,
    "forward": forward,
    "forward_group": forward_group,
    "leave_async": leave_async,
    "list": list,
    "loop_iter": loop_iter,
    "manager": manager,
    "method_site": method_site,
    "method_site_async": method_site_async,
    "next_of": next_of,
    "ready": ready,
    "replaced": replaced,
    "repr": repr,
    "resumed": Resumed,
    "slice": slice,
    "str": str,
    "suspending": suspending,
    "suspending_async": suspending_async,
    "type": type,
    "users": users,
}
