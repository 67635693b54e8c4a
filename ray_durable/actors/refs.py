"""An ObjectRef in a frame: its value, or the call that makes it.

A ref dies with its owner, so a checkpoint never holds a coroutine's own as it is. A host notes every Ray call that a
coroutine makes; when a ref is pickled with the frames it becomes the value, if that is known, else the call. A resumed
coroutine has real refs again: known values are put into the object store of the new owner, pending calls are made
again, and those of others borrowed again (`borrowing`).

`ray.get`, `ray.wait` and `await ref` suspend the coroutine. While it waits for many refs, each result that arrives is
logged as an event, so that a crash repeats only the calls that were still pending.
"""

from __future__ import annotations

import asyncio
import copyreg
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from ray_durable.actors import cluster, dropped
from ray_durable.actors.arranging import arranger
from ray_durable.actors.borrowing import Borrowed, lend, own_calls_may_be_lent
from ray_durable.actors.dealing import Outcome, Result, dealing
from ray_durable.actors.hosted import Hosted
from ray_durable.actors.remote_functions import reduce_remote_function
from ray_durable.checkpoint.codec import dumps, reduces
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import awaits, durable, suspends
from ray_durable.errors import RefLostError
from ray_durable.operations import Request, Suspended
from ray_durable.runner import Branch, Coroutine
from ray_durable.running import entered, is_inside
from ray_durable.steps import steps_of

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["Call", "Fetch", "WaitFor", "install", "note_call", "reduce_ref"]


# ---------------------------------------------------------------- how refs are made


@dataclass(slots=True, eq=False)
class Call:
    """One Ray call: what to do again if its results are not known. `results` by index, once they are."""

    key: str
    kind: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    results: dict[int, Outcome] = field(default_factory=dict)
    made: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return again, (self.key, self.kind, self.target, self.args, self.kwargs, self.options, self.results)

    def make(self) -> list[Any]:
        """Its refs, in this process; the call is made at most once here."""
        if self.made is None:
            self.made = self.call()
        return self.made if isinstance(self.made, list) else [self.made]

    def call(self) -> Any:
        if self.kind == "borrowed":
            return borrow(self.target)
        if self.kind == "ask":
            from ray_durable.actors.client import Client

            namespace, method = self.target
            with_options = {**self.kwargs, **self.options}
            return Client.find(namespace, f"asking the controller ({method})").submit(
                method, *self.args, **with_options
            )
        method = self.target._remote if self.kind == "task" else getattr(self.target[0], self.target[1])._remote
        return method(args=self.args, kwargs=self.kwargs, **self.options)


def note_call(
    made: Any, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
) -> None:
    """Remember how the refs in `made` came to be, if a coroutine of this host has just made them."""
    coroutine = entered.identity
    if not isinstance(coroutine, Coroutine):
        return
    refs = made if isinstance(made, list) else [made]
    if not all(type(ref) is ray.ObjectRef for ref in refs):
        return  # a streaming generator, say: it cannot be captured, and says so
    where = (target._actor, target._method_name) if kind == "method" else target
    register(coroutine, Call(refs[0].hex(), kind, where, args, kwargs, options, made=made), refs)


def register(coroutine: Coroutine, call: Call, refs: Sequence[Any]) -> None:
    if coroutine.calls is None:
        coroutine.calls = {}
    for index, ref in enumerate(refs):
        coroutine.calls[ref.binary()] = (call, index)


def reduce_ref(ref: Any) -> tuple[Any, ...]:
    """The pickled form of a ref in a frame."""
    coroutine = dealing.coroutine
    known = coroutine.calls.get(ref.binary()) if coroutine is not None and coroutine.calls is not None else None
    if known is None:
        known = (others_call(ref), 0)
        if coroutine is not None:
            coroutine.calls = {**(coroutine.calls or {}), ref.binary(): known}
    dealing.met[ref.binary()] = known
    call, index = known
    if index in call.results:
        return restore_value, (call.results[index],)
    return restore_ref, (call, index)


def others_call(ref: Any) -> Call:
    """What stands for a ref of which nothing is known: its value, or a call elsewhere whose result is taken in when it
    is there. Raises: StillPending."""
    if cluster.is_here(ref):
        return Call(ref.hex(), "value", None, (), {}, {}, {0: outcome_of(ref)})
    call = Call(ref.hex(), "borrowed", lend(ref), (), {}, {}, made=ref)
    take_in(call, ref)
    return call


def take_in(call: Call, ref: Any) -> None:
    """Have the result of another's call saved as soon as it is here."""

    def arrived(value: Any, error: BaseException | None) -> None:
        call.results[0] = (True, value) if error is None else (False, savable(error))

    cluster.on_completed(ref, arrived)


