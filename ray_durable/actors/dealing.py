"""What pickling and unpickling of one coroutine must know besides the objects: whose references they are, and which
results have arrived since the checkpoint. Set around each dump and load, per thread; knows no Ray."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray_durable.checkpoint.codec import loads
from ray_durable.runner import Coroutine

__all__ = ["Outcome", "Result", "dealing", "loading"]

Outcome = tuple[bool, Any]  # (True, value) or (False, exception)


@dataclass(frozen=True, slots=True)
class Result:
    """The payload of an event: what result `index` of the call `key` has come to."""

    key: str
    index: int
    succeeded: bool
    value: Any


class Dealing(threading.local):
    coroutine: Coroutine | None = None
    results: dict[str, dict[int, Outcome]]

    met: dict[bytes, Any]  # references met by the dump under way

    def __init__(self) -> None:
        self.results = {}
        self.met = {}


dealing = Dealing()


@contextmanager
def loading(coroutine: Coroutine, events: Sequence[tuple[int, bytes]]) -> Iterator[None]:
    """References unpickled inside belong to `coroutine`; those whose result is in `events` are not made again."""
    dealing.coroutine = coroutine
    for _, payload in events:
        event = loads(payload)
        if isinstance(event, Result):
            dealing.results.setdefault(event.key, {})[event.index] = (event.succeeded, event.value)
    try:
        yield
    finally:
        dealing.coroutine, dealing.results = None, {}
