"""How a coroutine leaves its host: all its branches are held at durable yield points, then it goes as a whole.

While it is leaving, a branch that reaches a yield point is not answered but held, so that two branches which are never
still at the same time cannot keep it here for ever. Invariant: once `moved` has been gathered, nothing of it runs here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_durable.actors.hosted import Hosted, Leaving
from ray_durable.checkpoint.record import Kind
from ray_durable.runner import Branch

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["release", "stay", "try_leave"]


def release(engine: Engine, id: str, leaving: Leaving) -> None:
    """Let a coroutine go at its next yield point; `leaving.done` gets its transfer, or None if it is not here (any
    more) or cannot go, once `moved` is durable."""
    hosted = engine.coroutines.get(id)
    if hosted is None or hosted.coroutine.host is None or hosted.leaving is not None or leaving.epoch <= hosted.epoch:
        leaving.done(None)
        return
    hosted.leaving = leaving
    try_leave(engine, hosted)


def awaits_foreign(branch: Branch) -> bool:
    """It has not begun, or awaits something foreign, which is evaluated again after a resume."""
    return branch.is_async and branch.request is None


def try_leave(engine: Engine, hosted: Hosted) -> bool:
    """Part with the coroutine if all its branches stand at yield points. Whether it went."""
    leaving, coroutine = hosted.leaving, hosted.coroutine
    assert leaving is not None
    branches = coroutine.branches()
    if hosted.arriving:
        return False  # a message is on its way into the log
    if not all(branch.parked or awaits_foreign(branch) for branch in branches):
        return False
    try:
        state = hosted.state(engine.log.chunks)
    except Exception as refusal:  # its last checkpoint stands; in a foreign await, say, it holds an open connection
        if all(branch.parked for branch in branches):
            engine.on_failure(refusal)
            stay(engine, hosted)
        return False
    coroutine.seq += 1
    transfer = hosted.transfer(leaving.epoch, leaving.to, state)
    coroutine.host = None
    for branch in branches:
        if branch.driver is not None:
            branch.driver.stop()
    coroutine.let_go()
    engine.depart(hosted)

    def gone() -> None:
        leaving.done(transfer)
        hosted.notify_readers()

    engine.log.append(
        hosted.header.id, leaving.epoch, transfer.seq, Kind.MOVED, transfer.encode(), gone, hosted.marks.pack()
    )
    engine.schedule()
    return True


def stay(engine: Engine, hosted: Hosted) -> None:
    """It is not to leave after all: what was held goes on."""
    leaving, hosted.leaving = hosted.leaving, None
    if leaving is not None:
        leaving.done(None)
    for branch in hosted.coroutine.branches():
        if branch.parked and hosted.coroutine.host is not None:
            engine.arrange(branch)
