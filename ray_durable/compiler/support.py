"""What compiled code calls at run time. `HELPERS` are put into its constants by name (`passes.emit`)."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Generator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from ray_durable.compiler import stopping
from ray_durable.compiler.backedges import BackEdge, back_edge, back_edge_async
from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.iterators import loop_iter, steps_of
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
from ray_durable.compiler.unit import CO_ITERABLE_COROUTINE

Saved = tuple[BaseException, Any, Any, Any, Any]


class Resumed:
    """A manager that was entered before the capture: entering it again does nothing, leaving it leaves it."""

    __slots__ = ("__exit__",)  # the manager's own method, so that no frame of ours is in a traceback

    def __init__(self, manager: Any) -> None:
        self.__exit__ = special(manager, "__exit__")

    def __enter__(self) -> None:
        return None


def special(owner: Any, name: str) -> Any:
    """The method that CPython calls in a statement: looked for on the type alone, and bound if it can be. One that is
    None is there, and fails when it is called; UNBOUND where there is none."""
    kind = type(owner)
    for base in kind.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            bind = getattr(type(found), "__get__", None)
            return found if bind is None else bind(found, owner, kind)
    return UNBOUND


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
        if traceback is not None:  # else it was lost in a pickle: the way from here on is the best there is
            error.__traceback__ = traceback


def catches(error: BaseException, kind: Any) -> bool:
    """Whether `except kind` takes an exception."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for each in kinds:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError("catching classes that do not inherit from BaseException is not allowed")
    return any(base is each for base in type(error).__mro__ for each in kinds)


def forward_iterator(iterator: Any) -> Generator[Any, Any, Any]:
    """`yield from iterator` for a resumed frame: the first step only starts it, and takes nothing."""
    item: Any = None
    while True:
        try:
            sent = yield item
        except GeneratorExit:
            close_natively(iterator)
            raise
        except BaseException as error:
            throw = getattr(iterator, "throw", None)
            if throw is None:
                raise
            step = partial(throw, error)
        else:
            if sent is None:
                return (yield from steps_of(iterator))
            step = partial(iterator.send, sent)
        try:
            item = step()
        except StopIteration as stop:
            return stop.value


class Delegate:
    """Gives an iterator one more step, before its first, so that a generator stands in a `yield from` of it."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __iter__(self) -> Delegate:
        return self

    def __next__(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.iterator, name)


def delegating(iterator: Any) -> Generator[Any, Any, Any]:
    return (yield from Delegate(iterator))


def close_natively(iterator: Any) -> None:
    """What closing a generator does with the iterator that it delegates to: its `close` need not exist, and an error in
    looking for it goes to `sys.unraisablehook`."""
    standing = delegating(iterator)
    next(standing)
    standing.close()


def forward_group(saved: Saved | None) -> None:
    """`forward`, for the clause of an `except*`: the part of the group that it handles was split off just now, and so
    was the rest, which is out of reach. Both are known as parts by having the group's own traceback, so that stays as
    it is now."""
    current = sys.exception()
    if saved is None or current is None or current is saved[0] or not isinstance(current, type(saved[0])):
        forward(saved)
        return
    forward((saved[0], None, *saved[2:]))
    current.__context__ = saved[3]


def forward_clause(saved: Saved, group: Saved) -> None:
    """`forward`, for what a clause of an `except*` raised before. A part of the group that it had raised again is known
    by having the group's own traceback, cause and context, so it gets today's."""
    forward(saved)
    if all(one is other for one, other in zip(saved[1:4], group[1:4], strict=True)):
        whole = {id(leaf) for leaf in leaves(group[0])}
        if all(id(leaf) in whole for leaf in leaves(saved[0])):
            saved[0].__traceback__ = group[0].__traceback__


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group and the groups within it; a bare exception itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


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
    make = special(iterable, "__aiter__")
    if make is UNBOUND:
        raise TypeError(f"'async for' requires an object with __aiter__ method, got {kind.__name__}")
    iterator = make()
    if getattr(type(iterator), "__anext__", None) is None:
        raise TypeError(
            "'async for' received an object from __aiter__ that does not implement __anext__: "
            f"{type(iterator).__name__}"
        )
    return delegate(iterator) if type(iterator) is AsyncGeneratorType else iterator


def next_of(iterator: Any) -> Any:
    """The awaitable of an async iterator's next step, `ready` to be awaited."""
    step = anext(iterator)
    if type(iterator) is AsyncGeneratorType:
        return step
    try:
        found = ready(step)
        if type(found) is Awaited:
            if not hasattr(type(found.generator), "__next__"):
                raise TypeError(f"__await__() returned non-iterator of type '{type(found.generator).__name__}'")
        elif not is_awaitable(found):
            raise TypeError(f"object {type(found).__name__} can't be used in 'await' expression")
    except BaseException as error:
        raise TypeError(f"'async for' received an invalid object from __anext__: {type(step).__name__}") from error
    return found


