"""Advances one coroutine by one request: plain data in, plain data out.

A coroutine is a main branch and those that run beside it, one per task; a branch is a native generator or coroutine
object and the request that it waits for. The runner sends a value in and says what came of it; who carries
out the request (a host, a test harness) is not its concern. It knows neither Ray nor a store.

A coroutine's state is all its branches, pickled together, so that what they share stays shared.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ray_durable.compiler import durable, twin_of
from ray_durable.compiler.discard import discard
from ray_durable.compiler.flat import flatten, unflatten
from ray_durable.compiler.stopping import stop_of
from ray_durable.operations import PAUSE, Emit, Request, Suspended
from ray_durable.running import entered

__all__ = ["Branch", "Coroutine", "Outcome", "start"]


class Outcome(IntEnum):
    """What one step of a branch has come to."""

    SUSPENDED = 0  # it waits for a request
    RETURNED = 1
    RAISED = 2
    FOREIGN = 3  # it awaits something of asyncio's: whoever drives it hands that on to a real task


class Branch:
    """One line of control within a coroutine."""

    __slots__ = (
        "at",
        "coroutine",
        "derived",
        "driver",
        "is_async",
        "limit",
        "number",
        "parked",
        "request",
        "root",
        "send",
        "task",
        "throw",
    )

    def __init__(self, coroutine: Coroutine, number: int, root: Any, request: Request | None = None) -> None:
        self.coroutine = coroutine
        self.number = number
        self.root = root
        self.request = request
        self.send = root.send
        self.throw = root.throw
        self.is_async = inspect.iscoroutine(root)
        self.at = coroutine.seq  # number of the checkpoint that this branch took last, or began at
        self.derived = 0  # keys handed out since
        self.task: Any = None  # what user code knows it by, once it does: `concurrency.tasks.Task`
        self.driver: Any = None  # a host keeps here what drives an async branch
        self.limit: Any = None  # calls off the timer that a host keeps for its request
        self.parked = False  # a host sets it while the branch waits for its request, checkpoint durable

    def call_off(self) -> None:
        """What it waited for is here, or it waits elsewhere: its time limit need not be kept."""
        limit, self.limit = self.limit, None
        if limit is not None:
            limit()

    def step(self, value: Any = None, error: BaseException | None = None) -> tuple[Outcome, Any]:
        """Send `value` in (or throw `error`) and run to the next request, foreign await, or end."""
        coroutine = self.coroutine
        coroutine.running = self
        if self.task is not None and self.task.must_cancel:
            error = self.task.take_cancel(error)
        entered.identity = coroutine
        try:
            answer = self.send(value) if error is None else self.throw(error)
            if isinstance(answer, Request):
                self.request = answer
                return Outcome.SUSPENDED, answer
            if self.is_async:
                self.request = None
                return Outcome.FOREIGN, answer
            self.request = answer = Emit(answer)
            return Outcome.SUSPENDED, answer
        except StopIteration as stop:
            self.request = None
            return Outcome.RETURNED, stop.value
        except BaseException as raised:  # also SystemExit: it ends the coroutine, not the host that runs others too
            self.request = None
            return Outcome.RAISED, stop_of(raised) or raised
        finally:
            entered.identity = None


class Coroutine:
    """One running instance of a durable function: its branches, and what identifies it to user code."""

    __slots__ = (
        "__weakref__",
        "alarms",
        "calls",
        "epoch",
        "host",
        "id",
        "label",
        "main",
        "name",
        "newest",
        "on_stirred",
        "others",
        "running",
        "seq",
        "stirred",
    )

    def __init__(self, id: str, *, name: str | None = None, epoch: int = 0, seq: int = 0) -> None:
        self.id = id
        self.label = id.encode()
        self.name = name
        self.epoch = epoch
        self.seq = seq
        self.main: Branch
        self.running: Branch
        self.others: dict[int, Branch] = {}
        self.newest = 0  # number of the branch spawned last
        self.stirred: list[Any] = []  # branches and alarms that a host should look at
        self.on_stirred: Callable[[], None] | None = None  # called for those that no step has stirred
        self.alarms: dict[Any, None] = {}  # `concurrency.futures.Alarm`s that have not rung
        self.calls: Any = None  # kept for the layer above: how this coroutine's object references were made
        self.host: Any = None  # the layer above's own record of it

    def begin(self, root: Any) -> Coroutine:
        """Make this a coroutine that has not run yet; `root` is what `start` gave."""
        self.main = Branch(self, 0, root)
        return self

    def state(self, by_key: bool = False) -> tuple[Any, ...]:
        """What a checkpoint holds: live objects, for a pickler that knows durable ones.

        `by_key`: with the code only named, and in the shortest form: this is on every checkpoint's way."""
        main = self.main
        if not (self.newest or self.alarms or main.task):
            if by_key:  # what waits for nothing but its checkpoint goes on at once, as one without a request does
                return (flatten(main.root), None if main.request is PAUSE else main.request)
            return (main.root, main.request)
        others = [
            (each.number, each.root, each.request, each.at, each.derived, each.task) for each in self.others.values()
        ]
        own = (main.at, main.derived, main.task, self.newest, list(self.alarms))
        return (main.root, main.request, others, own)

    def resume(self, state: tuple[Any, ...]) -> Coroutine:
        """Make this the coroutine whose `state` this was, each branch at the request that it waited for."""
        main = self.main = Branch(self, 0, unflatten(state[0]), state[1])
        if len(state) > 2:
            for number, root, request, at, derived, task in state[2]:
                branch = self.others[number] = Branch(self, number, root, request)
                branch.at, branch.derived, branch.task = at, derived, task
            main.at, main.derived, main.task, self.newest, alarms = state[3]
            for branch in self.branches():
                if branch.task is not None:
                    branch.task.branch = branch
            for alarm in alarms:
                self.set_alarm(alarm)
        return self

    def set_alarm(self, alarm: Any) -> None:
        """Keep `alarm` until it rings, and have the host keep its time."""
        alarm.coroutine = self
        self.alarms[alarm] = None
        self.stir(alarm)

    def stir(self, stirred: Any) -> None:
        """Have the host look at a branch, whose future is done or which is to be cancelled, or at a new alarm."""
        self.stirred.append(stirred)
        if self.on_stirred is not None and entered.identity is not self:
            self.on_stirred()

    def branches(self) -> list[Branch]:
        """All branches that are not done, the main one first."""
        return [self.main, *self.others.values()]

    def derive(self, purpose: str = "") -> str:
        """A key for an outside effect: the same again when this stretch is run again after a crash, as long as the
        branch asks in the same order, and whatever its sisters do meanwhile; new after each checkpoint."""
        branch = self.running
        branch.derived += 1
        text = f"{self.id}/{branch.number}/{branch.at}/{branch.derived}/{purpose}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def number_message(self) -> tuple[str, int]:
        """Sender and number of a message: one sender per branch, whose numbers grow, and are the same again when this
        stretch is run again."""
        branch = self.running
        branch.derived += 1
        return f"{self.id}/{branch.number}", (branch.at << 20) + branch.derived

    def spawn(self, root: Any) -> Branch:
        """A new branch, which runs `root` (a suspended or un-started durable object) when this step is over."""
        self.newest += 1
        branch = self.others[self.newest] = Branch(self, self.newest, root)
        branch.at = self.running.at  # not `seq`, which a sister's checkpoint may have raised
        branch.parked = True
        self.stirred.append(branch)
        return branch

    def finish_branch(self, branch: Branch, succeeded: bool, value: Any) -> None:
        """Tell those who wait for a branch other than the main one what it has come to."""
        del self.others[branch.number]
        if branch.task is not None:
            branch.task.finish(succeeded, value)

    def silence(self) -> None:
        """Keep no more time: the coroutine has ended, or lives on elsewhere."""
        for branch in self.others.values():
            branch.call_off()
        for alarm in list(self.alarms):
            alarm.cancel()

    def let_go(self) -> None:
        """Drop this instance without running any of its `finally` blocks: the coroutine lives on elsewhere."""
        self.silence()
        for branch in self.branches():
            branch.call_off()
            discard(branch.root)


@durable
async def emit_all(stream: Any) -> None:
    """The root that drives an async generator: each value it yields is emitted, what is sent in is handed on."""
    sent = None
    while True:
        try:
            value = await stream.asend(sent)
        except StopAsyncIteration:
            return
        sent = await Suspended(Emit(value))


def start(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, back_edges: bool = False
) -> Any:
    """A native object for `Coroutine.begin` that runs `function(*args, **kwargs)`, un-started.

    `back_edges`: its own loops pause at the end of a pass when `back_edges_due()` was called.
    Raises: TypeError when the arguments do not fit, or `function` is not durable."""
    twin = twin_of(function, back_edges=back_edges)
    if twin is None:
        raise TypeError(f"{function!r} is not a durable function: mark it with @ray_durable.remote")
    root = twin(*args, **kwargs)
    if inspect.isasyncgen(root):
        return emit_all(root)
    return root
