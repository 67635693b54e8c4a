"""Crashes a durable function at every yield point, in one process and without a cluster, and looks for a difference.

A run to the end tells what the function does. Then, for each yield point, it is run again to there, its state is
pickled, it goes on to the next yield point, and is dropped there without running any of its code, as a host's death
does; what was pickled is loaded, and goes on to the end. Results and yielded values must be those of the first run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray_durable import operations
from ray_durable.compiler import references
from ray_durable.concurrency.ending import wind_up
from ray_durable.concurrency.futures import Wait
from ray_durable.operations import Emit, Pause, Receive, Request, Sleep
from ray_durable.runner import Branch, Coroutine, Outcome, start

Step = tuple[Branch, Any, BaseException | None]  # a branch, and what it is sent or thrown


@dataclass(frozen=True, slots=True)
class Crashed:
    """What `crash_at_every_yield` found, when all runs agreed: the outcome, and how often it was crashed.

    `value` is what the function returned, or the exception that it raised; `yielded` what a generator yielded."""

    value: Any
    yielded: tuple[Any, ...]
    crashes: int


class Differs(AssertionError):
    """A run that crashed at a yield point did not end as the one that did not. Fields: `point`, `expected`, `found`."""

    def __init__(self, point: int, expected: object, found: object) -> None:
        super().__init__(point, expected, found)
        self.point, self.expected, self.found = point, expected, found

    def __str__(self) -> str:
        return (
            f"crashed after yield point {self.point}, it ended otherwise than without a crash:\n"
            f"  without: {self.expected}\n  with:    {self.found}\n"
            "What it did after that yield point was done twice: does it depend on something outside its locals?"
        )


def crash_at_every_yield(
    function: Callable[..., Any],
    *args: Any,
    messages: Mapping[str, Sequence[Any]] | None = None,
    sent: Sequence[Any] = (),
    answer: Callable[[Request], Any] | None = None,
    equal: Callable[[Any, Any], bool] = lambda left, right: bool(left == right),
    **kwargs: Any,
) -> Crashed:
    """Run a durable function, crashed and resumed at each of its yield points in turn, and compare with a plain run.

    `messages`: by topic, what `receive` gets, in order. `sent`: what is sent into a generator at its yields, then None.
    `answer`: gives the answer to requests that need a cluster (`ray.get` of a task). Sleeps end at once. `equal`
    compares outcomes (exceptions: by type and arguments).
    Raises: Differs, naming the yield point; CannotPickleError and the like where the state cannot be saved.

    Example: assert crash_at_every_yield(nightly, urls, answer=lambda request: "page").value == "indexed"
    """
    operations.install()
    script = Script({topic: list(found) for topic, found in (messages or {}).items()}, list(sent), answer)

    def begin() -> Play:
        return Play(Coroutine("crash-test").begin(start(function, args, kwargs)), script)

    whole = begin()
    whole.run()
    for point in range(whole.points):
        doomed = begin()
        doomed.run(point + 1)
        saved = doomed.save()
        doomed.run(1)
        doomed.drop()
        resumed = Play.load(saved, script)
        resumed.run()
        if not same(whole, resumed, equal):
            raise Differs(point + 1, whole.ending(), resumed.ending())
    return Crashed(whole.value, tuple(whole.yielded), whole.points)


@dataclass(frozen=True, slots=True)
class Script:
    """What the world outside answers."""

    messages: dict[str, list[Any]]
    sent: list[Any]
    answer: Callable[[Request], Any] | None


class Play:
    """One run: a coroutine, and how far it is in the script. Time is virtual: it passes when nothing else can go on."""

    def __init__(self, coroutine: Coroutine, script: Script) -> None:
        self.coroutine, self.script = coroutine, script
        self.taken: dict[str, int] = {}  # messages, by topic
        self.yielded: list[Any] = []
        self.points = 0
        self.turns: dict[int, int] = {}  # when each branch had its last turn
        self.ended, self.raised = False, False
        self.value: Any = None

    def run(self, points: int | None = None) -> None:
        """Go on to the end, or over so many yield points."""
        goal = None if points is None else self.points + points
        while not self.ended and (goal is None or self.points < goal):
            found = self.ready() or self.due()
            if found is None:
                raise TypeError(f"nothing can go on: {[branch.request for branch in self.coroutine.branches()]}")
            self.step(*found)

    def ready(self) -> Step | None:
        """The branch that can go on now and has waited longest, with what it gets."""
        branches = sorted(self.coroutine.branches(), key=lambda branch: self.turns.get(branch.number, -1))
        return next((step for branch in branches if (step := self.answered(branch)) is not None), None)

    def answered(self, branch: Branch) -> Step | None:
        """The step of a branch whose request has an answer now; None while it must wait."""
        request = branch.request
        value: Any = None
        match request:
            case None | Pause():
                pass
            case Wait():
                if not request.future.done() and not (branch.task is not None and branch.task.must_cancel):
                    return None
            case Sleep():
                return None
            case Receive():
                messages = self.script.messages.get(request.topic, [])
                place = self.taken.get(request.topic, 0)
                if place >= len(messages):
                    return None
                self.taken[request.topic], value = place + 1, messages[place]
            case Emit():
                place = len(self.yielded)
                value = self.script.sent[place] if place < len(self.script.sent) else None
                self.yielded.append(request.value)
            case _:
                if self.script.answer is None:
                    raise TypeError(f"{request!r} needs an answer: pass answer=…")
                value = self.script.answer(request)
        return branch, value, None

    def due(self) -> Step | None:
        """What comes next in time: the end of a sleep or of a wait for a message, or an alarm, which is rung here."""
        waiting: list[tuple[float, int, Any]] = []
        for branch in self.coroutine.branches():
            until = getattr(branch.request, "until", None)
            if until is not None:
                waiting.append((until, branch.number, branch))
        waiting += [(alarm.when, -1, alarm) for alarm in self.coroutine.alarms]
        if not waiting:
            silent = next((each for each in self.coroutine.branches() if type(each.request) is Receive), None)
            return None if silent is None else (silent, None, TimeoutError("the script has no more messages"))
        found = min(waiting, key=lambda each: each[:2])[2]
        if not isinstance(found, Branch):
            self.inside(found.ring)
            return self.ready() or self.due()
        request: Any = found.request
        if isinstance(request, Sleep):
            return found, request.result, None
        return found, None, TimeoutError(f"no message under {request.topic!r} in the script")

    def inside(self, action: Callable[[], object]) -> None:
        """Do something as the coroutine's host."""
        action()
        self.coroutine.stirred.clear()  # all branches are looked at anyway

    def step(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        self.turns[branch.number] = 1 + max(self.turns.values(), default=0)
        outcome, found = branch.step(value, error)
        self.coroutine.stirred.clear()
        if outcome is Outcome.SUSPENDED:
            self.points += 1
            self.coroutine.seq += 1
            branch.at, branch.derived = self.coroutine.seq, 0
        elif outcome is Outcome.FOREIGN:
            raise TypeError(f"{found!r} is awaited, which only an event loop can answer: replace it in the test")
        elif branch is self.coroutine.main:
            if wind_up(self.coroutine, outcome is Outcome.RETURNED, found) is not None:
                return
            self.ended, self.raised, self.value = True, outcome is Outcome.RAISED, found
        else:
            self.inside(partial(self.coroutine.finish_branch, branch, outcome is Outcome.RETURNED, found))

    def save(self) -> bytes:
        """The state, and how far the script has come, as bytes."""
        return references.dumps((self.coroutine.state(), self.coroutine.seq, self.taken, self.yielded, self.turns))

    @classmethod
    def load(cls, data: bytes, script: Script) -> Play:
        state, seq, taken, yielded, turns = pickle.loads(data)
        play = cls(Coroutine("crash-test", seq=seq).resume(state), script)
        play.coroutine.stirred.clear()
        play.taken, play.yielded, play.turns = taken, yielded, turns
        return play

    def drop(self) -> None:
        """End as a killed process does: nothing of it runs."""
        self.coroutine.let_go()

    def ending(self) -> str:
        how = "raised" if self.raised else "returned"
        return f"yielded {self.yielded!r}, {how} {self.value!r}"


def same(one: Play, other: Play, equal: Callable[[Any, Any], bool]) -> bool:
    if one.raised != other.raised or len(one.yielded) != len(other.yielded):
        return False
    if one.raised:
        alike = type(one.value) is type(other.value) and equal(one.value.args, other.value.args)
    else:
        alike = equal(one.value, other.value)
    return alike and all(map(equal, one.yielded, other.yielded))
