"""`@ray_durable.remote`: a durable function that can be started on the cluster, and what starting it gives back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar, overload

from ray_durable.actors.transfer import STREAMING
from ray_durable.compiler import durable, suspends
from ray_durable.connection import connected
from ray_durable.errors import OptionError
from ray_durable.options import check_options
from ray_durable.running import is_inside
from ray_durable.senders import numbered

__all__ = ["DurableStream", "Starter", "remote", "stream_of"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def remote(function: F, /) -> F: ...


@overload
def remote(**options: Any) -> Callable[[F], F]: ...


def remote(function: Any = None, /, **options: Any) -> Any:
    """Make a function durable: `fn.remote(...)` runs it on the cluster as a coroutine that survives the death of its
    node; `fn(...)` runs it here and now, as an ordinary function of the same kind.

    Options bear Ray's names and meanings: `num_cpus`, `num_gpus`, `memory`, `resources`, `label_selector`,
    `scheduling_strategy`, `runtime_env`, `name`, `namespace`, `get_if_exists`, `max_retries`, `retry_exceptions`.
    Ours: `checkpoint_every` (seconds between checkpoints of a loop that never yields), `keep_history` (keep every
    checkpoint, for `ray-durable history --all`). A coroutine that asks for no resources shares a host with others.
    Raises: CompileError for code that cannot be made durable, OptionError for an option that is unknown or cannot be.
    Example:
        @ray_durable.remote
        def nightly(urls):
            pages = ray.get([fetch.remote(url) for url in urls])
            time.sleep(3600)
            return ray.get(index.remote(pages))

        ref = nightly.options(name="nightly").remote(urls)"""
    check_options(options)
    if function is None:
        return functools.partial(make_remote, options=options)
    return make_remote(function, options)


def make_remote(function: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(function) or not callable(function):
        raise OptionError("remote", "marks functions, not classes: for an actor use @ray.remote")
    compiled = durable(function)
    starter = Starter(compiled, options)
    compiled.remote = starter.remote
    compiled.options = starter.options
    return compiled


class Starter:
    """One durable function with options: what `fn.options(...)` returns."""

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        self.function = function
        self.given = {name: value for name, value in options.items() if value is not None}

    def options(self, **options: Any) -> Starter:
        """The same function with other options, for one start. Raises: OptionError."""
        check_options(options)
        return Starter(self.function, {**self.given, **options})

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine; returns a `ray.ObjectRef` of its result, or for a generator function a `DurableStream`.

        It has been admitted durably by the time that the ref can resolve. Arguments that are refs arrive as values.
        With `get_if_exists` the stream is that of the coroutine which has the name, as `handle.stream()` gives it.
        Raises: TypeError when the arguments do not fit, CannotSaveError, NotConnectedError."""
        from ray_durable.actors.starting import prepare, submit

        inspect.signature(self.function).bind(*args, **kwargs)
        if self.joins:
            return stream_of(connected("get_if_exists").ask("admit", *admission(self, args, kwargs)))
        client = connected(f"{self.function.__qualname__}.remote()")
        call = prepare(self.function, args, kwargs, self.given)
        ref = submit(client, call)
        return DurableStream(call.header.id, ref) if self.streams else ref

    @property
    def streams(self) -> bool:
        """Whether what it starts is read as a stream."""
        return self.function.__durable__.kind in STREAMING

    @property
    def joins(self) -> bool:
        """Whether the stream may be that of a coroutine which is there already: only the controller knows its id."""
        return self.streams and self.given.get("name") is not None and bool(self.given.get("get_if_exists"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"call {self.function.__qualname__}(...) to run it here, or "
            f"{self.function.__qualname__}.options(...).remote(...) to start it on the cluster"
        )


def native_remote(starter: Starter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`starter.remote` itself: in durable code that name means the one below."""
    return starter.remote(*args, **kwargs)


@durable
def suspended_remote(starter: Starter, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
    """`Starter.remote` inside a coroutine, which waits suspended for arguments that are refs, and for refs of its own
    deep in them: this host may die, so others cannot borrow them."""
    from ray_durable.actors.borrowing import StillPending
    from ray_durable.actors.client import suspended_ask
    from ray_durable.actors.refs import Fetch
    from ray_durable.actors.starting import values_of

    args, kwargs = yield from values_of(args, kwargs)
    while True:
        try:
            if not starter.joins:
                return native_remote(starter, args, kwargs)
            admitted = admission(starter, args, kwargs)
            break
        except StillPending as pending:
            request = Fetch([pending.ref])
        yield request
    id = yield from suspended_ask(connected("get_if_exists"), "admit", *admitted)
    index = yield from suspended_ask(connected("get_if_exists"), "oldest_item", id)
    return stream_from(id, index)


def admission(starter: Starter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """What the controller is asked with to start a coroutine, or to find the one that has its name.

    Nobody would hold refs for it that are pending deep in the arguments: waits for them. Raises: StillPending, where
    that would block a host."""
    import ray

    from ray_durable.actors.borrowing import StillPending
    from ray_durable.actors.starting import prepare

    call = prepare(starter.function, args, kwargs, starter.given)
    while call.lent:
        if is_inside():
            raise StillPending(call.lent[0])
        ray.wait(list(call.lent), num_returns=len(call.lent))
        call = prepare(starter.function, args, kwargs, starter.given)
    return call.header.to_json(), call.state, call.get_if_exists


suspends(Starter.remote, suspended_remote)


@durable
def stream_of(id: str) -> DurableStream:
    """The stream of a coroutine that is there already, from the oldest value that is kept."""
    return stream_from(id, connected("a durable stream").ask("oldest_item", id))


def stream_from(id: str, index: int) -> DurableStream:
    return DurableStream(id, connected("a durable stream").submit("wait", id), index)


class DurableStream:
    """The values that a durable generator yields, as refs, in order, each exactly once; like `ray.ObjectRefGenerator`.

    Iterating waits until the next value is durable. It can be pickled, and goes on from where it was."""

    def __init__(self, id: str, result: Any, index: int = 0) -> None:
        self.id = id
        self.result = result
        self.index = index

    def completed(self) -> Any:
        """A ref of the generator's return value."""
        return self.result

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        import ray

        if is_inside():
            raise RuntimeError(
                "waiting here would block this coroutine's host: read a stream in an async durable function, by "
                "`async for`"
            )
        found, ref = connected("a durable stream").submit("next_item", self.id, self.index, num_returns=2)
        if ray.get(found):
            self.index += 1
            return ref
        raise StopIteration

    def send(self, value: Any) -> Any:
        """Send `value` in as the result of the generator's current or next `yield`; returns the next ref."""
        from ray_durable.actors.starting import send_in

        send_in(connected("send"), self.id, *numbered(), value)
        return next(self)

    def __aiter__(self) -> DurableStream:
        return self

    async def __anext__(self) -> Any:
        found, ref = connected("a durable stream").submit("next_item", self.id, self.index, num_returns=2)
        if await found:
            self.index += 1
            return ref
        raise StopAsyncIteration
