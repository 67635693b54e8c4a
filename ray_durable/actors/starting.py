"""From a call to an admission: the request that a client sends, and how a coroutine's own starts stay the same when it
runs them again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_durable.actors.arranging import SENT
from ray_durable.actors.borrowing import StillPending
from ray_durable.actors.dealing import dealing
from ray_durable.actors.refs import Fetch
from ray_durable.actors.transfer import Demands, Header
from ray_durable.checkpoint.codec import dumps, dumps_given, loads
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable
from ray_durable.errors import CannotSaveError
from ray_durable.running import entered, is_inside

__all__ = ["Request", "prepare", "send_in", "submit", "values_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be admitted: the header, the pickled call (or a ref of it), and how to treat a name that is taken.

    `lent`: pending refs deep in the arguments, which somebody must hold until the coroutine has their values."""

    header: Header
    state: Any
    get_if_exists: bool = False
    lent: tuple[Any, ...] = ()


def demands_of(options: Mapping[str, Any]) -> Demands:
    """What the options, which have been checked, ask of a place."""
    strategy = options.get("scheduling_strategy")
    place: dict[str, Any] = {}
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        node_id = strategy.node_id
        place = {"node_id": node_id if isinstance(node_id, str) else node_id.hex(), "soft": bool(strategy.soft)}
    elif strategy == "SPREAD":
        place = {"spread": True}
    return Demands(
        num_cpus=options.get("num_cpus", 0),
        num_gpus=options.get("num_gpus", 0),
        memory=options.get("memory", 0),
        resources=dict(options.get("resources", {})),
        label_selector=dict(options.get("label_selector", {})),
        runtime_env=options.get("runtime_env") or None,
        **place,
    )


def retries_of(options: Mapping[str, Any]) -> int:
    """As in Ray: 3 unless given, and only with `retry_exceptions`; -1 means without end."""
    wanted: int = options.get("max_retries", 3)
    return wanted if options.get("retry_exceptions") else 0


def retried_exceptions(options: Mapping[str, Any]) -> bool | list[str]:
    """As in Ray: all, none, or those of the classes in a list."""
    given: Any = options.get("retry_exceptions", False)
    return given if isinstance(given, bool) else [f"{kind.__module__}.{kind.__qualname__}" for kind in given]


def prepare(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]) -> Request:
    """Pickle the call; the options have been checked.

    Refs among its arguments are replaced by their values, elsewhere and later: nobody waits here, except for a
    stream's, which would be asked for values before it is there. Those deep in its arguments stay refs.

    Raises: CannotSaveError; RuntimeError for refs in ordinary code that a coroutine calls; StillPending."""
    if is_inside() and refs_among(args, kwargs):
        raise RuntimeError(
            "waiting for an argument that is a ref would block this coroutine's host: call .remote() in the durable "
            "function itself, or pass the value"
        )
    inside = entered.identity
    compiled = function.__durable__
    header = Header(
        id=inside.derive("start") if inside is not None else SYSTEM_CLOCK.unique(),
        function=f"{compiled.source.module}.{compiled.source.qualname}",
        name=options.get("name"),
        namespace=options.get("namespace", "default"),
        kind=compiled.kind,
        max_retries=retries_of(options),
        retry_exceptions=retried_exceptions(options),
        checkpoint_every_s=options.get("checkpoint_every"),
        keep_history=options.get("keep_history", False),
        unread_max=options.get("_generator_backpressure_num_objects", -1),
        created=SYSTEM_CLOCK.now(),
        parent=inside.id if inside is not None else None,
        demands=demands_of(options),
    )
    refs = refs_among(args, kwargs)
    values = ray.get(refs) if refs and header.streams else [None] * len(refs)
    dealing.met = {}
    state: Any = packed_call(function, *with_values(args, kwargs, values))
    met, dealing.met = dealing.met, {}
    lent = tuple(call.made for call, _ in met.values() if call.kind == "borrowed")
    if refs and not header.streams:
        state = binding().remote(state, places_of_refs(args, kwargs), *refs)
    return Request(header, state, options.get("get_if_exists", False), lent)


def refs_among(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that are refs."""
    return [arg for arg in (*args, *kwargs.values()) if isinstance(arg, ray.ObjectRef)]


def with_values(args: tuple[Any, ...], kwargs: Mapping[str, Any], values: list[Any]) -> Any:
    """The arguments with `values` in the place of the refs among them, in order."""
    rest = iter(values)
    filled = tuple(next(rest) if isinstance(arg, ray.ObjectRef) else arg for arg in args)
    return filled, {name: next(rest) if isinstance(arg, ray.ObjectRef) else arg for name, arg in kwargs.items()}


def places_of_refs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int | str]:
    """Where the refs are among the arguments: positions and names."""
    given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    return [at for at, arg in given if isinstance(arg, ray.ObjectRef)]


@functools.cache
def binding() -> Any:
    return ray.remote(num_cpus=0)(bound)


def bound(state: bytes, places: list[int | str], *values: Any) -> bytes:
    """A pickled call with the values of its refs, in a task, for whose arguments Ray waits."""
    function, args, kwargs = loads(state)
    given = dict(zip(places, values, strict=True))
    args = tuple(given.get(at, arg) for at, arg in enumerate(args))
    return packed_call(function, args, {name: given.get(name, arg) for name, arg in kwargs.items()})


def packed_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Raises: CannotSaveError, naming the parameter; StillPending."""
    try:
        return dumps((function, args, kwargs))
    except CannotSaveError as refusal:
        if isinstance(refusal.__cause__, StillPending):
            raise refusal.__cause__ from None
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
        dumps_given(arguments, "call", function.__qualname__)
        raise  # the function itself


@durable
def values_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
    """The arguments with values in the place of refs; waits for those suspended. Raises what a ref raises."""
    refs = refs_among(args, kwargs)
    if not refs:
        return args, kwargs
    request = Fetch(refs)
    outcomes = yield request
    for succeeded, value in outcomes:
        if not succeeded:
            raise value
    return with_values(args, kwargs, [value for _, value in outcomes])


def submit(client: Any, request: Request) -> Any:
    """Admit and wait, in one call that may be repeated: returns the ref of the result.

    Made again after a crash of a coroutine that made it, it carries the same id, and the controller admits it once."""
    return client.submit("run", request.header.to_json(), request.state, request.get_if_exists, request.lent)


def send_in(client: Any, id: str, sender: str, number: int, value: Any) -> None:
    """Send a value into a generator. Raises: NoSuchCoroutineError when it has ended."""
    client.ask("send", id, sender, number, SENT, dumps_given(value, "message", id))
