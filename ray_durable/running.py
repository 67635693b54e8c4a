"""Which coroutine runs on this thread: what operations ask before they suspend instead of block.

Outside every host and harness there is none, and durable code then simply runs: a sleep sleeps, a `ray.get` blocks.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["Identity", "current", "entered", "is_inside"]


class Identity(Protocol):
    """What user code may know of the coroutine that it runs in."""

    id: str
    name: str | None
    epoch: int
    seq: int

    def derive(self, purpose: str) -> str: ...

    def number_message(self) -> tuple[str, int]: ...


class Running(threading.local):
    """The coroutine that the runner is advancing on this thread; set around each `send` and `throw`."""

    identity: Identity | None = None


entered = Running()


def is_inside() -> bool:
    """Whether the calling code runs in a coroutine that a runner advances."""
    return entered.identity is not None


def current() -> Identity:
    """The coroutine that calls this: its `id`, `name`, `epoch` (a fencing token), `seq`, and `derive(purpose)`,
    a key that stays the same when this stretch of code is run again after a crash.

    Raises: RuntimeError outside a durable coroutine.
    Example: charge(order, idempotency_key=ray_durable.current().derive("charge"))"""
    identity = entered.identity
    if identity is None:
        raise RuntimeError("ray_durable.current() works inside a durable coroutine that was started with .remote()")
    return identity