def outcome_of(ref: Any) -> Outcome:
    """That of a ref whose value is here."""
    try:
        return True, cluster.value_of(ref)
    except Exception as error:
        return False, savable(error)


def borrow(lent: Borrowed) -> Any:
    """A ref of another's call, or one that says that it is lost."""
    try:
        return lent.borrow()
    except RefLostError as lost:
        return fail.remote(lost)


def again(key: str, kind: str, target: Any, args: Any, kwargs: Any, options: Any, results: dict[int, Outcome]) -> Call:
    """A call as it was, with what events say of it since."""
    return Call(key, kind, target, args, kwargs, options, {**results, **dealing.results.get(key, {})})


def restore_ref(call: Call, index: int) -> Any:
    if index in call.results:
        return restore_value(call.results[index], call, index)
    refs = call.make()
    coroutine = dealing.coroutine
    if coroutine is not None:
        register(coroutine, call, refs)
        if call.kind == "borrowed":
            take_in(call, refs[index])
    return refs[index]


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
def fail(error: BaseException) -> None:
    """Makes a ref that raises `error`: how a failed call comes back after a resume."""
    raise error


def savable(error: BaseException) -> BaseException:
    """A failed call's error, which is of a class that Ray makes for it alone: have it pickled as what it is made of."""
    if isinstance(error, ray.exceptions.RayTaskError) and type(error) is not ray.exceptions.RayTaskError:
        type(error).__reduce_ex__ = reduce_task_error  # type: ignore[assignment]
    return error


def reduce_task_error(error: Any, protocol: int) -> tuple[Any, ...]:
    return task_error, (str(error), error.cause)


def task_error(text: str, cause: Exception) -> BaseException:
    return savable(ray.exceptions.RayTaskError("", text, cause).as_instanceof_cause())


def restore_value(outcome: Outcome, call: Call | None = None, index: int = 0) -> Any:
    """A ref that is `outcome`, owned by this process."""
    succeeded, value = outcome
    ref = ray.put(value) if succeeded else fail.remote(getattr(value, "cause", None) or value)
    coroutine = dealing.coroutine
    if coroutine is not None:
        if coroutine.calls is None:
            coroutine.calls = {}
        coroutine.calls[ref.binary()] = (Call(ref.hex(), "value", None, (), {}, {}, {0: outcome}), 0)
    return ref


# ---------------------------------------------------------------- waiting for refs


class Fetch(Request):
    """Go on with the outcomes of all `refs`, or with GetTimeoutError at `until`."""

    __slots__ = ("refs", "until")

    def __init__(self, refs: list[Any], until: float | None = None) -> None:
        self.refs = refs
        self.until = until


class WaitFor(Request):
    """Go on with the indexes of those refs that are ready, when `count` are or at `until`."""

    __slots__ = ("refs", "count", "until")  # noqa: RUF023 - the order of the arguments

    def __init__(self, refs: list[Any], count: int, until: float | None = None) -> None:
        self.refs = refs
        self.count = count
        self.until = until


def deadline(timeout: float | None) -> float | None:
    return None if timeout is None else SYSTEM_CLOCK.now() + timeout


@durable
def suspended_get(object_refs: Any, *, timeout: float | None = None, **options: Any) -> Generator[Request, Any, Any]:
    single = isinstance(object_refs, ray.ObjectRef)
    refs = [object_refs] if single else object_refs
    if not is_inside() or not isinstance(refs, list) or not all(isinstance(ref, ray.ObjectRef) for ref in refs):
        return ray.get(object_refs, timeout=timeout, **options)
    if not refs:
        return []
    request = Fetch(list(refs), deadline(timeout))
    del object_refs, refs
    outcomes = yield request
    for succeeded, value in outcomes:
        if not succeeded:
            raise value
    return outcomes[0][1] if single else [value for _, value in outcomes]


