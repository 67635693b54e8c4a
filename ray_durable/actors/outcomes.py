"""How a coroutine ended, on its way from a host's log to whoever waits for it.

The result stays pickled from the host that made it to the process that asked: what crosses the controller is bytes,
which turn into the value where Ray unpickles them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ray_durable.checkpoint.codec import loads

__all__ = ["Finished", "Value"]

Ending = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Finished:
    """`payload` is the pickled result of a completed coroutine, else the pickled exception."""

    coroutine: str
    epoch: int
    ending: Ending
    payload: bytes
    emitted: int = 0


class Value:
    """A pickled value that becomes itself again when it is unpickled: what an actor method returns to hand it on."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (self.payload,)
