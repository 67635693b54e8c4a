"""What happened in the cluster, newest last: for progress displays, `ray-durable status` and tests. Bounded memory."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ray_durable.actors.backoff import Tries
from ray_durable.clock import Clock
from ray_durable.logs import EventLog

__all__ = ["Events"]

KEPT = 5_000


class Events:
    """Numbered events with wall-clock times, and the takeovers whose coroutines are not all running again yet."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self.log, self.clock = log, clock
        self.kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.number = 0
        self.recovering: dict[str, set[str]] = {}
        self.on_settled: dict[str, Callable[[], None]] = {}
        self.migrations: Counter[str] = Counter()

    def add(self, kind: str, **facts: Any) -> None:
        self.number += 1
        self.kept.append({"number": self.number, "time": self.clock.now(), "kind": kind, **facts})
        self.log.info(kind, **facts)

    def host_failed(self, host: str, node: str, tries: Tries) -> None:
        """A host did not start, or died young. Said on the terminals of drivers too, now and then, if it goes on."""
        again_in_s = round(tries.again_at - self.clock.monotonic(), 2)
        self.add(
            "host_failed", host=host, node=node, failures=tries.failures, again_in_s=again_in_s, error=tries.reason
        )
        if tries.failures > 1 and tries.failures.bit_count() == 1:
            sys.stderr.write(
                f"ray_durable: host {host} has not started, the {tries.failures}th in a row: {tries.reason}\n"
            )
            sys.stderr.flush()

    def since(self, number: int) -> list[dict[str, Any]]:
        """Events with a higher number."""
        return [event for event in self.kept if event["number"] > number]

    def expect(self, source: str, coroutines: list[str], settled: Callable[[], None] | None = None) -> None:
        """`coroutines` of the sealed log `source` are to be adopted elsewhere; `settled` is called when all are."""
        self.recovering[source] = set(coroutines)
        if settled is not None:
            self.on_settled[source] = settled
        if not coroutines:
            self.settle(source)

    def arrived(self, coroutine: str, reason: str = "") -> None:
        """A coroutine runs again, or has ended."""
        if reason:
            self.migrations[reason] += 1
        for source, missing in list(self.recovering.items()):
            missing.discard(coroutine)
            if not missing:
                self.settle(source)

    def settle(self, source: str) -> None:
        del self.recovering[source]
        self.add("recovered", host=source)
        self.on_settled.pop(source, lambda: None)()
