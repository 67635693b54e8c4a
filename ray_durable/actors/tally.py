"""Counts what a host does, per turn and commit, and hands the sums to the metrics.

Counting a checkpoint costs one dict look-up and two additions; the metrics are touched once per commit.
"""

from __future__ import annotations

from ray_durable.actors.outcomes import Ending
from ray_durable.metrics import Metrics

__all__ = ["Tally"]


class Tally:
    """Sums since the host began, and those not yet handed on."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.pending: dict[str, list[int]] = {}
        self.checkpoints = 0
        self.bytes = 0

    def checkpoint(self, function: str, size: int) -> None:
        sums = self.pending.get(function)
        if sums is None:
            sums = self.pending[function] = [0, 0]
        sums[0] += 1
        sums[1] += size

    def committed(self, records: int) -> None:
        """A commit of `records` records is durable."""
        for function, (count, size) in self.pending.items():
            self.metrics.checkpoints.add(count, function)
            self.metrics.checkpoint_bytes.add(size, function)
            self.checkpoints += count
            self.bytes += size
        self.pending.clear()

    def cannot_save(self, function: str) -> None:
        self.metrics.cannot_save.add(1, function)

    def adopted(self, function: str, *, begun: bool) -> None:
        if begun:
            self.metrics.started.add(1, function)

    def ended(self, function: str, ending: Ending) -> None:
        self.metrics.finished.add(1, function, ending)

    def retried(self) -> None:
        self.metrics.retries.add(1, "function")
