"""Drives one program twice, native and durable with round trips at its yield points, and compares all that can be seen.

A program takes `log` (a function) and whatever `call` gives it. Everything that happens is one list of events: what was
logged, yielded, sent, thrown, returned or raised (with its context and the lines of its traceback).
"""

from __future__ import annotations

import gc
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ray_durable.compiler import back_edges_due, capture, durable, restore, suspend_at_back_edges, suspends, twin_of
from ray_durable.compiler.discard import set_finalized
from ray_durable.compiler.stopping import stop_of

Events = list[Any]
Reply = Callable[[int, Any], Any]  # (number of the yield, what was yielded) → what to send, or an exception to throw


class Step:
    """The innermost awaitable: gives its value to whoever drives the coroutine, and returns what is sent."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @durable
    def __await__(self):
        return (yield self.value)


class Driver:
    """What a plain program's `pause` talks to when it runs natively."""

    ask: Callable[[Any], Any]


def pause(value: Any = None) -> Any:
    """A call that suspends in a twin, and asks the driver otherwise."""
    return Driver.ask(value)


@durable
def pause_twin(value: Any = None):
    return (yield value)


suspends(pause, pause_twin)


EDGE = "an edge"  # what a loop suspends with, when its back-edges are due


class Close:
    """A reply: the driver closes what has suspended, instead of answering."""

    def __repr__(self) -> str:
        return "Close()"


def describe(error: BaseException) -> tuple[Any, ...]:
    chain = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 6:
        if isinstance(seen, NameError) and sys.version_info < (3, 12):  # a comprehension is a function of its own there
            return ("NameError",)
        # a plain function in the place of which a generator ran says so, where that is a RuntimeError natively too
        text = re.sub("^(async generator|coroutine) raised StopI", "generator raised StopI", str(seen))
        chain.append((type(seen).__name__, text, seen.__suppress_context__, repr(seen.__cause__)))
        seen = seen.__context__
    return tuple(chain)


