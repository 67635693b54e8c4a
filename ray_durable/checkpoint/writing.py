"""Making one object of a log durable, whatever the store does: try, read back, decide, try again for a while.

Shared by segments, packs, parts and bases: each is created once, under the log of one writer, and carries that writer's
nonce, by which it knows its own object again when a reply was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from ray_durable.checkpoint.fencing import Fenced, Written, after_create
from ray_durable.checkpoint.footer import FOOTER_BYTES, Footer, read_footer
from ray_durable.checkpoint.stores import Store
from ray_durable.clock import Clock
from ray_durable.errors import AlreadyExists, DamagedError, FencedError, LogStoppedError, NotFoundError, StoreError
from ray_durable.metrics import Metrics

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 1.0
WRITER_BYTES_MAX = 800
SIDE_BY_SIDE, SIDE_BY_SIDE_FROM = 4, 3
T = TypeVar("T")


@dataclass(slots=True)
class ObjectWriter:
    """Creates objects for `writer`, who is known by `nonce`."""

    store: Store
    writer: str
    nonce: bytes
    clock: Clock
    metrics: Metrics
    retry_for_s: float
    stopped: Callable[[], Exception | None]
    """Why no more should be tried; None while the log is well."""
    trouble: StoreError | None = field(default=None)
    """Why the store is being tried again just now; None while all is well."""

    def create(self, name: str, data: bytes, number: int, nonce: bytes = b"") -> None:
        """Return when the object is durable and ours, which it is known to be by `nonce`, by default the writer's.
        Raises: FencedError, LogStoppedError."""
        began = self.clock.monotonic()
        pause_s = FIRST_PAUSE_S
        while True:
            failure = self.try_create(name, data)
            found, damaged = (None, False) if failure is None else self.read_back(name)
            match after_create(failure is not None, found, damaged, nonce or self.nonce):
                case Written():
                    self.trouble = None
                    return
                case Fenced(by):
                    raise FencedError(self.writer, by, number)
            if not isinstance(failure, AlreadyExists):  # "exists" and then not found is no failure: just try again
                self.trouble = failure
            if self.clock.monotonic() - began > self.retry_for_s:
                raise LogStoppedError(self.writer, f"its store failed for {self.retry_for_s:g} s: {failure}")
            self.metrics.retries.add(1, "store")
            self.clock.sleep(pause_s * (0.5 + self.clock.random()))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if (error := self.stopped()) is not None:
                raise LogStoppedError(self.writer, f"another of its commits failed: {error}")

    def create_all(self, encode: Callable[[T], tuple[str, bytes]], several: Sequence[T], number: int) -> None:
        """Return when all of these are durable and ours, in whatever order. Raises: FencedError, LogStoppedError."""

        def write(each: T) -> None:
            self.create(*encode(each), number)

        if len(several) < SIDE_BY_SIDE_FROM:
            for each in several:
                write(each)
            return
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="packs") as pool:
            for _ in pool.map(write, several):
                pass

    def try_create(self, name: str, data: bytes) -> StoreError | None:
        try:
            self.store.create(name, data)
        except StoreError as error:
            return error
        return None

    def read_back(self, name: str) -> tuple[Footer | None, bool]:
        """What stands at a name after a create failed: its footer, or whether it cannot be read as one. A store that
        does not answer shows nothing, and the create is tried again."""
        try:
            return self.look(name)
        except StoreError:
            return None, False

    def look(self, name: str) -> tuple[Footer | None, bool]:
        """What stands at a name: its footer, or whether it cannot be read as one. Raises: StoreError when that cannot
        be known."""
        try:
            # The footer proper has a fixed length; the writer's name lies before it.
            return read_footer(name, self.store.read(name, -(FOOTER_BYTES + WRITER_BYTES_MAX))), False
        except NotFoundError:
            return None, False
        except DamagedError:
            return None, True
