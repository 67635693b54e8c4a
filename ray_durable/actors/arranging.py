"""How a host carries out each kind of request, once the checkpoint of the coroutine that waits is durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray_durable.actors.hosted import Emitted, Hosted
from ray_durable.checkpoint.codec import loads
from ray_durable.concurrency.futures import Wait
from ray_durable.operations import Pause, Receive, Request, Sleep
from ray_durable.runner import Branch

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["Arranger", "arranger", "arrangers", "take_message"]

Arranger = Callable[["Engine", Branch, Any], None]
ARRANGERS: dict[type[Request], Arranger] = {}

SENT = "\0sent"  # the topic of values sent into a generator


def arranger(request: type[Request]) -> Callable[[Arranger], Arranger]:
    """Register the function that carries out requests of this type."""

    def register(arrange: Arranger) -> Arranger:
        ARRANGERS[request] = arrange
        return arrange

    return register


def arrangers() -> dict[type[Request], Arranger]:
    """What is registered, by type of request."""
    return ARRANGERS


@arranger(Pause)
def go_on(engine: Engine, branch: Branch, request: Pause) -> None:
    engine.wake(branch, None)


@arranger(Sleep)
def wake_later(engine: Engine, branch: Branch, request: Sleep) -> None:
    branch.limit = engine.at(request.until, lambda: engine.wake_if(branch, request, request.result))


@arranger(Wait)
def wait(engine: Engine, branch: Branch, request: Wait) -> None:
    if request.future.done():
        engine.wake(branch, None)


@arranger(Receive)
def receive(engine: Engine, branch: Branch, request: Receive) -> None:
    if take_message(engine, branch) or request.until is None:
        return
    late = TimeoutError(f"no message under {request.topic!r} came in time")
    branch.limit = engine.at(request.until, lambda: engine.wake_if(branch, request, None, late))


def take_message(engine: Engine, branch: Branch) -> bool:
    """Answer a parked branch with a message that it waits for, if there is one."""
    request, hosted = branch.request, branch.coroutine.host
    if isinstance(request, Emitted):
        return hosted.blocked is branch and resume_stream(engine, hosted)
    if not isinstance(request, Receive) or hosted.mailbox is None:
        return False
    payload = hosted.mailbox.take(request.topic)
    if payload is None:
        return False
    answer(engine, branch, payload)
    return True


def answer(engine: Engine, branch: Branch, payload: bytes | None) -> None:
    """Wake the branch with the value that `payload` holds, or with the reason why it cannot be read."""
    try:
        value, error = None if payload is None else loads(payload), None
    except Exception as unreadable:
        value, error = None, unreadable
    branch.call_off()
    engine.wake(branch, value, error)


@arranger(Emitted)
def stream(engine: Engine, branch: Branch, request: Emitted) -> None:
    """The value is durable: readers may see it, and the generator goes on unless they are too far behind."""
    hosted: Hosted = branch.coroutine.host
    hosted.visible = hosted.marks.emitted
    hosted.notify_readers()
    hosted.blocked = branch
    resume_stream(engine, hosted)


def resume_stream(engine: Engine, hosted: Hosted) -> bool:
    """Send the oldest sent value (or None) into a generator that may go on."""
    branch = hosted.blocked
    if branch is None or not branch.parked or type(branch.request) is not Emitted or hosted.is_backlogged():
        return False
    hosted.blocked = None
    payload = hosted.mailbox.take(SENT) if hosted.mailbox is not None else None
    answer(engine, branch, payload)
    return True