def lines_of(error: BaseException, filename: str) -> list[tuple[str, int | None]]:
    entries = [(f.name, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename == filename]
    return [entry for entry in entries if entry[0] not in ("<listcomp>", "<setcomp>", "<dictcomp>")]  # inlined


SUSPENDABLE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
STEPS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")


def forget(suspended: Any) -> None:
    """Let go of the originals of one chain, without running them; what they share with the new ones stays."""
    while suspended is not None:
        if type(suspended).__name__ in STEPS:
            suspended = next((each for each in gc.get_referents(suspended) if is_part(each)), None)
        elif type(suspended) in SUSPENDABLE:
            set_finalized(suspended)
            names = ("gi_yieldfrom", "cr_await", "ag_await")
            suspended = next((getattr(suspended, name) for name in names if hasattr(suspended, name)), None)
        else:
            suspended = None


def without_traceback(value: Any) -> None:
    """Tracebacks would keep the frames of the originals alive, and what their loops hold; a pickle has none."""
    while isinstance(value, tuple) and value:
        value = value[-1]  # a pending outcome
    seen: set[int] = set()
    stack = [value]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            stack += [error.__context__, error.__cause__, *getattr(error, "exceptions", ())]


def is_part(each: Any) -> bool:
    return type(each) in SUSPENDABLE or type(each).__name__ in STEPS


@dataclass
class Run:
    """One run of a program."""

    function: Callable[..., Any]
    reply: Reply
    restores: Callable[[int], bool] = lambda count: False
    round_trip: Callable[[Any], Any] | None = None
    events: Events = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    yields: int = 0
    edges: int = 0
    over: bool = False

    def log(self, *what: Any) -> Any:
        if self.over:  # what dies with the last exception's traceback
            return what[-1] if what else None
        self.events.append(("log", *(re.sub(" at 0x[0-9a-f]+", "", repr(each)) for each in what)))
        return what[-1] if what else None

    def respond(self, value: Any) -> Any:
        self.yields += 1
        self.events.append(("yield", repr(value)))
        reply = self.reply(self.yields, value)
        self.events.append(("reply", repr(reply)))
        return reply

    def renewed(self, suspended: Any) -> Any:
        if not self.restores(self.yields + self.edges):
            return suspended
        if self.round_trip is not None:
            return self.round_trip(suspended)
        frame = capture(suspended)
        for each in frame.chain():
            for value in [*each.values.values(), *each.temporaries.values()]:
                without_traceback(value)
        new = restore(frame)
        forget(suspended)
        return new

    def finish(self, drive: Callable[[], Any]) -> Events:
        try:
            self.events.append(("return", repr(drive())))
        except BaseException as raised:
            error = stop_of(raised) or raised if kind_of(self.function) == "plain" else raised
            filename = getattr(self.function, "__code__", self.function).co_filename
            # a twin that is closed is left from the outside in
            lines = (
                None if isinstance(error, GeneratorExit) or "raised StopI" in str(error) else lines_of(error, filename)
            )
            self.events.append(("raise", describe(error), lines))
        self.over = True
        return self.events

    def answer_pauses(self) -> None:
        """Let `pause`, called natively, ask this run."""

        def ask(value: Any) -> Any:
            reply = self.respond(value)
            if isinstance(reply, BaseException):
                raise reply
            return reply

        Driver.ask = staticmethod(ask)

    def at_edge(self, made: Any) -> Any:
        self.edges += 1
        made = self.renewed(made)
        back_edges_due()
        return made

    def generator(self, make: Callable[..., Any]) -> Events:
        def drive() -> Any:
            made = self.renewed(make(self.log))
            step = lambda: made.send(None)
            while True:
                try:
                    value = step()
                except StopIteration as stop:
                    return stop.value
                if value == EDGE:
                    made = self.at_edge(made)
                    step = lambda: made.send(None)
                    continue
                reply = self.respond(value)
                made = self.renewed(made)
                if isinstance(reply, Close):
                    return "closed", made.close()
                step = (lambda: made.throw(reply)) if isinstance(reply, BaseException) else (lambda: made.send(reply))

        return self.finish(drive)

    def async_generator(self, make: Callable[..., Any]) -> Events:
        def drive() -> Any:
            made = self.renewed(make(self.log))
            step, first = made.asend(None), None
            while True:
                stop: Any = None
                try:
                    value = step.throw(first) if isinstance(first, BaseException) else step.send(first)
                except StopAsyncIteration:
                    return "ended"
                except StopIteration as stopped:
                    stop = stopped
                if stop is None:
                    first = self.respond(("inner", value))
                    continue
                reply = self.respond(stop.value)
                made = self.renewed(made)
                if isinstance(reply, Close):
                    step, reply = made.aclose(), None
                else:
                    step = made.athrow(reply) if isinstance(reply, BaseException) else made.asend(reply)
                first = None

        return self.finish(drive)


def kind_of(function: Any) -> str:
    code = function.__code__
    if code.co_flags & 0x80:
        return "coroutine"
    if code.co_flags & 0x200:
        return "async_generator"
    return "generator" if code.co_flags & 0x20 else "plain"


MADE: dict[int, tuple[Any, Any]] = {}


def durable_of(function: Any) -> Any:
    """The durable form of a program, made once."""
    return (
        MADE.setdefault(id(function), (function, durable(function)))[1]
        if id(function) not in MADE
        else MADE[id(function)][1]
    )


def run(
    function: Any,
    reply: Reply,
    make_durable: bool,
    restores: Callable[[int], bool] = lambda n: False,
    back_edges: bool = False,
    **more: Any,
) -> Run:
    """One run; `make_durable` says whether of the durable function, `back_edges` whether its loops suspend, too."""
    sys.set_asyncgen_hooks(finalizer=lambda generator: None)  # as under an event loop, nothing is closed on the spot
    kind = kind_of(function)
    subject = durable_of(function) if make_durable else function
    found = Run(function, reply, restores, **more)
    if not make_durable:
        found.answer_pauses()
    if kind == "plain":
        if not make_durable:
            found.finish(lambda: found.function(found.log))
        else:
            twin = twin_of(subject, back_edges=back_edges)
            assert twin is not None
            if back_edges:
                suspend_at_back_edges(lambda: iter((EDGE,)))
                back_edges_due()
            found.generator(twin)
    elif kind == "async_generator":
        found.async_generator(subject)
    else:
        found.generator(subject)
    return found


def same(function: Any, reply: Reply) -> int:
    """Assert that native and durable runs agree: without a restore, with one at every yield, and at each alone."""
    native = run(function, reply, False)
    fresh = run(function, reply, True)
    seen = cut_short(fresh.events, native.events)
    assert seen == native.events, difference("fresh", native.events, seen)
    everywhere = run(function, reply, True, lambda n: True)
    expected = without_lines(native.events)
    assert without_lines(everywhere.events) == expected, difference(
        "restored", expected, without_lines(everywhere.events)
    )
    for single in range(min(native.yields, 12) + 1):
        once = run(function, reply, True, lambda n: n == single)
        assert without_lines(once.events) == expected, difference(
            f"restored at {single}", expected, without_lines(once.events)
        )
    return native.yields


def cut_short(events: Events, native: Events) -> Events:
    """Events of a durable run, whose tracebacks may go on where CPython 3.11 has lost the inner frames: those of what
    is thrown through a `yield from` or `await` in a handler."""
    if sys.version_info >= (3, 12):
        return events
    cut = [
        (*one[:2], one[2][: len(other[2])]) if one[0] == other[0] == "raise" and other[2] else one
        for one, other in zip(events, native)
    ]
    return [*cut, *events[len(cut) :]]


def without_lines(events: Events) -> Events:
    return [event[:2] if event[0] == "raise" else event for event in events]


def difference(what: str, expected: Events, got: Events) -> str:
    for index, (one, other) in enumerate(zip(expected, got)):
        if one != other:
            before = expected[max(0, index - 3) : index]
            return f"{what}: event {index}\n  native  {one}\n  durable {other}\n  before  {before}"
    return f"{what}: {len(expected)} events, not {len(got)}: {expected[len(got) :] or got[len(expected) :]}"


def scripts(yields: int) -> Iterator[Reply]:
    """Ways to answer: values, nothing, and an exception at each yield."""
    yield lambda n, value: None
    yield lambda n, value: n
    for at in range(1, min(yields, 12) + 1):
        for error in (ValueError, KeyError, GeneratorExit, RuntimeError):
            yield lambda n, value, at=at, error=error: error(f"thrown {n}") if n == at else n