@durable
def suspended_wait(
    ray_waitables: Any, *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> Generator[Request, Any, Any]:
    refs = list(ray_waitables)
    if not is_inside() or not refs or len(set(refs)) < len(refs) or not 0 < num_returns <= len(refs):
        return ray.wait(ray_waitables, num_returns=num_returns, timeout=timeout, fetch_local=fetch_local)
    ready = yield WaitFor(refs, num_returns, deadline(timeout))
    chosen = sorted(ready)[:num_returns]
    return [refs[index] for index in chosen], [ref for index, ref in enumerate(refs) if index not in chosen]


@durable
async def awaited(ref: Any) -> Any:
    """What `await ref` becomes in durable code."""
    if not is_inside():
        return await asyncio.wrap_future(ref.future())
    request = Fetch([ref])
    del ref
    outcomes = await Suspended(request)
    if not outcomes[0][0]:
        raise outcomes[0][1]
    return outcomes[0][1]


class Gathering:
    """The outcomes of one request's refs as they arrive, in any thread; told to the engine's loop."""

    def __init__(self, engine: Engine, branch: Branch, request: Fetch | WaitFor) -> None:
        self.engine, self.branch, self.request = engine, branch, request
        self.outcomes: dict[int, Outcome] = {}

    def begin(self) -> None:
        loop = self.engine.loop
        for index, ref in enumerate(self.request.refs):
            cluster.on_completed(ref, self.teller(loop, index))

    def teller(self, loop: asyncio.AbstractEventLoop, index: int) -> Callable[[Any, BaseException | None], None]:
        def tell(value: Any, error: BaseException | None) -> None:
            outcome = (True, value) if error is None else (False, savable(error))
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.arrived, index, outcome)

        return tell

    def arrived(self, index: int, outcome: Outcome) -> None:
        branch, request = self.branch, self.request
        if self.engine.stopped or branch.request is not request or not branch.parked:
            return
        self.outcomes[index] = outcome
        self.note(index, outcome)
        if isinstance(request, WaitFor):
            if len(self.outcomes) < request.count:
                return
            answer: list[Any] = list(self.outcomes)
        elif len(self.outcomes) == len(request.refs):
            answer = [self.outcomes[i] for i in range(len(request.refs))]
        elif outcome[0]:
            return
        else:
            answer = [outcome]
        branch.call_off()
        self.engine.wake(branch, answer)

    def ready(self) -> list[int]:
        """Indexes of the refs that are ready by now, whether or not their values have arrived here."""
        refs = self.request.refs
        there = set(ray.wait(refs, num_returns=len(refs), timeout=0)[0])
        return [index for index, ref in enumerate(refs) if index in self.outcomes or ref in there]

    def note(self, index: int, outcome: Outcome) -> None:
        """Keep a result that arrived before the others, in memory and in the log."""
        coroutine = self.branch.coroutine
        ref = self.request.refs[index]
        known = (coroutine.calls or {}).get(ref.binary())
        if known is None:
            return
        call, number = known
        call.results[number] = outcome
        if call.kind != "value" and len(self.request.refs) > 1:  # a single one's is in the next checkpoint
            hosted: Hosted = coroutine.host
            self.engine.log_event(hosted, dumps(Result(call.key, number, *outcome)))


@arranger(Fetch)
def fetch(engine: Engine, branch: Branch, request: Fetch) -> None:
    gathering = Gathering(engine, branch, request)
    gathering.begin()

    def overdue() -> None:
        if branch.request is request and len(gathering.ready()) < len(request.refs):
            late = ray.exceptions.GetTimeoutError("Get timed out: some object(s) not ready.")
            engine.wake_if(branch, request, [(False, late)])

    if request.until is not None:
        branch.limit = engine.at(request.until, overdue)


@arranger(WaitFor)
def wait_for(engine: Engine, branch: Branch, request: WaitFor) -> None:
    gathering = Gathering(engine, branch, request)
    gathering.begin()

    def overdue() -> None:
        if branch.request is request:
            engine.wake_if(branch, request, gathering.ready())

    if request.until is not None:
        branch.limit = engine.at(request.until, overdue)


@durable
def call_task(function: Any, *args: Any, **kwargs: Any) -> Any:
    """How `step` runs a Ray task."""
    ref = function.remote(*args, **kwargs)
    return ray.get(ref)


# ---------------------------------------------------------------- set-up


def refuse_stream(stream: Any) -> Any:
    raise TypeError(
        "the stream of a Ray task cannot leave the process that made the call: have the task return a list, or make it "
        "a durable generator, whose stream an async durable function reads by `async for`"
    )


def install() -> None:
    """Make durable code suspend on refs, and Ray's functions part of what it may hold, in any process that runs it."""
    for function in (ray.get, ray.wait, ray.put):  # Ray wraps these: pickled by name, the wrapper must be found
        function.__module__ = "ray"
    dropped.install()
    suspends(ray.get, suspended_get)
    suspends(ray.wait, suspended_wait)
    steps_of(type(fail), call_task)
    awaits(ray.ObjectRef, awaited)
    copyreg.pickle(type(fail), reduce_remote_function)
    copyreg.pickle(ray.ObjectRefGenerator, refuse_stream)


def install_in_host() -> None:
    """Besides, note the calls that coroutines make, and make them again elsewhere when this process has died."""
    install()
    cluster.watch_calls(note_call)
    own_calls_may_be_lent(False)


reduces(ray.ObjectRef, reduce_ref)