def is_awaitable(value: Any) -> bool:
    """Whether `await value` can begin: CPython looks for `__await__` on the type."""
    if type(value) is GeneratorType:
        return bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)
    return hasattr(type(value), "__await__")


class AsyncSteps:
    """Lets `async for` step through an iterator by `next_of`."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __aiter__(self) -> AsyncSteps:
        return self

    def __anext__(self) -> Any:
        return next_of(self.iterator)


def async_steps(iterator: Any) -> Any:
    """What an `async for` runs through: what `async_iter` gave it, or `no_items`."""
    return iterator if type(iterator) is AsyncGeneratorType else AsyncSteps(iterator)


class NoItems:
    """An async iterator at its end."""

    def __aiter__(self) -> NoItems:
        return self

    def __anext__(self) -> Any:
        raise StopAsyncIteration


class AsyncManager:
    """Lets `async with` enter and leave a manager, whose awaitables it finds `ready`."""

    __slots__ = ("manager",)

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def __aenter__(self) -> Any:
        return ready_if_awaitable(special(self.manager, "__aenter__")())

    def __aexit__(self, *error: Any) -> Any:
        return ready_if_awaitable(special(self.manager, "__aexit__")(*error))


class AsyncResumed(AsyncManager):
    """The same for a manager that was entered before the capture, or (`half_way`) whose entry was under way: what it
    awaited then is in `delegate`, and if not, it is asked for again; likewise what its exit awaited."""

    __slots__ = ("delegate", "half_way")

    def __init__(self, manager: Any, delegate: list[Any], half_way: bool) -> None:
        super().__init__(manager)
        self.delegate, self.half_way = delegate, half_way

    def __aenter__(self) -> Any:
        if not self.half_way:
            return Awaited(iter(()))
        return self.delegate.pop() if self.delegate else super().__aenter__()

    def __aexit__(self, *error: Any) -> Any:
        return self.delegate.pop() if self.delegate else super().__aexit__(*error)


def async_manager(manager: Any) -> AsyncManager:
    """What `async with` enters; both methods must exist before either is called."""
    enter, leave = special(manager, "__aenter__"), special(manager, "__aexit__")
    if enter is UNBOUND or leave is UNBOUND:
        message = f"'{type(manager).__name__}' object does not support the asynchronous context manager protocol"
        raise TypeError(message + ("" if enter is UNBOUND else " (missed __aexit__ method)"))
    return AsyncManager(manager)


def ready_if_awaitable(found: Any) -> Any:
    """What a method of an async manager gave; CPython refuses what cannot be awaited."""
    return ready(found) if type(found) is CoroutineType or is_awaitable(found) else found


def users(variables: Any, prefix: str) -> Any:
    """The user's part of what `locals()`, `vars()` or `dir()` gave."""
    if isinstance(variables, dict):
        return {name: value for name, value in variables.items() if not is_ours(name, prefix)}
    return [name for name in variables if not is_ours(name, prefix)]


HELPERS: dict[str, Callable[..., Any] | Any] = {
    "AssertionError": AssertionError,
    "BackEdge": BackEdge,
    "BaseException": BaseException,
    "StopAsyncIteration": StopAsyncIteration,
    "RuntimeError": RuntimeError,
    "UNBOUND": UNBOUND,
    "again": stopping.OVER.throw,
    "ascii": ascii,
    "async_iter": async_iter,
    "async_manager": async_manager,
    "async_resumed": AsyncResumed,
    "async_steps": async_steps,
    "back": back,
    "back_edge": back_edge,
    "back_edge_async": back_edge_async,
    "catches": catches,
    "closure": operator.attrgetter("__closure__"),  # so that no name of ours is among those of the function
    "delegate": delegate,
    "exception": sys.exception,
    "forward": forward,
    "forward_clause": forward_clause,
    "forward_group": forward_group,
    "list": list,
    "loop_iter": loop_iter,
    "manager": manager,
    "method_site": method_site,
    "method_site_async": method_site_async,
    "next_of": next_of,
    "no_items": NoItems(),
    "ready": ready,
    "replaced": replaced,
    "repr": repr,
    "resumed": Resumed,
    "slice": slice,
    "stop": stopping.stop,
    "stopped": stopping.stopped,
    "str": str,
    "suspending": suspending,
    "suspending_async": suspending_async,
    "type": type,
    "users": users,
}
