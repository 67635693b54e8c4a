"""How a coroutine ended, on its way from a host's log to whoever waits for it.

The result stays pickled from the host that made it to the process that asked: what crosses the controller is bytes,
which turn into the value where Ray unpickles them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.record import Kind
from ray_durable.errors import CannotSaveError, CoroutineCancelledError, CoroutineExitedError

__all__ = ["ENDINGS", "Ending", "Failure", "Finished", "Value", "pack_outcome"]

PACKAGE = str(Path(__file__).parent.parent)

Ending = Literal["completed", "failed", "cancelled"]

ENDINGS: dict[Ending, Kind] = {
    "completed": Kind.COMPLETED,
    "failed": Kind.FAILED,
    "cancelled": Kind.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Finished:
    """`payload` is the pickled result of a completed coroutine, else the pickled exception, whose traceback as text is
    `text`. `items` are streamed values that nobody has read yet, with their indexes; `emitted` counts all."""

    coroutine: str
    epoch: int
    ending: Ending
    payload: bytes
    text: str = ""
    emitted: int = 0
    items: tuple[tuple[int, bytes], ...] = ()
    ended: float = 0.0  # in seconds since the epoch


class Failure(Exception):
    """Carries a coroutine's own exception through Ray: where Ray unpickles it, it becomes that exception."""

    def __init__(self, payload: bytes, text: str) -> None:
        super().__init__(text)
        self.payload, self.text = payload, text

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (self.payload,)

    def __str__(self) -> str:
        return self.text


class Value:
    """A pickled value that becomes itself again when it is unpickled: what an actor method returns to hand it on."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (self.payload,)


def pack_outcome(id: str, function: str, ending: Ending, value: Any) -> tuple[Ending, bytes, str]:
    """The record's kind of ending, its payload, and the text of the traceback. A result that cannot be saved is a
    failure; whatever was thrown to cancel it, a cancelled coroutine's outcome is CoroutineCancelledError, and
    what is no Exception fails as CoroutineExitedError."""
    if ending == "cancelled":
        value = CoroutineCancelledError(id)
    elif ending == "failed" and not isinstance(value, Exception):
        raised, value = value, CoroutineExitedError(id, repr(value))  # as itself it would end whoever asks
        value.__cause__ = raised
    text = "" if ending == "completed" else user_traceback(value)
    try:
        return ending, dumps(cause_of(value)), text
    except CannotSaveError as refusal:
        lacking = refusal.of("return value" if ending == "completed" else "exception", function)
        payload = dumps(lacking)
        lacking.__cause__ = value if isinstance(value, BaseException) else None  # for the text alone
        return "failed", payload, user_traceback(lacking)


def cause_of(value: Any) -> Any:
    """What a failed call's error stands for. Ray makes a class for such an error, of its own and the cause's; made once
    more of that class it would be no subclass of the cause's, and nobody could catch it as such."""
    while isinstance(value, ray.exceptions.RayTaskError) and isinstance(value.cause, BaseException):
        value = value.cause
    return value


def user_traceback(error: BaseException) -> str:
    """The traceback of a coroutine's exception without this package's own frames."""
    trace = traceback.TracebackException.from_exception(error)
    each: traceback.TracebackException | None = trace
    while each is not None:
        kept = [frame for frame in each.stack if not frame.filename.startswith(PACKAGE)]
        each.stack = traceback.StackSummary.from_list(kept)
        each = each.__cause__ or each.__context__
    return "".join(trace.format()).rstrip()
