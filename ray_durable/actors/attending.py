"""What follows for the branches of a coroutine when one of them, or an alarm, has stirred others.

A branch is stirred when it was started, when the future that it waits for is done, or when it is to be cancelled.
What is looked at is the state itself, so that a branch stirred twice, or too early, does no harm.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ray_durable.concurrency.futures import Wait
from ray_durable.runner import Branch, Coroutine

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["attend", "attend_always", "is_cancelled"]


def attend_always(engine: Engine, coroutine: Coroutine) -> None:
    """From now on, look at what is stirred outside of steps (by an alarm, say) at once."""
    coroutine.on_stirred = partial(attend, engine, coroutine)
    attend(engine, coroutine)


def attend(engine: Engine, coroutine: Coroutine) -> None:
    """Wake the branches that can go on, and keep the time of new alarms."""
    stirred, coroutine.stirred = coroutine.stirred, []
    if coroutine.host is None or engine.stopped:
        return
    for each in stirred:
        if type(each) is Branch:
            rouse(engine, each)
        elif each in coroutine.alarms:
            each.stop = engine.at(each.when, partial(ring, engine, coroutine, each))


def rouse(engine: Engine, branch: Branch) -> None:
    cancelled = is_cancelled(branch)
    if branch.parked:
        if branch.coroutine.host.leaving is not None:
            return  # it is held; whoever has it next looks again
        request = branch.request
        if cancelled or request is None or (type(request) is Wait and request.future.done()):
            branch.call_off()
            engine.wake(branch, None)
    elif cancelled and branch.driver is not None and branch.driver.foreign:
        branch.driver.interrupt(branch.task.message)


def is_cancelled(branch: Branch) -> bool:
    """Whether CancelledError is to be thrown into the branch at its next step."""
    return branch.task is not None and branch.task.must_cancel


def ring(engine: Engine, coroutine: Coroutine, alarm: Any) -> None:
    if coroutine.host is not None and not engine.stopped:
        alarm.ring()
